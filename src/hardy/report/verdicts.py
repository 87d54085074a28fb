"""The figures in words, worst first: what a reader should know after ten seconds.

A verdict follows from the estimates alone, for any dataset and number of classes. Most figures are judged by their
skill, which is 0 at chance and 1 at perfection, so that two classes are held to the same standard as a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.report import formatting

Level: TypeAlias = Literal["poor", "fair", "good", "unknown"]

LEVELS: dict[Level, tuple[str, str]] = {
    "poor": ("✕", "poor"),
    "fair": ("!", "fair"),
    "good": ("✓", "good"),
    "unknown": ("•", "not judged"),
}
"""Each level's icon and word, in the order of the verdicts."""

# The least skill that is (fair, good); what is less is poor. An area under the ROC curve of .8 is a skill of .6.
CLEAN = (0.80, 0.95)
RANKING = (0.60, 0.90)
SHIFTED = (0.60, 0.90)
# The least robust accuracy, of which chance is 0: an attack can make every answer wrong.
ATTACKED = (0.50, 0.80)
# The largest calibration error that is (fair, good), where it is more than chance: a p-value below P_VALUE.
CALIBRATION = (0.05, 0.01)
P_VALUE = 0.05
# How far coverage may fall short of the promise, beyond chance, and still be fair.
SHORT = 0.02
# The largest share of wrong answers among those given, or of answers to what belongs to no class.
WRONG = (0.10, 0.01)
# The largest share of the wrong classes that a prediction set names which is (fair, good).
NAMED = (0.50, 0.10)


class Verdict(NamedTuple):
    """One line of the opening: ``subject: words``, as "Clean images: right 99.6 %".

    ``property`` has the details, ``rank`` orders the verdicts of one level, the worst first, and ``detail`` says what
    the figure was measured with and on.
    """

    property: str
    level: Level
    subject: str
    words: str
    rank: float
    detail: str


_Judgement: TypeAlias = tuple[Level, str, float]
_Rule: TypeAlias = Callable[[Estimate, Scorecard], _Judgement]


def verdicts(scorecard: Scorecard) -> list[Verdict]:
    """One for each headline metric and dataset, and one for the worst corruption; the worst first."""
    order = list(LEVELS)
    found: dict[tuple[str, ...], list[Verdict]] = {}
    for estimate in filter(lambda each: each.headline, scorecard.estimates):
        key = (estimate.property, estimate.metric, estimate.dataset)
        subject, rule = _RULES.get(key[:2], (formatting.figure(estimate).question, _unknown))
        verdict = _verdict(estimate, scorecard, subject, rule)
        said = found.setdefault(key, [])
        # The first of its kind speaks; of its variants only what is worse is worth a line.
        if all(order.index(verdict.level) < order.index(other.level) for other in said):
            said.append(verdict)
    corrupted = [each for each in scorecard.estimates if each.metric == "accuracy" and "corruption" in each.setting]
    worst = [
        _verdict(estimate, scorecard, formatting.sentence(str(estimate.setting["corruption"])), _right(SHIFTED))
        for estimate in sorted(corrupted, key=lambda each: each.value)[:1]
    ]
    known = [verdict for said in found.values() for verdict in said]
    return sorted([*known, *worst], key=lambda verdict: (order.index(verdict.level), verdict.rank))


def _verdict(estimate: Estimate, scorecard: Scorecard, subject: str, rule: _Rule) -> Verdict:
    figure = formatting.figure(estimate)
    detail = " · ".join(filter(None, (figure.setting, figure.dataset)))
    level, words, rank = rule(estimate, scorecard)
    return Verdict(estimate.property, level, subject, words, rank, detail)


def _low(estimate: Estimate) -> float:
    return estimate.value if estimate.low is None else estimate.low


def _level(value: float, least: tuple[float, float]) -> Level:
    fair, good = least
    return "good" if value >= good else "fair" if value >= fair else "poor"


def _right(least: tuple[float, float]) -> _Rule:
    """Judges a share of right answers; it is blind where the interval reaches down to chance."""

    def rule(estimate: Estimate, scorecard: Scorecard) -> _Judgement:
        chance = 1 / scorecard.subject.classes if estimate.chance is None else estimate.chance
        skill = (estimate.value - chance) / (1 - chance or 1.0)
        share = formatting.percent(estimate)
        if _low(estimate) <= chance:
            return "poor", f"blind ({share})", skill
        return _level(skill, least), f"right {share}", skill

    return rule


def _ranks(estimate: Estimate, _: Scorecard) -> _Judgement:
    """Judges an area under the ROC curve: how often of two inputs the right one is the more suspicious."""
    skill = 2 * estimate.value - 1
    if _low(estimate) <= 0.5:
        return "poor", f"no better than a coin ({formatting.percent(estimate)})", skill
    return _level(skill, RANKING), f"{formatting.percent(estimate)} of pairs in the right order", skill


def _honest(estimate: Estimate, scorecard: Scorecard) -> _Judgement:
    band = estimate.chance_band
    p_value = _beside(estimate, scorecard, "calibration_p_value")
    if (p_value is not None and p_value.value >= P_VALUE) or (band is not None and estimate.value <= band[1]):
        return "good", "honest within chance", 1 - estimate.value
    level = _level(-estimate.value, (-CALIBRATION[0], -CALIBRATION[1]))
    return level, f"{formatting.percent(estimate)} off on average", 1 - estimate.value


def _covers(estimate: Estimate, scorecard: Scorecard) -> _Judgement:
    alpha = float(estimate.setting.get("alpha", 0.0))
    band, high = estimate.chance_band, estimate.value if estimate.high is None else estimate.high
    # What the draw of the validation images explains is not short.
    short = 0.0 if band and estimate.value >= band[0] else max(1 - alpha - high, 0.0)
    words = f"hold the truth {formatting.percent(estimate)} of the time, {100 * (1 - alpha):.4g} % promised"
    level: Level = "good" if short == 0 else "fair" if short <= SHORT else "poor"
    size = _beside(estimate, scorecard, "mean_set_size")
    if size is not None and scorecard.subject.classes > 1:
        named = max(size.value - 1, 0.0) / (scorecard.subject.classes - 1)
        width = _level(-named, (-NAMED[0], -NAMED[1]))
        if list(LEVELS).index(width) < list(LEVELS).index(level):
            level, words = width, f"{words}, by naming {size.value:.2g} of {scorecard.subject.classes} classes"
    return level, words, 1 - short


def _withstands(estimate: Estimate, scorecard: Scorecard) -> _Judgement:
    if estimate.warnings:
        return "poor", f"right {formatting.percent(estimate)} at most, and that is suspect", estimate.value
    level = _level(estimate.value, ATTACKED)
    tried: dict[float, float] = {}
    for other in scorecard.estimates:
        same = (other.property, other.metric, other.dataset) == (estimate.property, estimate.metric, estimate.dataset)
        if same and other.setting.get("norm") == estimate.setting.get("norm") and "eps" in other.setting:
            eps = float(other.setting["eps"])
            tried[eps] = min(other.value, tried.get(eps, 1.0))
    fell = [formatting.radius_words(eps) for eps, value in sorted(tried.items()) if value < ATTACKED[0]]
    if level != "poor" or not fell:
        return level, f"right {formatting.percent(estimate)}", estimate.value
    if fell[0] == formatting.radius_words(min(tried)) and len(tried) > 1:
        return (
            level,
            f"falls to the smallest perturbation tried (ε = {fell[0]})",
            estimate.value,
        )
    return (
        level,
        f"right {formatting.percent(estimate)}; most images fall by ε = {fell[0]}",
        estimate.value,
    )


def _wrongly(what: str) -> _Rule:
    """Judges a share of answers that should not be."""

    def rule(estimate: Estimate, _: Scorecard) -> _Judgement:
        level = _level(-estimate.value, (-WRONG[0], -WRONG[1]))
        return level, f"{formatting.percent(estimate)} {what}", 1 - estimate.value

    return rule


def _unknown(estimate: Estimate, _: Scorecard) -> _Judgement:
    figure = formatting.figure(estimate)
    return "unknown", figure.value + (f" ({figure.interval})" if figure.interval != "none" else ""), 0.0


def _beside(estimate: Estimate, scorecard: Scorecard, metric: str) -> Estimate | None:
    """The figure of another metric in the same setting."""
    place = (estimate.property, metric, estimate.dataset, estimate.setting)
    for other in scorecard.estimates:
        if (other.property, other.metric, other.dataset, other.setting) == place:
            return other
    return None


_RULES: dict[tuple[str, str], tuple[str, _Rule]] = {
    ("accuracy", "accuracy"): ("Clean images", _right(CLEAN)),
    ("calibration", "ece"): ("Calibration", _honest),
    ("conformal", "coverage"): ("Prediction sets", _covers),
    ("error_detection", "auroc"): ("Spots its own mistakes", _ranks),
    ("out_of_distribution", "auroc"): ("Notices what belongs to no class", _ranks),
    ("distribution_shift", "mean_accuracy"): ("Corrupted images", _right(SHIFTED)),
    ("distribution_shift", "accuracy"): ("Images from elsewhere", _right(SHIFTED)),
    ("adversarial", "robust_accuracy"): ("Under attack", _withstands),
    ("system", "wrong_among_answered"): ("The whole system under attack", _wrongly("of what it answers is wrong")),
    ("system", "outliers_answered"): ("Moved to be answered", _wrongly("of what belongs to no class is answered")),
}
