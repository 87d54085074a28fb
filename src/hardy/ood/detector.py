"""Detectors: a method with its fitted state, all of which is arrays, so that it can be stored and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hardy.errors import ContractError, UsageError
from hardy.ood.exposed import DISCRIMINATOR, fit_discriminator
from hardy.ood.features import Features
from hardy.ood.kl_matching import KL_MATCHING
from hardy.ood.layers import LAYERS
from hardy.ood.learned_score import LEARNED
from hardy.ood.logit_scores import LOGIT_METHODS
from hardy.ood.mahalanobis import MAHALANOBIS, RELATIVE_MAHALANOBIS
from hardy.ood.member_scores import DISAGREEMENT, MUTUAL_INFORMATION
from hardy.ood.method import Arrays, Doubles, Fit, Method, Need
from hardy.ood.neighbors import NEAREST_NEIGHBORS
from hardy.ood.odin import ODIN
from hardy.ood.react import REACT
from hardy.ood.vim import VIM, VIM_PER_MEMBER
from hardy.registry import Registry

COMBINATION = "combination"

HEADLINE = DISCRIMINATOR.name
"""The score that reports name and that bundles refuse by, as the rule of ``benchmarks/detection_table.py`` chose it."""

BASELINE = "max_softmax"
"""The field's baseline (Hendrycks and Gimpel, ICLR 2017), and the headline where no training images are at hand."""

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
        _check_needs(self.name, features)
        return DETECTORS[self.name].score(dict(self.arrays), features)


def fit_detector(name: str, features: Features, labels: NDArray[np.int64]) -> Detector:
    """Fit a method on labeled images: training images, or validation images where its ``fitted_on`` says so.

    Args:
        name: a name in ``DETECTORS``.
        features: of images of the classifier's own classes.
        labels: int64 (N,), their classes.

    Raises:
        UsageError: unknown name; the features do not hold what the method needs; fewer than two images, or one without
            a label; a method that is fitted on synthetic outliers too.
    """
    method = DETECTORS.find(name)
    if method.fit is None and method.fitted_on != "nothing":
        call = {COMBINATION: "fit_combination", DISCRIMINATOR.name: "fit_exposed"}.get(name, "choose_odin")
        raise UsageError(f"detector '{name}' is fitted on {method.fitted_on}; call {call}")
    if len(features) != len(labels):
        raise UsageError(f"detector '{name}': {len(features)} images and {len(labels)} labels; one label per image")
    if method.fit is None:
        return Detector(name, {})
    _check_needs(name, features)
    if len(features) < 2 or labels.min() < 0:
        raise UsageError(f"detector '{name}' is fitted on at least two images, each with its class")
    return Detector(name, method.fit(features, labels))


def restore_detector(name: str, arrays: Mapping[str, NDArray]) -> Detector:
    """The detector with these fitted arrays.

    Raises:
        UsageError: unknown name.
        ContractError: an array that is not of finite numbers.
    """
    DETECTORS.find(name)
    for key, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ContractError(f"detector '{name}': array '{key}' of {array.dtype} is not of finite floats")
    return Detector(name, dict(arrays))


def lacking(name: str, features: Features) -> str:
    """Why a method cannot be used with these features; "" if it can."""
    match DETECTORS.find(name).needs:
        case "penultimate":
            return features.reason
        case "layers":
            return "" if features.members[0].layers else "the network has no nn.Conv2d, so no layers to look at"
        case "members":
            return "" if len(features.members) > 1 else "the classifier is no ensemble, so no members can disagree"
        case "gradients":
            return "it takes the classifier and images, not features; call odin_scores"
        case "logits":
            return ""


def usable(features: Features) -> list[str]:
    """The methods of unfamiliar inputs that training images and these features are enough for."""
    return [
        name for name, it in DETECTORS.items() if it.of_training and not it.of_mistakes and not lacking(name, features)
    ]


def _check_needs(name: str, features: Features) -> None:
    reason = lacking(name, features)
    if reason:
        raise UsageError(f"detector '{name}': {reason}")


def fit_exposed(training: Features, outliers: Sequence[Features]) -> Detector:
    """A discriminator of training images and synthetic outliers; see :mod:`hardy.ood.exposed`.

    Args:
        training: features of training images.
        outliers: features of each family of synthetic outliers; never of a dataset that detection is measured on.

    Raises:
        UsageError: nothing to fit on.
    """
    if not len(training) or not any(map(len, outliers)):
        raise UsageError("a discriminator needs training images and outliers, at least one of each")
    return Detector(DISCRIMINATOR.name, fit_discriminator(training, outliers))


def fit_combination(detectors: Sequence[Detector], validation: Features, outliers: Features) -> Detector:
    """A logistic regression over the ranks of other detectors' scores, fitted on validation images and outliers.

    A score's rank is its place among the scores of both together, from 0 to 1, so that no score's scale matters.

    Args:
        detectors: what to combine, each of another name.
        validation: features of images that nothing was fitted on.
        outliers: features of synthetic outliers; never of a dataset that detection is measured on.

    Raises:
        UsageError: no detector, or nothing to fit on.
    """
    from sklearn.linear_model import LogisticRegression

    if not detectors or not len(validation) or not len(outliers):
        raise UsageError("a combination needs detectors, validation images and outliers, at least one of each")
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


DETECTORS: Registry[Method] = Registry(
    "detector",
    (
        *LOGIT_METHODS,
        KL_MATCHING,
        MUTUAL_INFORMATION,
        DISAGREEMENT,
        REACT,
        MAHALANOBIS,
        RELATIVE_MAHALANOBIS,
        NEAREST_NEIGHBORS,
        VIM,
        VIM_PER_MEMBER,
        LAYERS,
        DISCRIMINATOR,
        Method(
            COMBINATION,
            "a logistic regression over the ranks of the other scores",
            "",
            _score_combination,
            fitted_on="validation images and synthetic outliers",
        ),
        ODIN,
        LEARNED,
    ),
)
"""Every score, of unfamiliar inputs and of mistakes."""


Score = TypeVar("Score", bound=Callable[..., Doubles])


def register(
    *, name: str, title: str, needs: Need = "logits", fit: Fit | None = None, paper: str = ""
) -> Callable[[Score], Score]:
    """Register a score of one's own: a decorator of ``(arrays, features) -> float64 (N,)``, higher more suspicious.

    Args:
        name: what it is called in figures.
        title: what it computes, in one line.
        needs: what :class:`Features` have to hold: ``logits``, ``penultimate``, ``layers`` or ``members``.
        fit: from :class:`Features` and labels, int64 (N,), of training images to arrays; None where nothing is fitted.
        paper: who proposed it.

    Raises:
        UsageError: the name is taken.

    >>> @hardy.ood.register(name="smallest_logit", title="the smallest logit")
    ... def smallest_logit(arrays, features):
    ...     return features.logits.min(axis=1).astype(float)
    >>> detector = hardy.ood.detector("smallest_logit", hardy.build_model("compact", width=4))
    >>> detector(torch.rand(3, 1, 28, 28)).shape
    (3,)
    >>> hardy.ood.DETECTORS.remove("smallest_logit")
    """

    def add(score: Score) -> Score:
        DETECTORS.add(Method(name, title, paper, score, fit, needs, "training images" if fit else "nothing"))
        return score

    return add
