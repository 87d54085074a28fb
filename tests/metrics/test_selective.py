"""Risk and coverage against their definitions: averages over every order of ties, counted out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from hardy.errors import UsageError
from hardy.metrics import (
    aurc,
    coverage_at_bounded_risk,
    coverage_at_risk,
    excess_aurc,
    risk_at_coverage,
    risk_coverage,
)
from hardy.rng import host_generator

FEW = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6)
MANY = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40)


def columns(rows: list[tuple[int, bool]]) -> tuple[NDArray, NDArray]:
    return np.array([score for score, _ in rows], dtype=float), np.array([wrong for _, wrong in rows])


def risks_of_every_order(score: NDArray, wrong: NDArray) -> NDArray:
    """The risk after each answer (orders, N), over all orders that never answer a higher score first."""
    orders = [order for order in itertools.permutations(range(len(score))) if (np.diff(score[list(order)]) >= 0).all()]
    return np.cumsum(wrong[np.array(orders)], axis=1) / np.arange(1, len(score) + 1)


@settings(max_examples=60, deadline=None)
@given(rows=FEW)
def test_aurc_is_the_mean_over_all_orders_of_ties(rows: list[tuple[int, bool]]) -> None:
    score, wrong = columns(rows)
    assert aurc(score, wrong) == pytest.approx(risks_of_every_order(score, wrong).mean(), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows=FEW)
def test_risk_at_coverage_is_the_mean_over_all_orders_of_ties(rows: list[tuple[int, bool]]) -> None:
    score, wrong = columns(rows)
    for answered, risk in enumerate(risks_of_every_order(score, wrong).mean(axis=0), start=1):
        assert risk_at_coverage(score, wrong, answered / len(score)) == pytest.approx(risk, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows=MANY)
def test_the_curve_has_a_point_for_each_threshold(rows: list[tuple[int, bool]]) -> None:
    score, wrong = columns(rows)
    cuts = np.unique(score)
    coverage, risk = risk_coverage(score, wrong)
    np.testing.assert_allclose(coverage, [np.mean(score <= cut) for cut in cuts])
    np.testing.assert_allclose(risk, [np.mean(wrong[score <= cut]) for cut in cuts])
    for bound in (0.0, 0.2, 0.5, 1.0):
        assert coverage_at_risk(score, wrong, bound) == max(coverage[risk <= bound], default=0.0)


@settings(max_examples=60, deadline=None)
@given(rows=MANY)
def test_no_score_is_better_than_the_best(rows: list[tuple[int, bool]]) -> None:
    score, wrong = columns(rows)
    assert -1e-12 <= excess_aurc(score, wrong) <= aurc(score, wrong) + 1e-12
    assert excess_aurc(wrong.astype(float), wrong) == pytest.approx(0.0, abs=1e-12)
    strict = np.argsort(np.argsort(wrong, kind="stable")).astype(float)
    assert excess_aurc(strict, wrong) == pytest.approx(0.0, abs=1e-12)


def test_aurc_without_ties_is_the_mean_of_running_risks() -> None:
    rng = host_generator(0, "aurc")
    score = rng.permutation(3000) / 3000
    wrong = rng.random(3000) < score**2
    running = np.cumsum(wrong[np.argsort(score)]) / np.arange(1, 3001)
    assert aurc(score, wrong) == pytest.approx(running.mean(), abs=1e-12)


def test_aurc_of_ties_is_what_random_orders_give_in_the_mean() -> None:
    rng = host_generator(0, "ties")
    score = rng.integers(0, 6, 200).astype(float)
    wrong = rng.random(200) < score / 10
    broken = [aurc(score + 0.5 * rng.permutation(200) / 200, wrong) for _ in range(400)]
    assert aurc(score, wrong) == pytest.approx(np.mean(broken), abs=float(4 * np.std(broken) / 20))


def test_a_score_that_knows_nothing_gets_the_error_rate() -> None:
    wrong = np.array([True, False, False, True, False])
    assert aurc(np.zeros(5), wrong) == pytest.approx(0.4)
    assert risk_at_coverage(np.zeros(5), wrong, 0.3) == pytest.approx(0.4)
    assert coverage_at_risk(np.zeros(5), wrong, 0.39) == 0.0


@pytest.mark.parametrize("rate", [0.005, 0.1, 0.5])
def test_the_best_of_many_examples_nears_its_limit(rate: float) -> None:
    n = 200_000
    wrong = np.arange(n) < rate * n
    assert aurc(wrong, wrong) == pytest.approx(rate + (1 - rate) * np.log(1 - rate), abs=1e-5)


@pytest.mark.parametrize("wrong", [False, True])
def test_all_right_and_all_wrong(wrong: bool) -> None:
    score, flags = np.array([0.1, 0.2, 0.2]), np.full(3, wrong)
    assert aurc(score, flags) == pytest.approx(float(wrong))
    assert excess_aurc(score, flags) == pytest.approx(0.0)
    assert risk_at_coverage(score, flags, 0.5) == pytest.approx(float(wrong))
    assert coverage_at_risk(score, flags, 0.0) == 1.0 - wrong


def test_part_of_an_example_counts_as_that_part() -> None:
    score, wrong = np.array([1.0, 2.0, 3.0]), np.array([False, True, False])
    assert risk_at_coverage(score, wrong, 0.5) == pytest.approx(0.5 / 1.5)
    assert risk_at_coverage(score, wrong, 0.1) == 0.0


def test_infinite_scores_are_answered_first_and_last() -> None:
    wrong = np.array([False, True, True])
    assert aurc(np.array([-np.inf, 0.0, np.inf]), wrong) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_at_coverage(np.ones(1), np.ones(1), 0.0), "coverage: 0.0"),
        (lambda: risk_at_coverage(np.ones(1), np.ones(1), 80), "coverage: 80"),
        (lambda: coverage_at_risk(np.ones(1), np.ones(1), -0.1), "risk: -0.1"),
        (lambda: coverage_at_risk(np.ones(1), np.ones(1), 2), "risk: 2"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


@settings(max_examples=40, deadline=None)
@given(rows=MANY, risk=st.sampled_from([0.05, 0.3, 0.6]), level=st.sampled_from([0.5, 0.95]))
def test_coverage_at_bounded_risk_holds_scipys_bound_against_the_risk(rows, risk: float, level: float) -> None:
    score, wrong = columns(rows)
    safe = [0.0]
    for cut in np.unique(score):
        answered = wrong[score <= cut]
        bound = binomtest(int(answered.sum()), len(answered), alternative="less").proportion_ci(level, "exact").high
        safe += [float(np.mean(score <= cut))] * bool(bound <= risk)
    assert coverage_at_bounded_risk(score, wrong, risk, level) == pytest.approx(max(safe))


@pytest.mark.parametrize(("right", "coverage"), [(2994, 0.0), (2995, 1.0)])
def test_a_risk_of_a_thousandth_takes_2995_right_answers(right: int, coverage: float) -> None:
    assert coverage_at_bounded_risk(np.arange(right), np.zeros(right, bool), 0.001) == coverage


def test_shuffling_ties_changes_no_figure() -> None:
    rng = host_generator(0, "ties")
    score, wrong = rng.integers(0, 5, 300).astype(float), rng.random(300) < 0.2
    for seed in range(5):
        order = host_generator(seed, "shuffle").permutation(300)
        for figure in (aurc, excess_aurc):
            assert figure(score[order], wrong[order]) == pytest.approx(figure(score, wrong), rel=1e-12)
        assert coverage_at_bounded_risk(score[order], wrong[order], 0.3) == coverage_at_bounded_risk(score, wrong, 0.3)


@pytest.mark.parametrize(
    ("risk", "level", "message"), [(0.0, 0.95, "risk: 0.0"), (1.0, 0.95, "risk"), (0.1, 1, "level")]
)
def test_a_bound_needs_a_risk_and_a_level(risk: float, level: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        coverage_at_bounded_risk(np.zeros(2), np.zeros(2, bool), risk, level)
