"""Calibrators that learn how often answers of a confidence are right. No answer changes.

What the predicted class does not get goes to the others in proportion. A class-by-class fit would have K curves where a
good classifier's few mistakes hardly fit one, and would turn answers around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.calibration.kind import Arrays, CalibrationMethod, Floats
from hardy.calibration.scaling import softmax

BINS = 15
"""Of histogram binning."""


def _fit_isotonic(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    # Only fitting needs it, and answering has to start quickly.
    from sklearn.isotonic import IsotonicRegression

    from hardy.metrics import confidence_and_correct

    fitted = IsotonicRegression(out_of_bounds="clip").fit(*confidence_and_correct(softmax(logits), labels))
    return _kept(fitted.X_thresholds_, fitted.y_thresholds_, len(labels))


def _apply_isotonic(arrays: Arrays, logits: Floats) -> Floats:
    confidence = softmax(logits).max(axis=1)
    return _with_confidence(logits, np.interp(confidence, arrays["confidence"], arrays["share"]))


def _fit_histogram(logits: Floats, labels: NDArray[np.int64]) -> dict[str, NDArray]:
    from hardy.metrics import confidence_and_correct, reliability

    bins = reliability(*confidence_and_correct(softmax(logits), labels), BINS, "mass")
    filled = bins.counts > 0
    return _kept(bins.edges[1:][filled], bins.accuracy[filled], len(labels))


def _apply_histogram(arrays: Arrays, logits: Floats) -> Floats:
    confidence = softmax(logits).max(axis=1)
    # What is above the last bin's upper edge is in the last bin.
    return _with_confidence(logits, arrays["share"][np.searchsorted(arrays["confidence"][:-1], confidence)])


def _kept(confidence: NDArray, share: NDArray, examples: int) -> dict[str, NDArray]:
    """Shares of 0 and 1 are not believed to the end: as if one more example were half right, half wrong."""
    unseen = 0.5 / (examples + 1)
    return {
        "confidence": np.asarray(confidence, dtype=np.float64),
        "share": np.clip(share, unseen, 1 - unseen).astype(np.float64),
    }


def _with_confidence(logits: Floats, confidence: Floats) -> Floats:
    """Probabilities with this confidence in the largest logit's class; the others keep their proportions."""
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    others = logits.copy()
    others[rows, top] = -np.inf
    others = softmax(others)
    rival = others.max(axis=1, initial=0.0)
    # A little more than the rival gets, so that the answer stays.
    confidence = np.maximum(confidence, (1.0 + 1e-9) * rival / (1.0 + rival))
    found = others * (1.0 - confidence)[:, None]
    found[rows, top] = confidence
    return found


def _problem(arrays: Arrays, classes: int) -> str | None:  # noqa: ARG001
    confidence, share = (arrays[name] for name in NAMES)
    if confidence.ndim != 1 or not len(confidence) or confidence.shape != share.shape:
        return f"confidence and share: shapes {confidence.shape} and {share.shape}; both have as many numbers, in a row"
    if (np.diff(confidence) < 0).any():
        return "confidence: it falls; it rises"
    if share.min() <= 0 or share.max() >= 1:
        return f"share: from {share.min():g} to {share.max():g}; a share is above 0 and below 1"
    return None


NAMES = ("confidence", "share")

ISOTONIC = CalibrationMethod(
    "isotonic",
    "the best rising function of the confidence; no answer changes (Zadrozny and Elkan, KDD 2002)",
    _fit_isotonic,
    _apply_isotonic,
    NAMES,
    _problem,
)
HISTOGRAM = CalibrationMethod(
    "histogram",
    f"the share of right answers in {BINS} bins of equal mass; no answer changes (Zadrozny and Elkan, ICML 2001)",
    _fit_histogram,
    _apply_histogram,
    NAMES,
    _problem,
)
