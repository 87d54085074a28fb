"""Detectors: a score whose whole fitted state is arrays, so that it can be stored and restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardy.errors import ContractError, UsageError, unknown
from hardy.ood.features import Features
from hardy.ood.gaussians import Arrays, Doubles
from hardy.ood.methods import METHODS, Method

COMBINATION = "combination"

_RANKS = 1001
_STRENGTH = 1.0


@dataclass(frozen=True, eq=False)
class Detector:
    """A fitted score.

    Attributes:
        name: its method in ``DETECTORS``.
        arrays: the whole fitted state.
    """

    name: str
    arrays: Mapping[str, NDArray]

    def scores(self, features: Features) -> Doubles:
        """float64 (N,): higher is more suspicious; an image's score is its own, whatever is scored beside it.

        Raises:
            UsageError: the features do not hold what the method needs.
        """
        reason = lacking(self.name, features)
        if reason:
            raise UsageError(f"detector '{self.name}': {reason}")
        return get_method(self.name).score(dict(self.arrays), features)


def fit_detector(name: str, features: Features, labels: NDArray[np.int64]) -> Detector:
    """Fit a method on training images alone.

    Args:
        name: a name in ``DETECTORS``.
        features: of training images of the classifier's own classes.
        labels: int64 (N,), their classes.

    Raises:
        UsageError: unknown name; the features do not hold what the method needs; fewer than two images, or one without
            a label.
    """
    method = get_method(name)
    if name == COMBINATION:
        raise UsageError("the combination is fitted on outliers besides; call fit_combination")
    if len(features) != len(labels):
        raise UsageError(f"detector '{name}': {len(features)} images and {len(labels)} labels; one label an image")
    if method.fit is None:
        return Detector(name, {})
    reason = lacking(name, features)
    if reason:
        raise UsageError(f"detector '{name}': {reason}")
    if len(features) < 2 or labels.min() < 0:
        raise UsageError(f"detector '{name}' is fitted on at least two images, each with its class")
    return Detector(name, method.fit(features, labels))


def restore_detector(name: str, arrays: Mapping[str, NDArray]) -> Detector:
    """The detector with these fitted arrays.

    Raises:
        UsageError: unknown name.
        ContractError: an array that is not of finite numbers.
    """
    get_method(name)
    for key, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ContractError(f"detector '{name}': array '{key}' of {array.dtype} is not of finite floats")
    return Detector(name, dict(arrays))


def lacking(name: str, features: Features) -> str:
    """Why a method cannot be used with these features; "" if it can."""
    match get_method(name).needs:
        case "penultimate":
            return features.reason
        case "layers":
            return "" if features.members[0].layers else "the network has no nn.Conv2d, so no layers to look at"
        case "members":
            return "" if len(features.members) > 1 else "the classifier is no ensemble, so nobody can disagree"
        case "logits":
            return ""


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in DETECTORS:
        raise unknown("detector", name, DETECTORS)
    return DETECTORS[name]


def fit_combination(detectors: Sequence[Detector], validation: Features, outliers: Features) -> Detector:
    """A logistic regression over the ranks of other detectors' scores, fitted on validation images and made outliers.

    A score's rank is its place among the scores of both together, from 0 to 1, so that no score's scale matters.

    Args:
        detectors: what to combine, each of another name.
        validation: features of images that nothing was fitted on.
        outliers: features of made outliers; never of a dataset that detection is measured on.

    Raises:
        UsageError: no detector, or nothing to fit on.
    """
    from sklearn.linear_model import LogisticRegression

    if not detectors or not len(validation) or not len(outliers):
        raise UsageError("a combination needs detectors, validation images and made outliers, at least one of each")
    scores = [np.concatenate([it.scores(validation), it.scores(outliers)]) for it in detectors]
    tables = [np.quantile(each, np.linspace(0.0, 1.0, _RANKS)) for each in scores]
    ranks = np.stack([_ranks(table, each) for table, each in zip(tables, scores, strict=True)], axis=1)
    outside = np.repeat([0, 1], [len(validation), len(outliers)])
    fitted = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000).fit(ranks, outside)
    arrays: Arrays = {}
    for detector, table, weight in zip(detectors, tables, fitted.coef_[0], strict=True):
        arrays |= {f"{detector.name}/{key}": array for key, array in detector.arrays.items()}
        arrays |= {f"{detector.name}/combination.ranks": table, f"{detector.name}/combination.weight": np.array(weight)}
    return Detector(COMBINATION, arrays)


def _score_combination(arrays: Arrays, features: Features) -> Doubles:
    total = np.zeros(len(features))
    for name in dict.fromkeys(key.partition("/")[0] for key in arrays):
        part = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
        table, weight = part.pop("combination.ranks"), part.pop("combination.weight")
        total += weight * _ranks(table, Detector(name, part).scores(features))
    return total


def _ranks(table: Doubles, scores: Doubles) -> Doubles:
    """Where scores stand in a table of quantiles, from 0 to 1; a tie takes the middle of its places."""
    before, after = (np.searchsorted(table, scores, side) for side in ("left", "right"))
    return (before + after) / (2.0 * len(table))


DETECTORS: dict[str, Method] = METHODS | {
    COMBINATION: Method(
        "a logistic regression over the ranks of the other scores, fitted on made outliers", _score_combination
    )
}
"""Every score that is a function of features. All but the combination are fitted on training images alone."""
