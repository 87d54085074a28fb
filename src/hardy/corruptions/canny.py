"""Canny's edge detector with the defaults of scikit-image, whose answers it gives bit by bit.

J. Canny, "A computational approach to edge detection", IEEE PAMI 1986. The published corruption is scikit-image's, and
this saves a large dependency for one call.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, sobel

LOW, HIGH = 0.1, 0.2
"""Edges start where the gradient is at least the one, and go on where it is at least the other."""


def edges(gray: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the edges of one image, (H, W) in [0, 1], are; never on its border."""
    inside = gaussian_filter(np.ones_like(gray), 1.0, mode="constant") + np.finfo(gray.dtype).eps
    smoothed = gaussian_filter(gray, 1.0, mode="constant") / inside
    down, right = (sobel(smoothed, axis=axis) for axis in (0, 1))
    magnitude = np.sqrt(down * down + right * right)
    thin = np.zeros_like(gray, dtype=bool)
    thin[1:-1, 1:-1] = (magnitude[1:-1, 1:-1] >= LOW) & _is_largest_across(down, right, magnitude)
    segments, count = cast(tuple[NDArray[np.int32], int], label(thin, np.ones((3, 3), bool)))
    sure = np.zeros(count + 1, dtype=bool)
    sure[segments[thin & (magnitude >= HIGH)]] = True
    return sure[segments]


def _is_largest_across(down: NDArray, right: NDArray, magnitude: NDArray) -> NDArray[np.bool_]:
    """Whether no neighbor along the gradient, interpolated between two pixels, is larger; of inner pixels."""
    rows, columns = np.meshgrid(*(np.arange(1, side - 1) for side in magnitude.shape), indexing="ij")
    down, right, own = (values[1:-1, 1:-1] for values in (down, right, magnitude))
    slope = np.where(((down >= 0) & (right >= 0)) | ((down <= 0) & (right <= 0)), 1, -1)
    steep = np.abs(down) > np.abs(right)
    small, large = np.minimum(np.abs(down), np.abs(right)), np.maximum(np.abs(down), np.abs(right))
    share = small / np.where(large > 0, large, 1.0)
    largest = np.ones_like(steep)
    for sign in (1, -1):
        straight = magnitude[rows + sign * np.where(steep, slope, 0), columns + sign * np.where(steep, 0, 1)]
        diagonal = magnitude[rows + sign * slope, columns + sign]
        largest &= diagonal * share + straight * (1.0 - share) <= own
    return largest
