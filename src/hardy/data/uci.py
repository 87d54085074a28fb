"""UCI digits, which scikit-learn ships, in the shape of MNIST's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.errors import explain_missing_packages
from hardy.synthetic.glyphs import BOX, Glyphs, centered_by_mass


def uci_digits() -> Glyphs:
    """The 1,797 test digits of the UCI set that scikit-learn ships, of 8x8 pixels from 0 to 16, in MNIST's shape.

    The 8x8 field, which a UCI digit fills, becomes the 20x20 box, by bilinear interpolation between pixel centers in
    integers, so that the result is the same on every machine. Values become 0 to 255, and the box is placed so that
    the center of mass is in the middle.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    with explain_missing_packages():
        from sklearn.datasets import load_digits
    pixels, target = load_digits(return_X_y=True)
    small = np.asarray(pixels).astype(np.int64).reshape(-1, 8, 8)
    tenths = _eight_to_twenty()
    boxes = (tenths @ small @ tenths.T * 255 + 800) // (16 * 100)
    images = np.stack([centered_by_mass(box.astype(np.uint8)) for box in boxes])
    return Glyphs(images, np.asarray(target).astype(np.int64))


def _eight_to_twenty() -> NDArray[np.int64]:
    """(20, 8): how many tenths of each small pixel a large one takes; from 8 to 20 pixels, these are integers."""
    matrix = np.zeros((BOX, 8), np.int64)
    for row in range(BOX):
        # The center of the large pixel, (row + 1/2)·8/20 - 1/2, in tenths of a small one.
        before, share = divmod(min(max(4 * row - 3, 0), 70), 10)
        matrix[row, before] += 10 - share
        if share:
            matrix[row, before + 1] += share
    return matrix
