"""The calibrators by name: fitting one, and restoring one from its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardy.calibration.binning import HISTOGRAM, ISOTONIC
from hardy.calibration.kind import Floats, Kind, checked_examples, checked_logits
from hardy.calibration.scaling import TEMPERATURE, VECTOR
from hardy.errors import DataError, unknown

CALIBRATORS: dict[str, Kind] = {
    "temperature": TEMPERATURE,
    "vector": VECTOR,
    "isotonic": ISOTONIC,
    "histogram": HISTOGRAM,
}

_CLASSES = "classes"


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A fitted calibrator.

    Attributes:
        name: which of :data:`CALIBRATORS`.
        arrays: all that was fitted, float64 and int64, and ``classes``, int64 (1,); they can be saved as they are.
    """

    name: str
    arrays: Mapping[str, NDArray]

    def probabilities(self, logits: NDArray) -> Floats:
        """Calibrated probabilities, float64 (N, K), rows with sum 1, of logits, float (N, K).

        Raises:
            UsageError: logits of another number of classes, or that are not finite.
        """
        logits = checked_logits(logits, int(self.arrays[_CLASSES][0]))
        return CALIBRATORS[self.name].apply(self.arrays, logits)


def fit_calibrator(name: str, logits: NDArray, labels: NDArray) -> Calibrator:
    """A calibrator fitted on examples that were held out of training, and are not those that it is measured on.

    Args:
        name: one of :data:`CALIBRATORS`.
        logits: float (N, K), finite.
        labels: integers (N,), from 0 to K-1, of at least two classes.

    Raises:
        UsageError: unknown name, no examples, one class only, NaN or infinite logits, shapes that do not fit.
    """
    if name not in CALIBRATORS:
        raise unknown("calibrator", name, CALIBRATORS)
    logits, labels = checked_examples(logits, labels)
    fitted = CALIBRATORS[name].fit(logits, labels)
    return Calibrator(name, {**fitted, _CLASSES: np.array([logits.shape[1]])})


def restore_calibrator(name: str, arrays: Mapping[str, NDArray]) -> Calibrator:
    """The calibrator whose :attr:`Calibrator.arrays` these are. They may come from a file: they are checked.

    Raises:
        UsageError: unknown name.
        DataError: arrays missing, unknown, of another type or shape, not finite, or no calibrator of that kind.
    """
    if name not in CALIBRATORS:
        raise unknown("calibrator", name, CALIBRATORS)
    kind, where = CALIBRATORS[name], f"calibrator '{name}'"
    if arrays.keys() != {*kind.names, _CLASSES}:
        raise DataError(f"{where}: arrays {sorted(arrays)}; it has {sorted([*kind.names, _CLASSES])}")
    for key, array in arrays.items():
        if array.dtype not in (np.float64, np.int64) or not np.isfinite(array).all():
            raise DataError(f"{where}: {key} is {array.dtype}, or not finite; it holds finite float64 or int64")
    classes = arrays[_CLASSES]
    if classes.shape != (1,) or classes.dtype != np.int64 or classes[0] < 2:
        raise DataError(f"{where}: classes is {classes.tolist()}; it is one whole number from 2 up")
    problem = kind.problem(arrays, int(classes[0]))
    if problem:
        raise DataError(f"{where}: {problem}")
    return Calibrator(name, dict(arrays))
