from __future__ import annotations

import pytest
from helpers.reports import estimate, scorecard

from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.report.verdicts import LEVELS, Verdict, verdicts

TINY = 1e-6
PGD = {"attack": "pgd", "norm": "linf"}


def card(*estimates: Estimate, classes: int = 10) -> Scorecard:
    subject = scorecard().subject.model_copy(update={"classes": classes})
    return scorecard(subject=subject, estimates=list(estimates))


def only(*estimates: Estimate, classes: int = 10) -> Verdict:
    (verdict,) = verdicts(card(*estimates, classes=classes))
    return verdict


def share(name: str, value: float, prop: str, *, setting: dict | None = None, width: float = 0.001, **more) -> Estimate:
    low, high = value - width, value + width
    return estimate(name, value, prop=prop, setting=setting, headline=True, low=low, high=high, **more)


def at_skill(skill: float, classes: int) -> float:
    return 1 / classes + skill * (1 - 1 / classes)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(
    ("prop", "metric", "fair", "good"),
    [
        ("accuracy", "accuracy", 0.80, 0.95),
        ("distribution_shift", "mean_accuracy", 0.60, 0.90),
        ("distribution_shift", "accuracy", 0.60, 0.90),
    ],
)
def test_right_answers_are_judged_from_chance_to_perfection(classes, prop, metric, fair, good):
    def level(skill: float) -> str:
        return only(share(metric, at_skill(skill, classes), prop), classes=classes).level

    assert [level(good + TINY), level(good - TINY)] == ["good", "fair"]
    assert [level(fair + TINY), level(fair - TINY)] == ["fair", "poor"]


def test_a_classifier_whose_interval_reaches_chance_is_blind():
    blind, sees = (
        share("accuracy", 0.11, "distribution_shift", setting={"corruption": "fog"}, width=width)
        for width in (0.0101, 0.0099)
    )
    blind, sees = (each.model_copy(update={"headline": False}) for each in (blind, sees))
    assert only(blind).words == "blind (11.0 %)"
    assert only(sees).words == "right 11.0 %"
    # Of two classes, half is chance; and what the estimate says of chance goes before.
    assert only(share("accuracy", 0.5, "accuracy"), classes=2).words.startswith("blind")
    assert only(share("accuracy", 0.5, "accuracy", chance=0.6)).words.startswith("blind")


@pytest.mark.parametrize("prop", ["error_detection", "out_of_distribution"])
def test_a_ranking_is_judged_by_how_often_it_is_right(prop):
    def verdict(value: float) -> Verdict:
        return only(share("auroc", value, prop, unit="number", chance=0.5))

    assert [verdict(0.95 + TINY).level, verdict(0.95 - TINY).level] == ["good", "fair"]
    assert [verdict(0.80 + TINY).level, verdict(0.80 - TINY).level] == ["fair", "poor"]
    assert verdict(0.99).words == "99.00 % of pairs in the right order"
    assert verdict(0.5009).words.startswith("no better than a coin")
    assert not verdict(0.5011).words.startswith("no better than a coin")


@pytest.mark.parametrize(
    ("value", "level"), [(0.8 + TINY, "good"), (0.8 - TINY, "fair"), (0.5 + TINY, "fair"), (0.5 - TINY, "poor")]
)
def test_a_robust_accuracy_is_judged_as_it_is(value, level):
    assert only(share("robust_accuracy", value, "adversarial", setting={**PGD, "eps": 0.3})).level == level


def test_where_a_classifier_falls_is_said():
    def robust(eps: float, value: float, norm: str = "linf", headline: bool = False) -> Estimate:
        setting = {"attack": "pgd", "norm": norm, "eps": eps}
        return share("robust_accuracy", value, "adversarial", setting=setting).model_copy(update={"headline": headline})

    at_once = (robust(0.3, 0.0, headline=True), robust(0.1, 0.2), robust(0.05, 0.49))
    assert only(*at_once).words == "falls to the smallest perturbation tried (ε = 0.05)"
    later = (robust(0.3, 0.0, headline=True), robust(0.1, 0.2), robust(0.05, 0.51), robust(0.01, 0.0, norm="l2"))
    assert only(*later).words == "right 0.00 %; most images fall by ε = 0.1"
    assert only(robust(0.3, 0.2, headline=True)).words == "right 20.00 %; most images fall by ε = 0.3"


def test_calibration_is_honest_within_chance_and_judged_beyond():
    def calibration(value: float, p_value: float, floor: float) -> Verdict:
        ece = share(
            "ece",
            value,
            "calibration",
            setting={"bins": 15},
            higher_is_better=False,
            chance_band=(0.0, floor),
        )
        ece = ece.model_copy(update={"low": None, "high": None, "no_interval": "chance adds to it"})
        rest = [
            share("calibration_p_value", p_value, "calibration", setting={"bins": 15}),
            # Of another setting: says nothing of this one.
            share("calibration_p_value", 1.0, "calibration", setting={"bins": 15, "calibrator": "temperature"}),
        ]
        return only(ece, *(each.model_copy(update={"headline": False}) for each in rest))

    assert calibration(0.2, 0.05, 0.0).words == "honest within chance"
    assert calibration(0.2, 0.05 - TINY, 0.2).words == "honest within chance"
    assert calibration(0.2, 0.05 - TINY, 0.2 - TINY).words == "20 % off on average"
    levels = [calibration(value, 0.0, 0.0).level for value in (0.01, 0.01 + TINY, 0.05, 0.05 + TINY)]
    assert levels == ["good", "fair", "fair", "poor"]


def test_prediction_sets_must_hold_what_they_promise_and_name_few_classes():
    def sets(coverage: float, size: float) -> Verdict:
        setting = {"sets": "lac", "alpha": 0.05}
        held = share("coverage", coverage, "conformal", setting=setting, width=0.0, higher_is_better=None)
        named = share("mean_set_size", size, "conformal", setting=setting, unit="number", bounds=None)
        return only(held, named.model_copy(update={"headline": False}))

    assert sets(0.95, 1.0).words == "hold the truth 95.00 % of the time, 95 % promised"
    assert [sets(value, 1.0).level for value in (0.95, 0.95 - TINY, 0.93 + TINY, 0.93 - TINY)] == [
        "good",
        "fair",
        "fair",
        "poor",
    ]
    # Of nine wrong classes a tenth, and half.
    assert [sets(1.0, size).level for size in (1.9 - TINY, 1.9 + TINY, 5.5 - TINY, 5.5 + TINY)] == [
        "good",
        "fair",
        "fair",
        "poor",
    ]
    assert sets(1.0, 10.0).words.endswith("by naming 10 of 10 classes")


def test_the_worst_comes_first_and_what_is_not_judged_last():
    estimates = [
        share("accuracy", 0.996, "accuracy"),
        share("auroc", 0.85, "error_detection"),
        share("kindness", 0.1, "user_property"),
        share("mean_accuracy", 0.7, "distribution_shift"),
        share("accuracy", 0.5, "distribution_shift", setting={"corruption": "stripe"}).model_copy(
            update={"headline": False}
        ),
        share("accuracy", 0.1, "distribution_shift", setting={"corruption": "fog"}).model_copy(
            update={"headline": False}
        ),
        share("robust_accuracy", 0.3, "adversarial", setting={**PGD, "eps": 0.3}),
    ]
    found = verdicts(card(*estimates))
    assert [(each.subject, each.level) for each in found] == [
        ("Fog", "poor"),
        ("Under attack", "poor"),
        ("Corrupted images", "fair"),
        ("Spots its own mistakes", "fair"),
        ("Clean images", "good"),
        ("Kindness", "unknown"),
    ]
    assert verdicts(card(*reversed(estimates))) == found
    order = list(LEVELS)
    assert [order.index(each.level) for each in found] == sorted(order.index(each.level) for each in found)


def test_a_property_that_no_rule_knows_is_shown_as_it_is():
    verdict = only(share("kindness", 0.42, "user_property", unit="number", bounds=None, question="Is it kind?"))
    assert (verdict.subject, verdict.level, verdict.words) == ("Is it kind?", "unknown", "0.4200 (0.4190 to 0.4210)")


def test_variants_of_a_figure_speak_only_where_they_are_worse_and_other_datasets_always():
    def ece(value: float, **setting) -> Estimate:
        return share("ece", value, "calibration", setting={"bins": 15, **setting}, higher_is_better=False)

    first, same, worse = ece(0.001), ece(0.002, calibrator="temperature"), ece(0.4, calibrator="beta")
    elsewhere = first.model_copy(update={"dataset": "other/test"})
    assert [(each.level, each.detail) for each in verdicts(card(first, same, worse, elsewhere))] == [
        ("poor", "15 bins, beta · mnist/test"),
        ("good", "15 bins · mnist/test"),
        ("good", "15 bins · other/test"),
    ]
    assert [each.level for each in verdicts(card(worse, first))] == ["poor"]


def test_every_level_has_an_icon_and_a_word_of_its_own():
    assert len({icon for icon, _ in LEVELS.values()}) == len({word for _, word in LEVELS.values()}) == len(LEVELS)
