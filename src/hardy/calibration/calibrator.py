"""The calibrators by name: fitting one, and restoring one from its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hardy.calibration.binning import HISTOGRAM, ISOTONIC
from hardy.calibration.kind import CalibrationMethod, Floats, checked_examples, checked_logits
from hardy.calibration.scaling import TEMPERATURE, VECTOR
from hardy.errors import DataError
from hardy.registry import Registry

CALIBRATORS: Registry[CalibrationMethod] = Registry("calibrator", (TEMPERATURE, VECTOR, ISOTONIC, HISTOGRAM))

_CLASSES = "classes"


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A fitted calibrator: call it with logits to get probabilities.

    Attributes:
        name: which of :data:`CALIBRATORS`.
        arrays: all that was fitted, float64 and int64, and ``classes``, int64 (1,); they can be saved as they are.
    """

    name: str
    arrays: Mapping[str, NDArray]

    def __call__(self, logits: NDArray | Tensor) -> Floats:
        """Calibrated probabilities, float64 (N, K), rows with sum 1, of logits, float (N, K).

        Raises:
            UsageError: logits of another number of classes, or that are not finite, or probabilities instead.
        """
        logits = checked_logits(logits, int(self.arrays[_CLASSES][0]))
        return CALIBRATORS[self.name].apply(self.arrays, logits)

    probabilities = __call__


def fit_calibrator(name: str, logits: NDArray | Tensor, labels: NDArray | Tensor) -> Calibrator:
    """A calibrator fitted on validation examples: not those of training, nor those that it is measured on.

    Args:
        name: one of :data:`CALIBRATORS`.
        logits: float (N, K), finite.
        labels: integers (N,), from 0 to K-1, of at least two classes.

    Raises:
        UsageError: unknown name, no examples, one class only, NaN or infinite logits, probabilities in place of logits,
            shapes that do not fit.
    """
    method = CALIBRATORS.find(name)
    logits, labels = checked_examples(logits, labels)
    return Calibrator(name, {**method.fit(logits, labels), _CLASSES: np.array([logits.shape[1]])})


def function_of(name: str) -> Callable[[NDArray | Tensor, NDArray | Tensor], Calibrator]:
    """The public function of a method."""

    def function(logits: NDArray | Tensor, labels: NDArray | Tensor) -> Calibrator:
        return fit_calibrator(name, logits, labels)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "hardy.calibration"
    function.__doc__ = f"""A calibrator that {CALIBRATORS[name].description}.

    Args:
        logits: float (N, K), of validation examples; a tensor or an array.
        labels: integers (N,), from 0 to K-1, of at least two classes.

    Errors as in :func:`fit_calibrator`.

    >>> logits, labels = 5 * torch.randn(200, 3), torch.arange(200) % 3
    >>> calibrator = hardy.calibration.{name}(logits, labels)
    >>> calibrator(logits[:4]).shape
    (4, 3)
    """
    return function


def restore_calibrator(name: str, arrays: Mapping[str, NDArray]) -> Calibrator:
    """The calibrator whose :attr:`Calibrator.arrays` these are. They may come from a file: they are checked.

    Raises:
        UsageError: unknown name.
        DataError: arrays missing, unknown, of another type or shape, not finite, or no calibrator of that name.
    """
    method, where = CALIBRATORS.find(name), f"calibrator '{name}'"
    if arrays.keys() != {*method.names, _CLASSES}:
        raise DataError(f"{where}: arrays {sorted(arrays)}; it has {sorted([*method.names, _CLASSES])}")
    for key, array in arrays.items():
        if array.dtype not in (np.float64, np.int64) or not np.isfinite(array).all():
            raise DataError(f"{where}: {key} is {array.dtype}, or not finite; it holds finite float64 or int64")
    classes = arrays[_CLASSES]
    if classes.shape != (1,) or classes.dtype != np.int64 or classes[0] < 2:
        raise DataError(f"{where}: classes is {classes.tolist()}; it is one whole number from 2 up")
    problem = method.problem(arrays, int(classes[0]))
    if problem:
        raise DataError(f"{where}: {problem}")
    return Calibrator(name, dict(arrays))
