"""Figures of trained arms, and their differences, with intervals over seeds and over examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.metrics import bootstrap_weights
from hardy.rng import host_generator

Floats = NDArray[np.float64]
Compute = Callable[[Floats], float]
"""A figure of one training as a function of how often each example counts."""

RESAMPLES = 400


class Spread(NamedTuple):
    """A figure of one arm.

    Attributes:
        value: the mean over seeds.
        resampled: float64 (R,): the same on resampled seeds and examples; resample r is the same for every arm.
    """

    value: float
    resampled: Floats


class Gain(NamedTuple):
    """How far an arm is from another: the difference of their means and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """1 or -1 where the interval leaves 0 out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def spreads(trainings: Mapping[str, Sequence[Compute]], strata: Sequence[int]) -> dict[str, Spread]:
    """The figure of each arm, from that of each of its trainings; the n-th of every arm has the n-th seed.

    A resample draws seeds with replacement, and examples with replacement within each stratum, the same for all arms
    and seeds. So differences between arms are paired over both.
    """
    seeds = {len(computes) for computes in trainings.values()}
    if len(seeds) != 1:
        raise ValueError(f"arms of {sorted(seeds)} seeds do not pair")
    count = seeds.pop()
    rng = host_generator(0, "study resamples")
    weights = [bootstrap_weights(strata, rng) for _ in range(RESAMPLES)]
    drawn = rng.integers(0, count, (RESAMPLES, count))
    once = np.ones(sum(strata))
    found = {}
    for arm, computes in trainings.items():
        values = np.array([[compute(one) for one in weights] for compute in computes])
        resampled = values[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1)
        found[arm] = Spread(float(np.mean([compute(once) for compute in computes])), resampled)
    return found


def gain(arm: Spread, control: Spread) -> Gain:
    """``arm`` minus ``control``, with the percentile interval of the paired difference."""
    low, high = np.quantile(arm.resampled - control.resampled, [0.025, 0.975])
    return Gain(arm.value - control.value, float(low), float(high))
