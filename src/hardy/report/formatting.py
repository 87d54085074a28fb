"""How figures read: plain names, settings in words, and as many digits as the interval supports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from hardy.evaluation.scorecard import Estimate, Scorecard

_TITLES = {
    "aupr": "Area under the precision-recall curve",
    "aupr_in": "Area under the precision-recall curve, test images positive",
    "aurc": "Area under the risk-coverage curve",
    "auroc": "Area under the ROC curve",
    "brier": "Brier score",
    "brier_reliability": "Brier score: reliability",
    "brier_resolution": "Brier score: resolution",
    "brier_uncertainty": "Brier score: uncertainty",
    "calibration_p_value": "Chance of such a calibration error if calibrated",
    "class_accuracy": "Accuracy on one class",
    "class_wise_ece": "Expected calibration error by class",
    "coverage_at_bounded_risk": "Coverage at a risk surely bounded",
    "debiased_ece": "Expected calibration error less chance",
    "debiased_squared_calibration_error": "Squared calibration error less chance",
    "ece": "Expected calibration error",
    "ece_noise_floor": "Calibration error of a perfectly calibrated classifier",
    "excess_aurc": "Area above the best risk-coverage curve",
    "fpr_at_95_tpr": "False positive rate at 95 % true positives",
    "flip_rate": "Answers that flip from one frame to the next",
    "max_calibration_error": "Maximum calibration error",
    "mean_accuracy": "Mean accuracy over corruptions",
    "mean_corruption_error": "Mean corruption error, the reference being 1",
    "nll": "Negative log-likelihood",
    "relative_mean_corruption_error": "Mean rise of the error under corruption, the reference being 1",
    "rms_calibration_error": "RMS calibration error",
}
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}
_ACRONYMS = {"apgd", "ce", "cw", "dlr", "fgsm", "odin", "pgd"}
_ATTACK_FIRST = {"attack": 0, "norm": 1, "eps": 2}
_SPEAKS_FOR_ITSELF = ("attack", "score", "corruption", "calibrator")
_SHARE = re.compile(r"accuracy|rate|share|coverage|fpr|tpr|calibration_error|ece|risk")
_FROM_0_TO_1 = ("aupr", "aupr_in", "auroc")

_MOST_DECIMALS = 6


class Figure(NamedTuple):
    """A metric in words.

    ``share`` says that it reads as a percentage, ``scale`` that it lies on the scale from 0 to 1.
    """

    property: str
    name: str
    dataset: str
    setting: str
    value: str
    interval: str
    n: str
    direction: str
    share: bool
    scale: bool
    metric: Estimate


def figure(metric: Estimate) -> Figure:
    """How a metric reads."""
    share = is_share(metric)
    value, low, high = numbers(metric.value, metric.low, metric.high, share=share)
    unit = " %" if share else ""
    return Figure(
        property=sentence(metric.property),
        name=_TITLES.get(metric.metric) or sentence(metric.metric),
        dataset=metric.dataset,
        setting=setting_words(metric.setting),
        value=value + unit,
        interval=f"{low} to {high}{unit}",
        n=f"{metric.n:,}",
        direction=direction(metric.higher_is_better),
        share=share,
        scale=share or metric.metric in _FROM_0_TO_1,
        metric=metric,
    )


def is_share(metric: Estimate) -> bool:
    """Whether a metric reads best as a percentage."""
    return bool(_SHARE.search(metric.metric)) and metric.low >= 0 and metric.high <= 1


def numbers(value: float, low: float, high: float, *, share: bool) -> tuple[str, ...]:
    """Value, low and high as text, to the second digit of the interval's width; shares in percent, without the sign."""
    scale = 100 if share else 1
    width = scale * (high - low)
    without_interval = 2 if share else 4
    decimals = max(0, 1 - math.floor(math.log10(width))) if width > 0 else without_interval
    numbers = (scale * value, scale * low, scale * high)
    if decimals > _MOST_DECIMALS:
        texts = [f"{number:.3g}" for number in numbers]
    else:
        # Adding 0.0 turns a negative zero into zero.
        texts = [f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers]
    return tuple(text.replace("-", "−") for text in texts)


def direction(higher_is_better: bool | None) -> str:
    """Which way is better, in words; empty where neither is."""
    if higher_is_better is None:
        return ""
    return "↑ higher" if higher_is_better else "↓ lower"


def sentence(name: str) -> str:
    """A name in code as words: ``out_of_distribution`` is "Out of distribution"."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def setting_words(setting: Mapping[str, object]) -> str:
    """A metric's setting in words: "PGD, ℓ∞, ε = 0.3"."""
    ordered = sorted(setting.items(), key=lambda item: _ATTACK_FIRST.get(item[0], len(_ATTACK_FIRST)))
    return ", ".join(_pair_words(key, value) for key, value in ordered)


def _pair_words(key: str, value: object) -> str:
    name = key.replace("_", " ")
    match value:
        case bool():
            return name if value else f"not {name}"
        case float():
            value = f"{value:g}"
    if key == "norm":
        return _NORMS.get(str(value), str(value))
    if key == "eps":
        return f"ε = {value}"
    if key in _SPEAKS_FOR_ITSELF:
        parts = re.split("[-_]", str(value))
        return "-".join(parts).upper() if parts[0] in _ACRONYMS else str(value).replace("_", " ")
    counts = isinstance(value, int) and name.endswith("s") and not name.endswith("ss")
    return f"{value} {name}" if counts else f"{name} {value}"


def subject_line(scorecard: Scorecard) -> str:
    """What was measured, in one line."""
    subject = scorecard.subject
    return f"{subject.architecture}, {subject.parameters:,} parameters, {subject.classes} classes"


def measuring_line(scorecard: Scorecard) -> str:
    """How it was measured, in one line."""
    limit = f", at most {scorecard.limit:,} examples a measurement" if scorecard.limit is not None else ""
    return f"{scorecard.budget} budget{limit}, seed {scorecard.seed}, on {scorecard.environment.device}"


def commit_words(scorecard: Scorecard) -> str:
    """The git commit, and whether the tree differed from it."""
    environment = scorecard.environment
    if environment.git_commit is None:
        return "not from a git checkout"
    return environment.git_commit + (" with uncommitted changes" if environment.git_dirty else "")


def short_commit(scorecard: Scorecard) -> str:
    """The first digits of the git commit, with a + where the tree differed from it."""
    environment = scorecard.environment
    return (environment.git_commit or "–")[:10] + ("+" if environment.git_dirty else "")


def flat(content: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs, in order."""
    pairs: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return pairs
