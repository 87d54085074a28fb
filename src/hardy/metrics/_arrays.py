"""What all metrics share: their types, the checks of their inputs, and sums over groups of examples.

Wrong input is refused: a figure made from nothing, or from NaN, would look like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

Figure: TypeAlias = Callable[[Floats | None], float]
"""A metric whose examples are fixed: from weights, float64 (N,) or None for ones, to the figure."""

# Rounding of float32 probabilities; logits are further off.
_TOLERANCE = 1e-3


def checked_values(values: NDArray, name: str) -> Floats:
    """``values`` as float64 (N,); infinite values may be, NaN may not."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise UsageError(f"{name}: shape {values.shape}; one value an example is (N,)")
    if np.isnan(values).any():
        raise UsageError(f"{name}: NaN for {int(np.isnan(values).sum())} of {len(values)} examples")
    return values


def checked_flags(flags: NDArray, n: int, name: str) -> Flags:
    """``flags`` as bool (n,); zeros and ones may be, other numbers may not."""
    flags = np.asarray(flags)
    if flags.shape != (n,):
        raise UsageError(f"{name}: shape {flags.shape}; one flag for each of {n} examples is ({n},)")
    if flags.dtype != np.bool_ and not np.isin(flags, (0, 1)).all():
        raise UsageError(f"{name}: flags are true or false, or 1 or 0")
    return flags.astype(np.bool_)


def checked_weights(weights: NDArray | None, n: int) -> Floats:
    """How often each of ``n`` examples counts, float64 (n,); None is once.

    Raises:
        UsageError: no examples, all weights zero, a negative weight, or another shape.
    """
    if not n:
        raise UsageError("no examples: a metric needs at least one")
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,):
        raise UsageError(f"weights: shape {weights.shape}; one weight for each of {n} examples is ({n},)")
    if not (weights.min() >= 0 and np.isfinite(total := weights.sum())):
        raise UsageError("weights: how often an example counts is a finite number from 0 up")
    if not total:
        raise UsageError("weights: all are zero, so no example counts; a metric needs at least one")
    return weights


def checked_confidence(confidence: NDArray) -> Floats:
    """``confidence`` as float64 (N,) in [0, 1], up to float32 rounding."""
    confidence = checked_values(confidence, "confidence")
    if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1 + _TOLERANCE):
        raise UsageError(
            f"confidence: values from {confidence.min():g} to {confidence.max():g}; a confidence lies in [0, 1]"
        )
    return confidence


def checked_probabilities(probabilities: NDArray, name: str = "probabilities") -> Floats:
    """``probabilities`` as float64 (N, K) whose rows are distributions; logits are not."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2:
        raise UsageError(f"{name}: shape {probabilities.shape}; one row an example and one column a class is (N, K)")
    if not ((probabilities >= 0).all() and (np.abs(probabilities.sum(axis=1) - 1.0) <= _TOLERANCE).all()):
        raise UsageError(f"{name}: rows are not distributions (from 0 up, with sum 1); were logits passed?")
    return probabilities


def checked_labels(labels: NDArray, n: int, classes: int) -> NDArray[np.int64]:
    """``labels`` as int64 (n,), each the index of a class."""
    labels = np.asarray(labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"labels: {labels.dtype} {labels.shape}; labels are integers, one for each of {n} examples")
    if n and not (labels.min() >= 0 and labels.max() < classes):
        raise UsageError(
            f"labels: from {labels.min()} to {labels.max()}; with {classes} classes a label is from 0 to {classes - 1}"
        )
    return labels.astype(np.int64)


def group_sums(group: NDArray[np.integer], values: NDArray, groups: int) -> Floats:
    """The sum of ``values`` in each group, float64 (groups,); ``group`` says which one each value belongs to."""
    return np.bincount(group, values, groups).astype(np.float64, copy=False)


def weighted_mean(values: NDArray, *, weights: Floats | None = None) -> float:
    """The mean of a value or flag an example: accuracy from ``correct``, an error rate from ``wrong``.

    Args:
        values: (N,) numbers or flags; an infinite one counts only where its weight is not zero.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, NaN.
    """
    values = checked_values(values, "values")
    weights = checked_weights(weights, len(values))
    counted = weights > 0
    return float(values[counted] @ weights[counted] / weights.sum())
