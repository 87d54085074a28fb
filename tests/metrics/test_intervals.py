"""Intervals against SciPy, published examples, and how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from hardy.errors import UsageError
from hardy.metrics import (
    bootstrap,
    bootstrap_weights,
    clopper_pearson,
    newcombe,
    paired_bootstrap,
    prepared_auroc,
    unpaired_bootstrap_difference,
    weighted_mean,
    wilson,
)
from hardy.rng import host_generator


def mean_of(values: NDArray):
    return lambda weights: weighted_mean(values, weights=weights)


@pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 30), (17, 30), (9950, 10_000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_intervals_of_a_share_equal_scipy(interval, method, successes: int, n: int, level: float) -> None:
    expected = binomtest(successes, n).proportion_ci(level, method)
    assert interval(successes, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_an_interval_of_a_share_ends_at_0_and_1_exactly(interval, n: int) -> None:
    assert interval(0, n).low == 0.0
    assert interval(n, n).high == 1.0
    assert 0.0 < interval(n, n).low < 1.0
    assert 0.0 < interval(0, n).high < 1.0


def test_coverage_of_the_intervals_of_a_share() -> None:
    """Summed over all outcomes: Wilson is right on average, Clopper and Pearson everywhere."""
    n, shares = 40, np.linspace(0.005, 0.995, 199)
    coverage = {}
    for interval in (wilson, clopper_pearson):
        low, high = np.array([interval(successes, n) for successes in range(n + 1)]).T
        holds = (low[:, None] <= shares) & (shares <= high[:, None])
        coverage[interval] = (binom.pmf(np.arange(n + 1)[:, None], n, shares) * holds).sum(axis=0)
    assert coverage[wilson].mean() == pytest.approx(0.95, abs=0.01)
    assert coverage[clopper_pearson].min() >= 0.95


@pytest.mark.parametrize(
    ("b", "a", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_newcombe_equals_his_table(b: tuple[int, int], a: tuple[int, int], low: float, high: float) -> None:
    """Newcombe 1998, table II, method 10."""
    assert newcombe(*a, *b) == pytest.approx((low, high), abs=5.1e-5)
    assert newcombe(*b, *a) == pytest.approx((-high, -low), abs=5.1e-5)


def test_resamples_keep_the_size_of_each_stratum() -> None:
    rng = host_generator(0, "strata")
    total = np.zeros(9)
    for _ in range(2000):
        weights = bootstrap_weights([1, 3, 5], rng)
        np.testing.assert_array_equal(np.add.reduceat(weights, [0, 1, 4]), [1, 3, 5])
        np.testing.assert_array_equal(weights, weights.round())
        total += weights
    # Each count is binomial (n, 1/n): mean 1, variance 1 - 1/n.
    np.testing.assert_allclose(total / 2000, 1, atol=4 / np.sqrt(2000))
    assert total[0] == 2000


def test_bootstrap_covers_the_truth() -> None:
    rng = host_generator(0, "coverage")
    covered = []
    for _ in range(200):
        low, high = bootstrap(mean_of(rng.exponential(1.0, 80)), [80], rng, resamples=200, level=0.9)
        covered.append(low <= 1.0 <= high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.06)


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = host_generator(0, "values").normal(5.0, 2.0, 400)
    low, high = bootstrap(mean_of(values), [400], host_generator(1, "resamples"), resamples=2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bootstrap_of_an_auroc_covers_the_truth() -> None:
    """Two normal distributions a standard deviation apart: the AUROC is Phi(1 / sqrt 2)."""
    rng = host_generator(0, "auroc")
    truth = (1 + math.erf(0.5)) / 2
    covered = []
    for _ in range(100):
        figure = prepared_auroc(rng.normal(0, 1, 120), rng.normal(1, 1, 60))
        low, high = bootstrap(figure, [120, 60], rng, resamples=150)
        covered.append(low <= truth <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


def test_the_same_generator_gives_the_same_interval() -> None:
    figure = mean_of(host_generator(0, "values").normal(size=50))
    first, second, other = (bootstrap(figure, [50], host_generator(seed, "resamples")) for seed in (1, 1, 2))
    assert first == second != other


def test_a_paired_difference_has_no_noise_that_both_share() -> None:
    values = host_generator(0, "values").normal(size=60)
    low, high = paired_bootstrap(mean_of(values), mean_of(values + 0.25), [60], host_generator(1, "resamples"))
    assert (low, high) == pytest.approx((0.25, 0.25))
    apart = unpaired_bootstrap_difference(
        mean_of(values), [60], mean_of(values + 0.25), [60], host_generator(1, "resamples")
    )
    half = 1.96 * values.std() * np.sqrt(2 / 60)
    assert apart == pytest.approx((0.25 - half, 0.25 + half), abs=0.15 * half)


def test_a_difference_of_different_sets_splits_the_weights() -> None:
    few, many = np.array([1.0, 2.0]), np.linspace(10, 12, 7)
    low, high = unpaired_bootstrap_difference(
        mean_of(few), [1, 1], mean_of(many), [3, 4], host_generator(0, "resamples"), level=0.9
    )
    # Strata of one keep the first mean at 1.5; the second stays within the means of its strata's extremes.
    assert (3 * many[0] + 4 * many[3]) / 7 - 1.5 <= low < high <= (3 * many[2] + 4 * many[6]) / 7 - 1.5


def test_resamples_without_a_figure_are_dropped() -> None:
    values = np.arange(20.0)

    def without_first(weights: NDArray) -> float:
        return math.nan if weights[0] == 0 else weighted_mean(values, weights=weights)

    def with_first(weights: NDArray) -> float:
        return math.nan if weights[0] > 0 else weighted_mean(values, weights=weights)

    low, high = bootstrap(without_first, [20], host_generator(0, "resamples"))
    assert 5 < low < high < 14
    # The first example is drawn in 1 - (1 - 1/20)^20 = 64 % of the resamples.
    assert all(map(math.isnan, bootstrap(with_first, [20], host_generator(0, "resamples"))))


def test_an_interval_may_be_infinite() -> None:
    values = np.array([np.inf, *range(19)])
    low, high = bootstrap(mean_of(values), [20], host_generator(0, "resamples"))
    assert 0 < low < 19
    assert high == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(0, 0), "n: 0"),
        (lambda: wilson(3, 2), "successes: 3 of 2"),
        (lambda: clopper_pearson(-1, 2), "successes: -1 of 2"),
        (lambda: wilson(1, 2, 95), "level: 95"),
        (lambda: newcombe(1, 2, 1, 0), "n: 0"),
        (lambda: bootstrap(mean_of(np.ones(2)), [], host_generator(0)), "strata"),
        (lambda: bootstrap(mean_of(np.ones(2)), [2, 0], host_generator(0)), "strata"),
        (lambda: bootstrap(mean_of(np.ones(2)), [2], host_generator(0), resamples=0), "resamples: 0"),
        (lambda: bootstrap(mean_of(np.ones(2)), [2], host_generator(0), level=1.0), "level: 1.0"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
