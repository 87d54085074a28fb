"""The errors of a reference network, which corruption errors are divided by, as Hendrycks and Dietterich divide theirs.

The recipe ``cnn``, seed 0, on all 10,000 images of mnist/test, corrupted by hardy with seed 0, at the defaults:

    hardy train cnn --out runs/cnn
    python benchmarks/corruption_accuracy.py runs/cnn
"""

from __future__ import annotations

REFERENCE = "cnn"

CLEAN = 0.0138
"""The share of mistakes on the images as they are."""

ERRORS = {
    "shot_noise": 0.0195,
    "impulse_noise": 0.0420,
    "glass_blur": 0.0477,
    "motion_blur": 0.0550,
    "shear": 0.0349,
    "scale": 0.0854,
    "rotate": 0.0851,
    "brightness": 0.2908,
    "translate": 0.5241,
    "stripe": 0.0972,
    "fog": 0.6325,
    "spatter": 0.0240,
    "dotted_line": 0.0330,
    "zigzag": 0.0920,
    "canny_edges": 0.2426,
}
"""The share of mistakes under each corruption of MNIST-C."""
