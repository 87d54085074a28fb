"""Calibrators that learn, class by class against the rest, how often a probability came true; rows are then normalised.

A share of 0 is not believed to the end: with n examples it becomes 1 / (K (n + 2)), so that no probability is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression

from hardy.calibration.kind import Arrays, Floats, Kind
from hardy.metrics import reliability

BINS = 15
"""Of histogram binning, for each class."""


def _fit_isotonic(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    curves = []
    for k, probability in enumerate(softmax(logits, axis=1).T):
        fitted = IsotonicRegression(out_of_bounds="clip").fit(probability, labels == k)
        curves.append((fitted.X_thresholds_, fitted.y_thresholds_))
    return _packed(curves, len(labels))


def _apply_isotonic(arrays: Arrays, logits: Floats) -> Floats:
    return _each_class(arrays, logits, np.interp)


def _fit_histogram(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    curves = []
    for k, probability in enumerate(softmax(logits, axis=1).T):
        bins = reliability(np.minimum(probability, 1.0), labels == k, BINS, "mass")
        filled = bins.counts > 0
        curves.append((bins.edges[1:][filled], bins.accuracy[filled]))
    return _packed(curves, len(labels))


def _apply_histogram(arrays: Arrays, logits: Floats) -> Floats:
    return _each_class(
        arrays, logits, lambda probability, upper, share: share[np.searchsorted(upper[:-1], probability)]
    )


def _packed(curves: list[tuple[Floats, Floats]], examples: int) -> dict[str, NDArray]:
    """The curves of all classes one behind the other; that of class k is from ``offset[k]`` to ``offset[k+1]``."""
    least = 1.0 / (len(curves) * (examples + 2))
    return {
        "probability": np.concatenate([x for x, _ in curves]).astype(np.float64),
        "share": np.concatenate([y for _, y in curves]).astype(np.float64).clip(least, 1.0),
        "offset": np.cumsum([0, *(len(x) for x, _ in curves)]).astype(np.int64),
    }


def _each_class(arrays: Arrays, logits: Floats, look_up: Callable[[Floats, Floats, Floats], Floats]) -> Floats:
    offset = arrays["offset"]
    shares = np.empty_like(logits)
    for k, probability in enumerate(softmax(logits, axis=1).T):
        own = slice(offset[k], offset[k + 1])
        shares[:, k] = look_up(probability, arrays["probability"][own], arrays["share"][own])
    return shares / shares.sum(axis=1, keepdims=True)


def _problem(arrays: Arrays, classes: int) -> str | None:
    probability, share, offset = (arrays[name] for name in NAMES)
    if offset.shape != (classes + 1,) or offset.dtype != np.int64 or offset[0] != 0 or (np.diff(offset) < 1).any():
        return f"offset: {offset.dtype} {offset.shape}; integers that rise from 0, one more than {classes} classes"
    if probability.shape != (offset[-1],) or share.shape != probability.shape:
        return f"probability and share: shapes {probability.shape} and {share.shape}; both have {offset[-1]} numbers"
    if any((np.diff(probability[start:end]) < 0).any() for start, end in pairwise(offset)):
        return "probability: it falls within a class; it rises"
    if not (share > 0).all() or share.max() > 1:
        return f"share: from {share.min():g} to {share.max():g}; a share is above 0 and at most 1"
    return None


NAMES = ("probability", "share", "offset")

ISOTONIC = Kind(
    "for each class the best rising function of its probability (Zadrozny and Elkan, KDD 2002)",
    _fit_isotonic,
    _apply_isotonic,
    NAMES,
    _problem,
)
HISTOGRAM = Kind(
    f"for each class the share of hits in {BINS} bins of equal mass (Zadrozny and Elkan, ICML 2001)",
    _fit_histogram,
    _apply_histogram,
    NAMES,
    _problem,
)
