"""The decision to answer with a class, or to abstain and say why. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError

NO_FOREGROUND, SEVERAL_OBJECTS, PREDICTION_SET = "no_foreground", "several_objects", "prediction_set"
RULES: dict[str, str] = {
    NO_FOREGROUND: "nothing stands out from the background",
    SEVERAL_OBJECTS: "more than one object stands out",
    "ood_score": "it is too unlike the training images",
    "confidence": "the classifier is too unsure",
    PREDICTION_SET: "the prediction set does not hold exactly one class",
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
        fired: bool (N, 5), which of :data:`RULES` say to abstain.
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
    several: NDArray[np.bool_],
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
        several: (N,), whether there is more than one object.
        thresholds: when to abstain.
        reference: (R,), ascending, the OOD scores of validation images.
    """
    confidence = probabilities.max(axis=1)
    fired = np.column_stack(
        [
            ~foreground,
            several,
            ood_score > thresholds.max_ood_score,
            confidence < thresholds.min_confidence,
            sets.sum(axis=1) != 1,
        ]
    )
    percentile = 100.0 * np.searchsorted(reference, ood_score) / len(reference)
    return Decisions(probabilities.argmax(axis=1), confidence, sets, ood_score, percentile, fired)


class Scored(NamedTuple):
    """What thresholds are fitted to, for N images.

    Attributes:
        confidence: (N,).
        unclear: bool (N,), whether another rule refuses them in any case.
        ood_score: (N,).
    """

    confidence: NDArray[np.float64]
    unclear: NDArray[np.bool_]
    ood_score: NDArray[np.float64]

    def refused(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """bool (N,): by all rules together."""
        by_score, by_confidence = self.ood_score > thresholds.max_ood_score, self.confidence < thresholds.min_confidence
        return self.unclear | by_score | by_confidence


SHARES = (0.5, 0.65, 0.8, 0.95)
"""Of what the two thresholds may refuse, how much is the out-of-distribution score's; the rest is the confidence's."""


def fit_thresholds(inside: Scored, target: float, outside: Sequence[Scored] = ()) -> Thresholds:
    """The strictest thresholds with which all rules together refuse at most a share ``target`` of these images.

    How the score and the confidence share what they may refuse is chosen by what is refused of the outliers: of the
    worst family first, then of all. Without outliers they share equally. If the other rules leave less than half of
    the target, these two may use half of it nevertheless, because without them nothing unusual is refused; together
    the rules then refuse more than the target.

    Args:
        inside: validation images that belong to the classes.
        target: in (0, 1).
        outside: families of synthetic outliers.

    Raises:
        UsageError: no images, or a target outside (0, 1).
    """
    if not len(inside.confidence):
        raise UsageError("no images to set thresholds on; they are set on validation images")
    if not 0 < target < 1:
        raise UsageError(f"target refusal {target}; a share of the validation images lies in (0, 1), for example 0.01")

    def caught(thresholds: Thresholds) -> tuple[float, float]:
        shares = [float(family.refused(thresholds).mean()) for family in outside]
        return min(shares), float(np.mean(shares))

    found = [_strictest(inside, target, share) for share in (SHARES if outside else SHARES[:1])]
    return max(found, key=caught) if outside else found[0]


def _strictest(inside: Scored, target: float, share: float) -> Thresholds:
    n = len(inside.confidence)
    spare = max(target * n - inside.unclear.sum(), target * n / 2)
    by_score, by_confidence = np.sort(inside.ood_score)[::-1], np.sort(inside.confidence)
    chosen = Thresholds(float(by_score[0]), float(by_confidence[0]))
    for count in range(1, n):
        places = (min(n - 1, round(2 * part * count)) for part in (share, 1 - share))
        tried = Thresholds(float(by_score[next(places)]), float(by_confidence[next(places)]))
        if (inside.refused(tried) & ~inside.unclear).sum() > spare:
            break
        chosen = tried
    return chosen
