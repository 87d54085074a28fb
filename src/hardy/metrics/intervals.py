"""Intervals: closed forms for a share of examples and for the difference of two, the bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from hardy.errors import UsageError
from hardy.metrics._arrays import Floats

Metric: TypeAlias = Callable[[Floats], float]
"""From how often each example counts, float64 (N,), to a figure; NaN where it is not defined."""


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


def unpaired_bootstrap_difference(
    a: Metric,
    strata_a: Sequence[int],
    b: Metric,
    strata_b: Sequence[int],
    rng: np.random.Generator,
    *,
    resamples: int = 500,
    level: float = 0.95,
) -> Interval:
    """The interval of figure b minus figure a, on different examples: each is resampled for itself.

    Other arguments, result and errors as in :func:`bootstrap`.
    """
    split = sum(strata_a)
    return bootstrap(
        lambda weights: float(b(weights[split:])) - float(a(weights[:split])),
        [*strata_a, *strata_b],
        rng,
        resamples=resamples,
        level=level,
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
