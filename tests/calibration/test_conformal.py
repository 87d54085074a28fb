"""Conformal prediction sets: the exact quantile, the coverage that theory promises, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from scipy.stats import binom

from hardy.calibration.conformal import (
    CONFORMAL,
    answers_of,
    conformal_quantile,
    coverage_band,
    fit_conformal,
    restore_conformal,
)
from hardy.errors import DataError, UsageError
from hardy.rng import Randomness, host_generator

kinds = pytest.mark.parametrize("kind", CONFORMAL)


def streams(n: int, *purpose: str | int) -> Randomness:
    return Randomness(0, torch.arange(n), purpose)


def examples(n: int, *purpose: str | int, classes: int = 4) -> tuple[NDArray, NDArray]:
    """Probabilities of a classifier that is too sure of itself, and labels."""
    rng = host_generator(0, *purpose)
    logits = 2.0 * rng.normal(size=(n, classes))
    truth = softmax(logits / 1.5, axis=1).cumsum(axis=1)
    return softmax(logits, axis=1), (truth < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize(("fitted_on", "measured_on"), [(200, 1000), (1000, 200)])
def test_the_band_holds_the_coverage_of_both_draws(fitted_on: int, measured_on: int) -> None:
    """The interval of a share of test examples alone would hold what was promised in 68 % of the first."""
    rng = host_generator(fitted_on, "band")
    low, high = coverage_band(fitted_on, measured_on, 0.1) or (0.0, 0.0)
    thresholds = [conformal_quantile(rng.random(fitted_on), 0.1) for _ in range(1000)]
    shares = np.array([(rng.random(measured_on) <= threshold).mean() for threshold in thresholds])
    # Shares of 200 come in steps, so the band holds a little more.
    assert 0.93 <= ((low <= shares) & (shares <= high)).mean() <= 0.985
    assert low < 0.9 < high
    assert coverage_band(5, 100, 0.1) is None


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [(9, 0.1, 9), (10, 0.1, 10), (19, 0.05, 19), (20, 0.05, 20), (99, 0.01, 99), (99, 0.05, 95), (3, 0.9, 1)],
)
def test_the_quantile_is_that_rank_exactly(n: int, alpha: float, rank: int) -> None:
    """Also where (n+1)(1-alpha) is whole, and floating point a little above."""
    scores = host_generator(0, "scores").permutation(n) + 1.0
    assert conformal_quantile(scores, alpha) == rank


@pytest.mark.parametrize(("n", "alpha"), [(0, 0.5), (8, 0.1), (18, 0.05), (98, 0.01)])
def test_too_few_scores_have_no_quantile(n: int, alpha: float) -> None:
    assert conformal_quantile(np.zeros(n), alpha) == math.inf


@pytest.mark.parametrize("kind", ["lac", "aps", "raps"])
@pytest.mark.parametrize("n", [20, 1000])
@pytest.mark.parametrize("alpha", [0.1, 0.05])
def test_coverage_over_200_splits_is_what_theory_says(kind: str, n: int, alpha: float) -> None:
    """Of one fresh example a split, covered with probability k/(n+1): of 200, within the 99.9 % binomial interval."""
    hits = 0
    for split in range(200):
        probabilities, labels = examples(n + 1, kind, n, split)
        rule = fit_conformal(kind, probabilities[:n], labels[:n], alpha, streams(n, kind, split))
        sets = rule.sets(probabilities[n:], streams(1, kind, split, "fresh"))
        hits += int(sets[0, labels[n]])
    chance = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
    low, high = binom.ppf([0.0005, 0.9995], 200, chance)
    assert low <= hits <= high


def test_each_class_is_covered_where_it_has_its_own_threshold() -> None:
    """One class is hard: on average sets cover enough, but not of this class."""
    rng = host_generator(0, "hard")
    labels = rng.integers(0, 3, 12_000)
    logits = 3.0 * np.eye(3)[labels] + rng.normal(size=(12_000, 3))
    hard = labels == 2
    logits[hard] = rng.normal(size=(int(hard.sum()), 3))
    probabilities = softmax(logits, axis=1)
    coverage = {}
    for kind in ("lac", "class_conditional"):
        rule = fit_conformal(kind, probabilities[:6000], labels[:6000], 0.1, streams(6000))
        sets = rule.sets(probabilities[6000:], streams(6000))
        covered = sets[np.arange(6000), labels[6000:]]
        coverage[kind] = np.array([covered[labels[6000:] == label].mean() for label in range(3)])
    assert coverage["lac"].mean() == pytest.approx(0.9, abs=0.02)
    assert coverage["lac"][2] < 0.75
    assert coverage["class_conditional"] == pytest.approx(np.full(3, 0.9), abs=0.03)


def test_lac_in_closed_form() -> None:
    """Nine answers and alpha .2: the eighth of the sorted scores .1 to .9."""
    true = np.arange(1, 10) / 10
    probabilities = np.stack([1 - true, true], axis=1)
    rule = fit_conformal("lac", probabilities, np.zeros(9, int), 0.2, streams(9))
    assert rule.arrays["threshold"] == pytest.approx([0.8, 0.8])
    sets = rule.sets(np.array([[0.1, 0.9], [0.25, 0.75], [0.5, 0.5]]), streams(3))
    assert sets.tolist() == [[False, True], [True, True], [True, True]]


def test_aps_counts_the_likelier_classes_and_a_part_of_the_own() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3]])
    (chance,) = streams(1).uniform().numpy()
    rule = fit_conformal("aps", probabilities, np.array([0]), 0.5, streams(1))
    assert rule.arrays["threshold"][0] == pytest.approx(0.8 + 0.2 * chance)
    raps = fit_conformal("raps", probabilities, np.array([0]), 0.5, streams(1))
    assert raps.arrays["threshold"][0] == pytest.approx(0.8 + 0.2 * chance + 2 * 0.01)


def test_a_class_that_was_never_seen_is_always_in() -> None:
    probabilities, labels = examples(500, "absent")
    rule = fit_conformal("class_conditional", probabilities, labels % 3, 0.1, streams(500))
    assert rule.always == (3,)
    assert rule.sets(np.eye(4), streams(4))[:, 3].all()
    assert fit_conformal("lac", probabilities, labels % 3, 0.1, streams(500)).always == ()


@kinds
def test_with_too_few_examples_every_class_is_in(kind: str) -> None:
    probabilities, labels = examples(8, "few")
    rule = fit_conformal(kind, probabilities, labels, 0.1, streams(8))
    assert rule.always == (0, 1, 2, 3)
    assert rule.sets(np.eye(4), streams(4)).all()


@kinds
def test_a_smaller_alpha_holds_all_that_a_larger_one_holds(kind: str) -> None:
    fitted, fresh = examples(800, "nested"), examples(300, "fresh")[0]
    sets = [fit_conformal(kind, *fitted, alpha, streams(800)).sets(fresh, streams(300)) for alpha in (0.2, 0.05, 0.01)]
    assert (sets[0] <= sets[1]).all()
    assert (sets[1] <= sets[2]).all()
    assert sets[0].sum() < sets[2].sum()


@kinds
def test_the_set_of_an_example_is_its_own(kind: str) -> None:
    rule = fit_conformal(kind, *examples(200, "own"), 0.1, streams(200))
    fresh, rng = examples(50, "fresh")[0], streams(50, "sets")
    whole = rule.sets(fresh, rng)
    alone = [rule.sets(fresh[[row]], rng.select(torch.tensor([row])))[0] for row in range(50)]
    np.testing.assert_array_equal(whole, alone)


@kinds
def test_a_rule_survives_a_file(kind: str, tmp_path: Path) -> None:
    rule = fit_conformal(kind, *examples(60, "file"), 0.05, streams(60))
    save_file(dict(rule.arrays), tmp_path / "sets.safetensors")
    again = restore_conformal(kind, load_file(tmp_path / "sets.safetensors"))
    assert (again.alpha, again.always) == (0.05, rule.always)
    fresh = examples(20, "fresh")[0]
    np.testing.assert_array_equal(again.sets(fresh, streams(20)), rule.sets(fresh, streams(20)))


def test_a_set_of_one_is_an_answer_and_all_others_abstain() -> None:
    sets = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1]], dtype=bool)
    assert answers_of(sets).tolist() == [1, -1, -1, 2, -1]


ROWS = np.array([[0.4, 0.6], [0.7, 0.3]])


@kinds
@pytest.mark.parametrize(
    ("probabilities", "labels", "alpha", "message"),
    [
        (ROWS[:0], np.array([], int), 0.1, "the calibration set is empty"),
        (ROWS, np.array([0, 1]), 0.0, r"alpha: 0.0.*\(0, 1\)"),
        (ROWS, np.array([0, 1]), 1.0, "alpha: 1.0"),
        (ROWS, np.array([0, 1]), math.nan, "alpha: nan"),
        (ROWS, np.array([0, 2]), 0.1, "labels: from 0 to 2"),
        (3.0 * ROWS, np.array([0, 1]), 0.1, "were logits passed"),
    ],
)
def test_what_nothing_can_be_fitted_on_is_refused(
    kind: str, probabilities: NDArray, labels: NDArray, alpha: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit_conformal(kind, probabilities, labels, alpha, streams(len(labels)))


def test_other_mistakes_are_named() -> None:
    rule = fit_conformal("lac", ROWS, np.array([0, 1]), 0.4, streams(2))
    with pytest.raises(UsageError, match="3 classes; the sets were fitted on 2"):
        rule.sets(np.full((1, 3), 1 / 3), streams(1))
    with pytest.raises(UsageError, match="streams of 5 examples for 2 rows"):
        rule.sets(ROWS, streams(5))
    for call in (lambda: restore_conformal("lca", {}), lambda: fit_conformal("lca", ROWS, np.ones(2), 0.1, streams(2))):
        with pytest.raises(UsageError, match="unknown kind of prediction sets 'lca'"):
            call()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"threshold": np.ones(2)}, "arrays"),
        ({"threshold": np.ones(2, np.float32), "alpha": np.array([0.1])}, "arrays"),
        ({"threshold": np.ones((2, 2)), "alpha": np.array([0.1])}, "arrays"),
        ({"threshold": np.array([0.5, np.nan]), "alpha": np.array([0.1])}, "two classes or more"),
        ({"threshold": np.ones(1), "alpha": np.array([0.1])}, "two classes or more"),
        ({"threshold": np.ones(2), "alpha": np.array([0.0])}, "two classes or more"),
        ({"threshold": np.ones(2), "alpha": np.array([0.1, 0.2])}, "two classes or more"),
    ],
)
def test_arrays_that_are_no_rule_are_refused(arrays: dict[str, NDArray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        restore_conformal("lac", arrays)
