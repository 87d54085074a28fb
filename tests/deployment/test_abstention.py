"""The decision: each rule fires alone, thresholds refuse what they may, and no image depends on another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardy.deployment.abstention import RULES, Scored, Thresholds, decide, fit_thresholds
from hardy.errors import UsageError

THRESHOLDS = Thresholds(max_ood_score=5.0, min_confidence=0.6)
REFERENCE = np.arange(10.0)


def decide_one(
    probabilities: tuple[float, ...] = (0.1, 0.9),
    members: tuple[bool, ...] = (False, True),
    ood_score: float = 1.0,
    foreground: bool = True,
    several: bool = False,
):
    return decide(
        np.array([probabilities]),
        np.array([members]),
        np.array([ood_score]),
        np.array([foreground]),
        np.array([several]),
        thresholds=THRESHOLDS,
        reference=REFERENCE,
    )


def test_an_ordinary_image_is_answered() -> None:
    decisions = decide_one()
    assert decisions.answered.tolist() == [True]
    assert decisions.best.tolist() == [1]
    assert decisions.confidence.tolist() == [0.9]
    assert decisions.reasons(0) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"foreground": False}, "no_foreground"),
        ({"several": True}, "several_objects"),
        ({"ood_score": 5.1}, "ood_score"),
        ({"probabilities": (0.41, 0.59)}, "confidence"),
        ({"members": (True, True)}, "prediction_set"),
        ({"members": (False, False)}, "prediction_set"),
    ],
)
def test_each_rule_fires_alone_and_is_named(change: dict, rule: str) -> None:
    decisions = decide_one(**change)
    assert decisions.answered.tolist() == [False]
    assert decisions.reasons(0) == [rule]


def test_a_value_at_the_threshold_is_answered() -> None:
    assert decide_one(ood_score=5.0, probabilities=(0.4, 0.6)).answered.all()


def test_all_rules_that_fire_are_named_in_order() -> None:
    decisions = decide_one(
        foreground=False, several=True, ood_score=9.0, probabilities=(0.5, 0.5), members=(True, True)
    )
    assert decisions.reasons(0) == list(RULES)


@pytest.mark.parametrize(("ood_score", "percentile"), [(-1.0, 0.0), (0.5, 10.0), (4.5, 50.0), (99.0, 100.0)])
def test_the_percentile_is_the_share_of_validation_images_below(ood_score: float, percentile: float) -> None:
    assert decide_one(ood_score=ood_score).percentile.tolist() == [percentile]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.2]), st.integers(200, 600))
def test_thresholds_refuse_at_most_the_target_and_nearly_as_much(seed: int, target: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    inside = Scored(rng.uniform(size=n), np.zeros(n, dtype=bool), rng.normal(size=n))
    for outside in ([], [Scored(np.ones(9), np.zeros(9, dtype=bool), rng.normal(2, 1, size=9))]):
        refused = inside.refused(fit_thresholds(inside, target, outside))
        assert target * n - 3 < refused.sum() <= target * n


def test_how_the_rules_share_is_chosen_by_the_family_that_is_refused_least() -> None:
    rng = np.random.default_rng(1)
    inside = Scored(rng.uniform(size=2000), np.zeros(2000, dtype=bool), rng.normal(size=2000))
    sure = Scored(np.ones(300), np.zeros(300, dtype=bool), rng.normal(2.2, 0.3, size=300))
    unsure = Scored(np.full(300, 0.003), np.zeros(300, dtype=bool), np.zeros(300))
    equally, by_score = fit_thresholds(inside, 0.02), fit_thresholds(inside, 0.02, [sure])
    assert by_score.max_ood_score < equally.max_ood_score
    assert sure.refused(by_score).mean() > sure.refused(equally).mean()
    assert fit_thresholds(inside, 0.02, [sure, unsure]).min_confidence > 0.003


def test_prediction_sets_count_towards_the_target_and_leave_half_of_it_at_least() -> None:
    rng = np.random.default_rng(0)
    confidence, ood_score = rng.uniform(size=1000), rng.normal(size=1000)

    def refused(unclear: int) -> int:
        inside = Scored(confidence, np.arange(1000) < unclear, ood_score)
        return int(inside.refused(fit_thresholds(inside, 0.1)).sum())

    assert 98 <= refused(0) <= 100
    assert 98 <= refused(40) <= 100
    assert 548 <= refused(500) <= 550


@pytest.mark.parametrize(("n", "target"), [(0, 0.1), (10, 0.0), (10, 1.0)])
def test_what_no_threshold_can_be_set_on_is_refused(n: int, target: float) -> None:
    with pytest.raises(UsageError):
        fit_thresholds(Scored(np.ones(n), np.zeros(n, dtype=bool), np.ones(n)), target)
