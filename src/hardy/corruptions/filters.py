"""Filters along rows and columns, as matrices: exact at the edges, and one matrix product for a whole batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from hardy.validation import Images


def matrix_of(size: int, filtered: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """float32 (M, size): the matrix of a linear filter along the first axis, which takes ``size`` values to M."""
    return torch.from_numpy(np.array(filtered(np.eye(size)), np.float32, order="C"))


def gaussian_matrix(size: int, deviation: float, mode: str = "nearest", truncate: float = 4.0) -> Tensor:
    """float32 (size, size): SciPy's Gaussian filter along one axis, as scikit-image uses it."""
    return matrix_of(size, lambda unit: gaussian_filter1d(unit, deviation, axis=0, mode=mode, truncate=truncate))


def filter_both(images: Images, rows: Tensor, columns: Tensor) -> Images:
    """``rows`` (M, H) applied along the height and ``columns`` (L, W) along the width: (N, C, M, L)."""
    return rows.to(images.device) @ images @ columns.to(images.device).T


def gaussian_filter(images: Images, deviation: float, mode: str = "nearest", truncate: float = 4.0) -> Images:
    """A Gaussian filter of the same standard deviation, in pixels, along height and width."""
    height, width = images.shape[2:]
    return filter_both(
        images,
        gaussian_matrix(height, deviation, mode, truncate),
        gaussian_matrix(width, deviation, mode, truncate),
    )
