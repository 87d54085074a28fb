"""What a calibration method is, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hardy.errors import UsageError

Floats: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, NDArray]

_SEVERAL, _TOLERANCE = 8, 1e-3


class CalibrationMethod(NamedTuple):
    """How calibrators of one name are fitted, applied and checked.

    Attributes:
        name: of its calibrators.
        description: what it does, in one line, with the paper.
        fit: from logits, float64 (N, K), and labels, int64 (N,), to what is kept.
        apply: from what was kept and logits, float64 (N, K), to probabilities, float64 (N, K).
        names: the arrays that ``fit`` keeps, all float64 or int64.
        problem: what is wrong with such arrays for K classes, in words, or None; sees finite arrays only.
    """

    name: str
    description: str
    fit: Callable[[Floats, NDArray[np.int64]], dict[str, NDArray]]
    apply: Callable[[Arrays, Floats], Floats]
    names: tuple[str, ...]
    problem: Callable[[Arrays, int], str | None]


def as_array(values: Any) -> NDArray:
    """A NumPy array of an array, a tensor on any device, or a list."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def checked_logits(logits: NDArray | Tensor, classes: int | None = None) -> Floats:
    """``logits`` as float64 (N, K), finite, K at least 2 and ``classes`` where that is given.

    Raises:
        UsageError: they are not.
    """
    logits = as_array(logits)
    if logits.ndim != 2 or logits.shape[1] < 2 or not np.issubdtype(logits.dtype, np.floating):
        raise UsageError(
            f"logits: {logits.dtype} {logits.shape}; one row per example, one column per class, floating point (N, K)"
        )
    if classes is not None and logits.shape[1] != classes:
        raise UsageError(f"logits: {logits.shape[1]} classes; the calibrator was fitted on {classes}")
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise UsageError(
            f"logits: NaN or infinity for {len(broken)} of {len(logits)} examples, the first in row {broken[0]}; "
            "logits are finite"
        )
    # One row of logits may look like a distribution by chance, several do not.
    if len(logits) >= _SEVERAL and logits.min() >= 0 and (np.abs(logits.sum(axis=1) - 1) < _TOLERANCE).all():
        raise UsageError("logits: every row is a distribution; were probabilities passed? Give logits, or logarithms")
    return logits.astype(np.float64)


def checked_examples(logits: NDArray | Tensor, labels: NDArray | Tensor) -> tuple[Floats, NDArray[np.int64]]:
    """Logits and labels that something can be fitted on: some examples, of more than one class.

    Raises:
        UsageError: no examples, one class only, shapes that do not fit, labels outside the classes.
    """
    logits, labels = checked_logits(logits), as_array(labels)
    if not len(logits):
        raise UsageError("the calibration set is empty; a calibrator is fitted on validation examples")
    if labels.shape != logits.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"labels: {labels.dtype} {labels.shape}; labels are integers, one for each of {len(logits)}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise UsageError(
            f"labels: from {labels.min()} to {labels.max()}; with {logits.shape[1]} classes a label is from 0 to "
            f"{logits.shape[1] - 1}"
        )
    if (labels == labels[0]).all():
        raise UsageError(
            f"the calibration set has one class only: all {len(labels)} labels are {labels[0]}; it needs at least two"
        )
    return logits, labels.astype(np.int64)
