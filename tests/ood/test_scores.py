"""Scores from logits, in closed form and where rounding would hide differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from scipy.special import log_softmax, logsumexp, softmax

from hardy.ood import SCORES


def test_max_softmax_is_minus_the_log_of_the_largest_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(200, 10), scale=3.0)
    assert SCORES["max_softmax"](logits) == pytest.approx(-log_softmax(logits, axis=1).max(axis=1), abs=1e-14)


@pytest.mark.parametrize("gap", [1.0, 30.0, 40.0, 300.0])
def test_max_softmax_tells_apart_probabilities_that_round_to_1(gap: float) -> None:
    logits = np.array([[gap, 0.0, 0.0]])
    assert SCORES["max_softmax"](logits)[0] == pytest.approx(math.log1p(2 * math.exp(-gap)), rel=1e-12)


def test_a_temperature_does_not_tie_what_differs() -> None:
    """Logits scaled by 100 keep the order of two classes' margins."""
    logits = np.array([[margin, 0.0] for margin in np.linspace(0.1, 5.0, 50)])
    assert (np.diff(SCORES["max_softmax"](100 * logits)) < 0).all()


@pytest.mark.parametrize("name", SCORES)
def test_equal_answers_to_different_classes_are_equally_suspicious(name: str) -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=10).astype(np.float32)
    shuffled = np.stack([rng.permutation(row) for _ in range(50)])
    assert len(np.unique(SCORES[name](shuffled))) == 1


def test_max_logit_is_minus_the_largest_logit() -> None:
    assert SCORES["max_logit"](np.array([[1.0, -2.0], [-3.0, -4.0]])).tolist() == [-1.0, 3.0]


def probabilities(count: int = 200, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    logits = np.random.default_rng(1).normal(size=(count, classes), scale=3.0)
    return logits, softmax(logits, axis=1)


def test_margin_is_the_log_odds_of_the_two_likeliest() -> None:
    logits, p = probabilities()
    top = np.sort(p, axis=1)[:, -2:]
    assert SCORES["margin"](logits) == pytest.approx(np.log(top[:, 0] / top[:, 1]))


def test_entropy_is_that_of_scipy() -> None:
    logits, p = probabilities()
    assert SCORES["entropy"](logits) == pytest.approx(scipy.stats.entropy(p, axis=1))
    assert SCORES["entropy"](np.zeros((1, 10)))[0] == pytest.approx(math.log(10))


def test_energy_is_minus_logsumexp() -> None:
    logits, _ = probabilities()
    assert SCORES["energy"](logits) == pytest.approx(-logsumexp(logits, axis=1))


def test_uniform_cross_entropy_is_smallest_where_nothing_is_known() -> None:
    logits, p = probabilities()
    assert SCORES["uniform_cross_entropy"](logits) == pytest.approx(np.log(p).mean(axis=1))
    assert SCORES["uniform_cross_entropy"](np.zeros((1, 10)))[0] == pytest.approx(-math.log(10))


def test_generalized_entropy_follows_its_formula() -> None:
    logits, p = probabilities()
    assert SCORES["generalized_entropy"](logits) == pytest.approx(((p * (1 - p)) ** 0.1).sum(axis=1))


@pytest.mark.parametrize("name", ["entropy", "generalized_entropy", "uniform_cross_entropy", "margin"])
def test_a_common_shift_of_all_logits_says_nothing(name: str) -> None:
    logits, _ = probabilities()
    assert SCORES[name](logits + 7.0) == pytest.approx(SCORES[name](logits), abs=1e-9)


@pytest.mark.parametrize("name", SCORES)
def test_huge_logits_give_finite_scores(name: str) -> None:
    assert np.isfinite(SCORES[name](np.array([[1e5, 0.0, -1e5], [1e5, 1e5, 1e5]], np.float32))).all()


scores = pytest.mark.parametrize("name", SCORES)


@scores
def test_a_score_is_higher_the_less_there_is_to_go_by(name: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 10)).astype(np.float32)
    found = SCORES[name](logits)
    assert found.shape == (50,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    rising = np.stack([size * np.eye(10)[3] for size in (0.0, 1.0, 5.0, 30.0, 200.0)]).astype(np.float32)
    assert (np.diff(SCORES[name](rising)) < 0).all()


@scores
def test_a_score_of_an_example_is_its_own(name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    alone = np.concatenate([SCORES[name](logits[row : row + 1]) for row in range(20)])
    assert np.allclose(SCORES[name](logits), alone, rtol=1e-12)
    assert SCORES[name](logits[:0]).shape == (0,)


@scores
def test_a_score_says_what_it_is(name: str) -> None:
    assert (SCORES[name].__doc__ or "").startswith("(N,): ")
