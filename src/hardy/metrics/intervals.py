"""Intervals: closed forms for a share of examples and for differences, the bootstrap for everything else.

What is close to the end of its scale rests on few examples, and there the usual intervals fail: where nothing happened
their width is zero. :func:`share_interval` and :func:`bounded_interval` become exact there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from hardy.errors import UsageError
from hardy.metrics._arrays import Floats

Metric: TypeAlias = Callable[[Floats], float]
"""From how often each example counts, float64 (N,), to a figure; NaN where it is not defined."""


_FEW = 3
# Of an event that sampling may have missed. Chosen by benchmarks/coverage.py: less leaves out too much where a few
# examples decide, more makes every interval too wide.
_UNSEEN = 0.1


class Interval(NamedTuple):
    """A two-sided interval: ``low`` and ``high``, both NaN where there is none."""

    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a share: right on average over the shares, also near 0 and 1.

    Args:
        successes: from 0 to ``n``.
        n: examples, at least 1.
        level: the coverage, in (0, 1).

    Returns:
        Within [0, 1], and around successes / n.

    Raises:
        UsageError: no examples, successes outside 0 … n, a level outside (0, 1).

    Wilson, JASA 1927.
    """
    _check_share(successes, n, level)
    z2 = z_value(level) ** 2
    centre = successes + z2 / 2
    half = math.sqrt(z2 * (successes * (n - successes) / n + z2 / 4))
    # At the ends the formula is exact, but its rounding is not.
    low = 0.0 if successes == 0 else (centre - half) / (n + z2)
    high = 1.0 if successes == n else (centre + half) / (n + z2)
    return Interval(low, high)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The exact interval of a share: covers with at least ``level`` whatever the share is, so it is wider.

    Arguments and errors as in :func:`wilson`.

    Clopper and Pearson, Biometrika 1934.
    """
    from scipy.special import betaincinv

    _check_share(successes, n, level)
    tail = (1.0 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1.0 - tail))
    return Interval(low, high)


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share, exact where nothing happened and not too short where one to three events did.

    Where the share is 0 or 1 it is Clopper and Pearson's. One to three events from there Wilson's inner end would leave
    the share out in up to one case of six, so it is moved to the one-sided Poisson bound. It covers with at least 92 %.

    Arguments and errors as in :func:`wilson`.

    Brown, Cai and DasGupta, Statistical Science 2001, section 4.1.1.
    """
    if not 0 < successes < n:
        return clopper_pearson(successes, n, level)
    low, high = wilson(successes, n, level)
    if successes <= _FEW:
        low = min(low, _poisson_low(successes, level) / n)
    if n - successes <= _FEW:
        high = max(high, 1.0 - _poisson_low(n - successes, level) / n)
    return Interval(low, high)


def _poisson_low(events: int, level: float) -> float:
    from scipy.special import gammaincinv

    return float(gammaincinv(events, 1.0 - level))


def bounded_interval(value: float, variance: float, event: float, top: float = 1.0, level: float = 0.95) -> Interval:
    """The interval of a figure from 0 to ``top``, from its variance, by the beta distributions of such a mean.

    It is Clopper and Pearson's interval of a share of as many examples as would give that variance (Korn and Graubard,
    Survey Methodology 1998). Sampling may have missed an event altogether, so a tenth of one is added, and a whole one
    where none was seen; there the interval is exact.

    Args:
        value: from 0 to ``top``; beyond, as by rounding, it counts as the end.
        variance: of the value, over the draw of the examples.
        event: how far one more example can move the value, as 1/n for a mean of flags.
        top: the end of the scale; infinity where there is none, and the distributions are then gamma (Fay and Feuer,
            Statistics in Medicine 1997).
        level: the coverage aimed at, in (0, 1).
    """
    check_level(level)
    if not (event > 0 and variance >= 0 and top > 0):
        raise UsageError(
            f"variance {variance}, event {event}, top {top}: the variance is from 0 up, the others above 0"
        )
    tail = (1.0 - level) / 2
    if math.isfinite(top) and value > top / 2:
        low, high = bounded_interval(top - value, variance, event, top, level)
        return Interval(top - high, top - low)
    if value <= 1e-12 * event:
        high = -event * math.log(tail) if math.isinf(top) else top * (1.0 - tail ** (event / top))
        return Interval(0.0, high)
    low = min(value, _quantile(tail, value, variance, top))
    more = value + _UNSEEN * event
    return Interval(low, max(value, _quantile(1.0 - tail, more, variance + _UNSEEN * event**2, top)))


def _quantile(level: float, mean: float, variance: float, top: float) -> float:
    """Of the gamma or beta distribution with this mean and variance."""
    from scipy.special import betaincinv, gammaincinv

    if variance == 0.0:
        return mean
    if math.isinf(top):
        shape = mean**2 / variance
        return float(gammaincinv(shape, level) * mean / shape)
    share = min(mean / top, 1.0 - 1e-9)
    size = max(share * (1.0 - share) * top**2 / variance - 1.0, 1e-3)
    return float(top * betaincinv(share * size, (1.0 - share) * size, level))


def mover(a: float, interval_a: Interval, b: float, interval_b: Interval, correlation: float = 0.0) -> Interval:
    """The interval of figure b minus figure a from the intervals of the two and the correlation of their estimates.

    For shares with Wilson's intervals it is Newcombe's method 10, paired or not. It has a width also where the two were
    found to be equal.

    Newcombe, Statistics in Medicine 1998 (two papers); Zou and Donner, Statistics in Medicine 2008.
    """
    down_a, up_a = a - interval_a.low, interval_a.high - a
    down_b, up_b = b - interval_b.low, interval_b.high - b
    below = down_b**2 + up_a**2 - 2 * correlation * down_b * up_a
    above = up_b**2 + down_a**2 - 2 * correlation * up_b * down_a
    return Interval(b - a - math.sqrt(max(below, 0.0)), b - a + math.sqrt(max(above, 0.0)))


def phi_coefficient(both: int, only_a: int, only_b: int, neither: int) -> float:
    """The correlation of two flags on the same examples, with Newcombe's continuity correction; 0 where undefined."""
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if not product:
        return 0.0
    cross = both * neither - only_a * only_b
    if cross > 0:
        cross = max(cross - (both + only_a + only_b + neither) / 2, 0.0)
    return cross / math.sqrt(product)


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value that two flags are set equally often, from the examples where just one is.

    McNemar, Psychometrika 1947; the exact binomial form.
    """
    from scipy.special import bdtr

    if only_a + only_b == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def benjamini_hochberg(p_values: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Which of many p-values count as found, so that of these at most a share ``rate`` is false on average.

    Benjamini and Hochberg, JRSS B 1995.
    """
    ordered = sorted(p_values)
    passing = [p for place, p in enumerate(ordered, start=1) if p <= rate * place / len(ordered)]
    return [bool(passing) and p <= passing[-1] for p in p_values]


def newcombe(successes_a: int, n_a: int, successes_b: int, n_b: int, level: float = 0.95) -> Interval:
    """The hybrid score interval of share b minus share a, of two independent sets; within [-1, 1].

    Arguments and errors as in :func:`wilson`.

    Newcombe, Statistics in Medicine 1998, method 10.
    """
    low_a, high_a = wilson(successes_a, n_a, level)
    low_b, high_b = wilson(successes_b, n_b, level)
    a, b = successes_a / n_a, successes_b / n_b
    return Interval(b - a - math.hypot(b - low_b, high_a - a), b - a + math.hypot(high_b - b, a - low_a))


def bootstrap_weights(strata: Sequence[int], rng: np.random.Generator) -> Floats:
    """One resample: how often each example is drawn, float64 (sum of strata,), with replacement within each stratum."""
    counts = [np.bincount(rng.integers(0, size, size), minlength=size) for size in strata]
    return np.concatenate(counts).astype(np.float64)


def bootstrap(
    statistic: Metric,
    strata: Sequence[int],
    rng: np.random.Generator,
    *,
    resamples: int = 500,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of a figure, by resampling examples.

    Args:
        statistic: the figure as a function of weights.
        strata: how many examples each stratum has, in the order of the weights; each keeps its size.
        rng: where the resamples come from; the same state gives the same ones, whatever the statistic.
        resamples: how many.
        level: the coverage aimed at, in (0, 1).

    Returns:
        Two of the resampled figures. Resamples without a figure (NaN) are dropped; if they are more than half, both
        ends are NaN.

    Raises:
        UsageError: no strata, an empty stratum, no resamples, a level outside (0, 1).

    Efron, Annals of Statistics 1979.
    """
    check_level(level)
    if not strata or min(strata) < 1:
        raise UsageError(f"strata: {list(strata)}; each stratum has at least one example, and there is at least one")
    if resamples < 1:
        raise UsageError(f"resamples: {resamples}; at least 1")
    values = np.array([statistic(bootstrap_weights(strata, rng)) for _ in range(resamples)], dtype=np.float64)
    values = values[~np.isnan(values)]
    if 2 * len(values) < resamples:
        return Interval(math.nan, math.nan)
    # Interpolation between two figures has no answer where both are infinite.
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(low), float(high))


def paired_bootstrap(
    a: Metric,
    b: Metric,
    strata: Sequence[int],
    rng: np.random.Generator,
    *,
    resamples: int = 500,
    level: float = 0.95,
) -> Interval:
    """The interval of figure b minus figure a, both on the same examples: every resample counts for both.

    Other arguments, result and errors as in :func:`bootstrap`.
    """
    return bootstrap(
        lambda weights: float(b(weights)) - float(a(weights)), strata, rng, resamples=resamples, level=level
    )


def z_value(level: float) -> float:
    """How many standard deviations of a normal distribution hold the share ``level``."""
    from scipy.special import ndtri

    return float(ndtri((1.0 + level) / 2))


def check_level(level: float) -> None:
    """Raise :class:`UsageError` unless ``level`` lies in (0, 1)."""
    if not 0 < level < 1:
        raise UsageError(f"level: {level}; the level of an interval lies in (0, 1), 0.95 for 95 %")


def _check_share(successes: int, n: int, level: float) -> None:
    check_level(level)
    if n < 1:
        raise UsageError(f"n: {n}; a share needs at least one example")
    if not 0 <= successes <= n:
        raise UsageError(f"successes: {successes} of {n}; from 0 to {n}")
