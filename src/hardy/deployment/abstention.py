"""The decision: answer with a class, or abstain and say why. Pure functions on arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError

RULES: dict[str, str] = {
    "no_ink": "nothing stands out from the paper",
    "suspicion": "it is too unlike what the classifier was trained on",
    "confidence": "the classifier is too unsure",
    "prediction_set": "the prediction set does not hold exactly one class",
}
"""Why to abstain, in the order in which the reasons are told."""


class Thresholds(NamedTuple):
    """Where answering ends.

    Attributes:
        suspicion: abstain above it.
        confidence: abstain below it.
    """

    suspicion: float
    confidence: float


class Decisions(NamedTuple):
    """What is said of N images.

    Attributes:
        best: int64 (N,), the likeliest class, also where it is not answered.
        confidence: float64 (N,), its calibrated probability.
        sets: bool (N, K), which classes are in the prediction set.
        suspicion: float64 (N,), higher is more suspicious.
        percentile: float64 (N,), from 0 to 100: how much of the validation images is less suspicious.
        fired: bool (N, 4), which of :data:`RULES` say to abstain.
    """

    best: NDArray[np.int64]
    confidence: NDArray[np.float64]
    sets: NDArray[np.bool_]
    suspicion: NDArray[np.float64]
    percentile: NDArray[np.float64]
    fired: NDArray[np.bool_]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """bool (N,)."""
        return np.logical_not(self.fired.any(axis=1))

    def reasons(self, index: int) -> list[str]:
        """The names of the rules that fired for one image."""
        return [rule for rule, fired in zip(RULES, self.fired[index], strict=True) if fired]


def decide(
    probabilities: NDArray[np.float64],
    sets: NDArray[np.bool_],
    suspicion: NDArray[np.float64],
    ink: NDArray[np.bool_],
    *,
    thresholds: Thresholds,
    reference: NDArray[np.float64],
) -> Decisions:
    """Decide for each image by itself.

    Args:
        probabilities: (N, K), calibrated.
        sets: (N, K), the prediction sets.
        suspicion: (N,).
        ink: (N,), whether there is anything on the picture.
        thresholds: where answering ends.
        reference: (R,), ascending, the suspicion of validation images.
    """
    confidence = probabilities.max(axis=1)
    fired = np.column_stack(
        [~ink, suspicion > thresholds.suspicion, confidence < thresholds.confidence, sets.sum(axis=1) != 1]
    )
    percentile = 100.0 * np.searchsorted(reference, suspicion) / len(reference)
    return Decisions(probabilities.argmax(axis=1), confidence, sets, suspicion, percentile, fired)


def fit_thresholds(
    confidence: NDArray[np.float64], sets: NDArray[np.bool_], suspicion: NDArray[np.float64], target: float
) -> Thresholds:
    """The strictest thresholds with which at most a share ``target`` of these images is refused by all rules together.

    The suspicion and the confidence rule, each alone, would refuse equally many. Where the prediction sets leave less
    than half of the target, the two may use half of it all the same, for without them nothing strange is refused; the
    whole is then more than the target.

    Args:
        confidence: (N,), of validation images that belong to the classes.
        sets: (N, K), their prediction sets.
        suspicion: (N,).
        target: in (0, 1).

    Raises:
        UsageError: no images, or a target outside (0, 1).
    """
    if not len(confidence):
        raise UsageError("no images to set thresholds on; they are set on validation images")
    if not 0 < target < 1:
        raise UsageError(f"target refusal {target}; a share of the validation images lies in (0, 1), for example 0.01")
    unclear = sets.sum(axis=1) != 1
    spare = max(target * len(confidence) - unclear.sum(), target * len(confidence) / 2)
    by_suspicion, by_confidence = np.sort(suspicion)[::-1], np.sort(confidence)
    chosen = Thresholds(float(by_suspicion[0]), float(by_confidence[0]))
    for count in range(1, len(confidence)):
        tried = Thresholds(float(by_suspicion[count]), float(by_confidence[count]))
        refused = (suspicion > tried.suspicion) | (confidence < tried.confidence)
        if (refused & ~unclear).sum() > spare:
            break
        chosen = tried
    return chosen
