"""A score that is learned from mistakes: a logistic regression on what other scores say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.ood.features import Features
from hardy.ood.logit_scores import SCORES, energy, entropy, margin, max_softmax
from hardy.ood.member_scores import MEMBER_SCORES
from hardy.ood.method import Arrays, Doubles, Method

LARGEST = 3
"""So many of the largest logits are seen."""


@dataclass(frozen=True, eq=False)
class LearnedScore:
    """The log odds of a mistake as a linear function of standardized features.

    Attributes:
        weight: float64 (F,).
        mean: float64 (F,), of the features that it was fitted on.
        scale: float64 (F,), their standard deviation; 1 where they are all the same.
        bias: the log of the odds of a mistake where every feature is at its mean.
    """

    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    bias: float

    def __call__(self, features: NDArray) -> NDArray[np.float64]:
        """float64 (N,): the log of the odds that an answer is a mistake, from features (N, F)."""
        return (features - self.mean) / self.scale @ self.weight + self.bias


def mistake_features(logits: NDArray, member_logits: NDArray | None = None) -> NDArray[np.float64]:
    """What tells mistakes from right answers, float64 (N, F).

    Args:
        logits: (N, K).
        member_logits: (M, N, K), where the classifier is an ensemble.

    Scores that crowd near 0 are seen by their logarithm.
    """
    crowded = [max_softmax(logits), entropy(logits)]
    if member_logits is not None:
        crowded += [score(member_logits) for score in MEMBER_SCORES.values()]
        logits = member_logits.mean(axis=0)
    largest = np.sort(logits.astype(np.float64), axis=1)[:, -LARGEST:]
    spread = [margin(logits), energy(logits), SCORES["generalized_entropy"](logits)]
    tiny = np.finfo(np.float64).tiny
    return np.column_stack([*(np.log(np.maximum(score, tiny)) for score in crowded), *spread, largest])


def fit_learned_score(features: NDArray, wrong: NDArray) -> LearnedScore:
    """Fitted on validation examples, which training has not seen.

    Args:
        features: (N, F).
        wrong: bool (N,), whether the answer is a mistake.

    Raises:
        UsageError: no mistake, or nothing but mistakes.
    """
    # Only fitting needs it, and answering has to start quickly.
    from sklearn.linear_model import LogisticRegression

    wrong = np.asarray(wrong, dtype=bool)
    if wrong.all() or not wrong.any():
        raise UsageError(
            f"{int(wrong.sum())} mistakes among {len(wrong)} answers; a score is learned from some of both kinds"
        )
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    fitted = LogisticRegression(max_iter=1000).fit((features - mean) / scale, wrong)
    return LearnedScore(fitted.coef_[0], mean, scale, float(fitted.intercept_[0]))


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:
    learned = fit_learned_score(_mistake_features(features), features.logits.argmax(axis=1) != labels)
    return {"weight": learned.weight, "mean": learned.mean, "scale": learned.scale, "bias": np.array(learned.bias)}


def _score(arrays: Arrays, features: Features) -> Doubles:
    learned = LearnedScore(arrays["weight"], arrays["mean"], arrays["scale"], float(arrays["bias"]))
    return learned(_mistake_features(features))


def _mistake_features(features: Features) -> Doubles:
    return mistake_features(features.logits, features.member_logits if len(features.members) > 1 else None)


LEARNED = Method(
    "learned",
    "a logistic regression on what other scores say, fitted on the classifier's mistakes",
    "",
    _score,
    _fit,
    fitted_on="validation images",
    of_mistakes=True,
)
