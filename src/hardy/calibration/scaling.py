"""Calibrators that scale logits: few parameters, which little data can fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.calibration.kind import Arrays, CalibrationMethod, Floats

BOUNDS = (1e-3, 1e3)
"""Between these the temperature is looked for."""

_LEAST = 1e-3


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Probabilities, (N, K). SciPy's own takes a fifth of a second to import, which a first answer would wait for."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def temperature_of(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature with the least negative log-likelihood; 1 where it does not help.

    It does not where no answer is wrong: the likelihood then grows without end as T falls to 0.
    """
    # Only fitting needs it, and answering has to start quickly.
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))
    if (logits.argmax(axis=1) == labels).all():
        return 1.0

    def nll(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(BOUNDS)
    found = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if nll(found.x) < nll(0.0) else 1.0


def _fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    return {"temperature": np.array([temperature_of(logits, labels)])}


def _apply_temperature(arrays: Arrays, logits: Floats) -> Floats:
    return softmax(logits / arrays["temperature"])


def _temperature_problem(arrays: Arrays, classes: int) -> str | None:  # noqa: ARG001
    temperature = arrays["temperature"]
    if temperature.shape != (1,) or not temperature[0] > 0:
        return f"temperature: {temperature.tolist()}; it is one number above 0"
    return None


def _fit_vector(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    """A standard normal prior, around the temperature's weights and no bias, keeps few mistakes from deciding."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    n, classes = logits.shape
    truth, start = np.eye(classes)[labels], 1.0 / temperature_of(logits, labels)

    def loss_and_gradient(parameters: Floats) -> tuple[float, Floats]:
        weight, bias = parameters[:classes], parameters[classes:]
        log_p = log_softmax(logits * start * (1.0 + weight) + bias, axis=1)
        error = np.exp(log_p) - truth
        gradient = np.append((error * logits * start).sum(axis=0), error.sum(axis=0)) + parameters
        return (parameters @ parameters / 2 - float((log_p * truth).sum())) / n, gradient / n

    bounds = [(_LEAST - 1.0, None)] * classes + [(None, None)] * classes
    found = minimize(loss_and_gradient, np.zeros(2 * classes), jac=True, method="L-BFGS-B", bounds=bounds).x
    return {"weight": start * (1.0 + found[:classes]), "bias": found[classes:]}


def _apply_vector(arrays: Arrays, logits: Floats) -> Floats:
    return softmax(logits * arrays["weight"] + arrays["bias"])


def _vector_problem(arrays: Arrays, classes: int) -> str | None:
    shapes = {name: arrays[name].shape for name in ("weight", "bias")}
    if set(shapes.values()) != {(classes,)}:
        return f"shapes {shapes}; each has one number for each of {classes} classes"
    if not (arrays["weight"] > 0).all():
        return f"weight: {arrays['weight'].min():g} is the least; weights are above 0"
    return None


TEMPERATURE = CalibrationMethod(
    "temperature",
    "divides the logits by one temperature; answers stay as they are (Guo et al., ICML 2017, arXiv:1706.04599)",
    _fit_temperature,
    _apply_temperature,
    ("temperature",),
    _temperature_problem,
)
VECTOR = CalibrationMethod(
    "vector",
    "a weight and a bias for each class's logit (Guo et al., ICML 2017, arXiv:1706.04599)",
    _fit_vector,
    _apply_vector,
    ("weight", "bias"),
    _vector_problem,
)
