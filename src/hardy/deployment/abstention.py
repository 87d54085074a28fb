"""The decision to answer with a class, or to abstain and say why. Pure functions on arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError

NO_FOREGROUND = "no_foreground"
RULES: dict[str, str] = {
    NO_FOREGROUND: "nothing stands out from the background",
    "ood_score": "it is too unlike the training images",
    "confidence": "the classifier is too unsure",
    "prediction_set": "the prediction set does not hold exactly one class",
}
"""The rules for abstaining, in the order in which they are reported."""


class Thresholds(NamedTuple):
    """When to abstain.

    Attributes:
        max_ood_score: abstain above it.
        min_confidence: abstain below it.
    """

    max_ood_score: float
    min_confidence: float


class Decisions(NamedTuple):
    """The answers for N images.

    Attributes:
        best: int64 (N,), the most probable class, also of images that are not answered.
        confidence: float64 (N,), its calibrated probability.
        sets: bool (N, K), which classes are in the prediction set.
        ood_score: float64 (N,), higher is less like the training images.
        percentile: float64 (N,), from 0 to 100: how many of the validation images have a lower OOD score.
        fired: bool (N, 4), which of :data:`RULES` say to abstain.
    """

    best: NDArray[np.int64]
    confidence: NDArray[np.float64]
    sets: NDArray[np.bool_]
    ood_score: NDArray[np.float64]
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
    ood_score: NDArray[np.float64],
    foreground: NDArray[np.bool_],
    *,
    thresholds: Thresholds,
    reference: NDArray[np.float64],
) -> Decisions:
    """Decide for each image by itself.

    Args:
        probabilities: (N, K), calibrated.
        sets: (N, K), the prediction sets.
        ood_score: (N,).
        foreground: (N,), whether there is anything in the image.
        thresholds: when to abstain.
        reference: (R,), ascending, the OOD scores of validation images.
    """
    confidence = probabilities.max(axis=1)
    fired = np.column_stack(
        [
            ~foreground,
            ood_score > thresholds.max_ood_score,
            confidence < thresholds.min_confidence,
            sets.sum(axis=1) != 1,
        ]
    )
    percentile = 100.0 * np.searchsorted(reference, ood_score) / len(reference)
    return Decisions(probabilities.argmax(axis=1), confidence, sets, ood_score, percentile, fired)


def fit_thresholds(
    confidence: NDArray[np.float64], sets: NDArray[np.bool_], ood_score: NDArray[np.float64], target: float
) -> Thresholds:
    """The strictest thresholds with which all rules together refuse at most a share ``target`` of these images.

    The OOD score and the confidence, each alone, refuse equally many. If the prediction sets leave less than half of
    the target, these two may use half of it nevertheless, because without them nothing unusual is refused; together
    the rules then refuse more than the target.

    Args:
        confidence: (N,), of validation images that belong to the classes.
        sets: (N, K), their prediction sets.
        ood_score: (N,).
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
    by_score, by_confidence = np.sort(ood_score)[::-1], np.sort(confidence)
    chosen = Thresholds(float(by_score[0]), float(by_confidence[0]))
    for count in range(1, len(confidence)):
        tried = Thresholds(float(by_score[count]), float(by_confidence[count]))
        refused = (ood_score > tried.max_ood_score) | (confidence < tried.min_confidence)
        if (refused & ~unclear).sum() > spare:
            break
        chosen = tried
    return chosen
