"""Intervals against SciPy, published examples, and how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, false_discovery_control

from hardy.errors import UsageError
from hardy.metrics import (
    benjamini_hochberg,
    bootstrap,
    bootstrap_weights,
    bounded_interval,
    clopper_pearson,
    mcnemar,
    mover,
    newcombe,
    phi_coefficient,
    prepared_auroc,
    share_interval,
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


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_the_interval_of_a_share_covers_wherever_the_share_is(n: int) -> None:
    """Summed over all outcomes. Wilson's own leaves out 16 % of shares near 0.18 / n."""
    shares = np.concatenate([np.geomspace(1e-5, 0.05, 200), np.linspace(0.05, 0.5, 50)])
    low, high = np.array([share_interval(successes, n) for successes in range(n + 1)]).T
    chances = binom.pmf(np.arange(n + 1)[:, None], n, shares)
    coverage = (chances * ((low[:, None] <= shares) & (shares <= high[:, None]))).sum(axis=0)
    assert coverage.min() > 0.925
    assert coverage[shares * n > 5].mean() == pytest.approx(0.95, abs=0.015)


def test_an_interval_is_exact_where_nothing_happened() -> None:
    for n in (1, 50, 1000):
        exact = binomtest(0, n).proportion_ci(0.95, "exact")
        assert share_interval(0, n) == pytest.approx((0.0, exact.high))
        assert bounded_interval(0.0, 0.0, 1 / n) == pytest.approx((0.0, exact.high))
        assert bounded_interval(1.0, 0.0, 1 / n) == pytest.approx((1.0 - exact.high, 1.0))
        assert bounded_interval(0.0, 0.0, 1 / n, math.inf) == pytest.approx((0.0, -math.log(0.025) / n))


def test_the_interval_of_a_bounded_figure_is_the_exact_one_of_a_share_of_as_many_examples() -> None:
    n = 400
    for share in (0.02, 0.3, 0.9):
        low, high = bounded_interval(share, share * (1 - share) / n, 1 / n)
        exact = binomtest(round(share * n), n).proportion_ci(0.95, "exact")
        assert (low, high) == pytest.approx((exact.low, exact.high), abs=1 / n + 0.001)
        assert low < share < high
    scaled = bounded_interval(1.0, 0.01, 0.02, 2.0)
    assert scaled == pytest.approx(tuple(2 * end for end in bounded_interval(0.5, 0.0025, 0.01)))


def test_few_heavy_losses_are_covered() -> None:
    """A mean that one example of a hundred decides."""
    rng = host_generator(0, "losses")
    covered = []
    for _ in range(300):
        values = 0.01 + rng.exponential(2.0, 400) * (rng.random(400) < 0.01)
        # As for the cross-entropy, an event is the largest loss there could be, not the largest that was seen.
        low, high = bounded_interval(values.mean(), values.var() / 400, 20 / 400, math.inf)
        covered.append(low <= 0.03 <= high)
    assert np.mean(covered) >= 0.92


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 1998, 17:2635, table III, method 10: the second share less the first.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((0, 54, 0, 0), 0.9061, 1.0000),
        ((54, 0, 0, 0), -0.0664, 0.0664),
    ],
)
def test_a_difference_of_paired_shares_equals_newcombes_table(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    both, only_b, only_a, neither = counts
    n = sum(counts)
    a, b = both + only_a, both + only_b
    found = mover(a / n, wilson(a, n), b / n, wilson(b, n), phi_coefficient(both, only_a, only_b, neither))
    assert found == pytest.approx((low, high), abs=1e-3)


def test_mcnemar_and_benjamini_hochberg_equal_scipy() -> None:
    for a, b in ((0, 0), (0, 1), (3, 9), (40, 60)):
        assert mcnemar(a, b) == pytest.approx(binomtest(a, a + b).pvalue if a + b else 1.0)
    rng = host_generator(0, "p-values")
    for share in (0.0, 0.3, 1.0):
        p_values = np.where(rng.random(50) < share, rng.random(50) ** 6, rng.random(50))
        expected = false_discovery_control(p_values) <= 0.05
        assert benjamini_hochberg(p_values.tolist()) == expected.tolist()


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
