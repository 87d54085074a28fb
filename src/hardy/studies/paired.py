"""Figures of trained arms, and their differences, with intervals over seeds and over examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from hardy.evaluation.framework import Metric
from hardy.metrics import bootstrap_weights
from hardy.rng import host_generator

Arm = TypeVar("Arm")
RESAMPLES = 400


class Spread(NamedTuple):
    """A figure of one arm.

    Attributes:
        values: float64 (S,), of each training seed; seed s is the same for every arm.
        resampled: float64 (R,): the mean over seeds on resampled examples; resample r is the same for every arm.
    """

    values: NDArray[np.float64]
    resampled: NDArray[np.float64]

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None of one seed."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over examples, for these seeds."""
        low, high = np.quantile(self.resampled, [0.025, 0.975])
        return float(low), float(high)


class Gain(NamedTuple):
    """How far an arm is from another: the difference of their means, its 95 % interval and its p-value.

    They are over both seeds and examples; of one seed nothing is known of the former, and the p-value is 1.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def direction(self) -> int:
        """1 or -1 where the interval leaves 0 out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def spreads(trainings: Mapping[Arm, Sequence[Metric]]) -> dict[Arm, Spread]:
    """The figure of each arm, from that of each of its trainings; the n-th of every arm has the n-th seed.

    A resample draws examples with replacement within each stratum, the same for all arms and seeds.

    Raises:
        ValueError: the arms have different numbers of seeds, or different examples.
    """
    seeds = {len(metrics) for metrics in trainings.values()}
    first, *others = (metric for metrics in trainings.values() for metric in metrics)
    if len(seeds) != 1 or not all(_same_examples(first, other) for other in others):
        raise ValueError(f"arms of {sorted(seeds)} seeds, or of different examples, do not pair")
    rng = host_generator(0, "study resamples")
    weights = [bootstrap_weights([len(indices) for _, indices in first.examples], rng) for _ in range(RESAMPLES)]
    once = np.ones(first.n)
    return {
        arm: Spread(
            np.array([metric.compute(once) for metric in metrics]),
            np.array([np.mean([metric.compute(one) for metric in metrics]) for one in weights], np.float64),
        )
        for arm, metrics in trainings.items()
    }


def _same_examples(first: Metric, other: Metric) -> bool:
    return len(first.examples) == len(other.examples) and all(
        dataset == other_dataset and np.array_equal(indices, other_indices)
        for (dataset, indices), (other_dataset, other_indices) in zip(first.examples, other.examples, strict=True)
    )


def gain(arm: Spread, control: Spread) -> Gain:
    """``arm`` minus ``control``: Student's t over the seeds' paired differences, with the examples' variance added.

    The degrees of freedom are Welch and Satterthwaite's. With one seed the interval is over the examples alone.
    """
    differences, resampled = arm.values - control.values, arm.resampled - control.resampled
    count, value = len(differences), float(differences.mean())
    of_examples = float(resampled.var(ddof=1))
    of_seeds = float(differences.var(ddof=1)) / count if count > 1 else 0.0
    error = math.sqrt(of_seeds + of_examples)
    if error < 1e-12:
        # Nothing varies; what is left is rounding.
        return Gain(value, value, value, float(abs(value) < 1e-12 or count == 1))
    freedom = error**4 / (of_seeds**2 / max(count - 1, 1) + of_examples**2 / (RESAMPLES - 1))
    half = error * float(stdtrit(freedom, 0.975))
    p_value = 1.0 if count == 1 else 2.0 * float(stdtr(freedom, -abs(value) / error))
    return Gain(value, value - half, value + half, p_value)
