"""Figures of trained arms, and their differences, with intervals over seeds and over examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Metric
from hardy.metrics import bootstrap_weights
from hardy.rng import host_generator

Arm = TypeVar("Arm")
RESAMPLES = 400


class Spread(NamedTuple):
    """A figure of one arm.

    Attributes:
        value: the mean over seeds.
        resampled: float64 (R,): the same on resampled seeds and examples; resample r is the same for every arm.
    """

    value: float
    resampled: NDArray[np.float64]


class Gain(NamedTuple):
    """How far an arm is from another: the difference of their means and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """1 or -1 where the interval leaves 0 out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def spreads(trainings: Mapping[Arm, Sequence[Metric]]) -> dict[Arm, Spread]:
    """The figure of each arm, from that of each of its trainings; the n-th of every arm has the n-th seed.

    A resample draws seeds with replacement, and examples with replacement within each stratum, the same for all arms
    and seeds. So differences between arms are paired over both.

    Raises:
        ValueError: the arms have different numbers of seeds, or different examples.
    """
    seeds = {len(metrics) for metrics in trainings.values()}
    first, *others = (metric for metrics in trainings.values() for metric in metrics)
    if len(seeds) != 1 or not all(_same_examples(first, other) for other in others):
        raise ValueError(f"arms of {sorted(seeds)} seeds, or of different examples, do not pair")
    count = seeds.pop()
    rng = host_generator(0, "study resamples")
    weights = [bootstrap_weights([len(indices) for _, indices in first.examples], rng) for _ in range(RESAMPLES)]
    drawn = rng.integers(0, count, (RESAMPLES, count))
    once = np.ones(first.n)
    found = {}
    for arm, metrics in trainings.items():
        values = np.array([[metric.compute(one) for one in weights] for metric in metrics])
        resampled = values[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1)
        found[arm] = Spread(float(np.mean([metric.compute(once) for metric in metrics])), resampled)
    return found


def _same_examples(first: Metric, other: Metric) -> bool:
    return len(first.examples) == len(other.examples) and all(
        dataset == other_dataset and np.array_equal(indices, other_indices)
        for (dataset, indices), (other_dataset, other_indices) in zip(first.examples, other.examples, strict=True)
    )


def gain(arm: Spread, control: Spread) -> Gain:
    """``arm`` minus ``control``, with the percentile interval of the paired difference."""
    low, high = np.quantile(arm.resampled - control.resampled, [0.025, 0.975])
    return Gain(arm.value - control.value, float(low), float(high))
