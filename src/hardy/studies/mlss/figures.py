"""The figures of the study's networks, found by what they say, and their differences, paired over the same images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import Metric, MetricKind, Scalar
from hardy.evaluation.scorecard import Estimate
from hardy.metrics import paired_bootstrap
from hardy.rng import host_generator
from hardy.studies.mlss.measured import ATTACKED, EPS, MISTAKEN_ACCURACY, ROBUST_ACCURACY

RESAMPLES = 500


class Difference(NamedTuple):
    """How far one network is above another, with the 95 % interval over images."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 above, -1 below, 0 where the interval holds 0."""
        return int(self.low > 0) - int(self.high < 0)


@cache
def published() -> Mapping[str, Any]:
    """Every figure that the study gives, as it gives it."""
    return json.loads((files("hardy.studies.mlss") / "published.json").read_text(encoding="utf-8"))


class Mistake(NamedTuple):
    """What a mistake makes of the CNN.

    Attributes:
        cells: robust accuracy per attack and radius.
        distance: the mean over these of how far it is from the study's.
    """

    cells: Mapping[tuple[str, float], Estimate]
    distance: float


class Figures:
    """The metrics of each network that was measured, by the network's key."""

    def __init__(self, metrics: Mapping[str, Sequence[Metric]]) -> None:
        self.metrics = metrics
        self._estimates: dict[tuple[str, int], Estimate | None] = {}

    def metric(self, network: str, kind: MetricKind, dataset: str = "", **setting: Scalar) -> Metric | None:
        """The figure with this setting; None where it was not measured."""
        for found in self.metrics.get(network, ()):
            same = found.kind.name == kind.name and dataset in ("", found.dataset)
            if same and setting.items() <= found.setting.items():
                return found
        return None

    def estimate(self, network: str, kind: MetricKind, dataset: str = "", **setting: Scalar) -> Estimate | None:
        """The same with its value and interval."""
        metric = self.metric(network, kind, dataset, **setting)
        if metric is None:
            return None
        key = network, id(metric)
        if key not in self._estimates:
            self._estimates[key] = estimate("mlss", metric, 0, RESAMPLES)
        return self._estimates[key]

    def difference(
        self, network: str, other: str, kind: MetricKind, dataset: str = "", **setting: Scalar
    ) -> Difference | None:
        """How far the figure of ``network`` is above that of ``other``."""
        pair = [self.metric(it, kind, dataset, **setting) for it in (network, other)]
        return mean_difference([(pair[0], pair[1])]) if pair[0] and pair[1] else None

    def robust_differences(self, network: str, other: str) -> dict[tuple[str, float], Difference]:
        """Per attack and radius, where both were attacked."""
        cells = {(attack, eps): {"attack": attack, "eps": eps} for attack in ATTACKED for eps in EPS}
        found = {
            cell: self.difference(network, other, ROBUST_ACCURACY, **setting)  # type: ignore[arg-type]
            for cell, setting in cells.items()
        }
        return {cell: it for cell, it in found.items() if it is not None}

    def mistake(self, network: str) -> Mistake | None:
        """The robust accuracy of the CNN with this mistake beside the study's; None where it was not measured."""
        theirs = {(row[0], row[1]): row[2] / 100 for row in published()["attacks"]["rows"]}
        cells = {
            (attack, eps): self.estimate(network, MISTAKEN_ACCURACY, attack=attack, eps=eps) for attack, eps in theirs
        }
        known = {cell: it for cell, it in cells.items() if it is not None}
        if len(known) < len(theirs):
            return None
        return Mistake(known, float(np.mean([abs(it.value - theirs[cell]) for cell, it in known.items()])))

    def mean_robust_difference(self, network: str, other: str) -> Difference | None:
        """The mean of these differences over all attacks and radii."""
        pairs = [
            (self.metric(network, ROBUST_ACCURACY, **setting), self.metric(other, ROBUST_ACCURACY, **setting))
            for attack in ATTACKED
            for eps in EPS
            for setting in ({"attack": attack, "eps": eps},)
        ]
        known = [(first, second) for first, second in pairs if first and second]
        return mean_difference(known) if known else None


def mean_difference(pairs: Sequence[tuple[Metric, Metric]]) -> Difference:
    """The mean over pairs of metrics, all of the same images, of the first minus the second."""
    first = pairs[0][0]
    means = [_mean([pair[place] for pair in pairs]) for place in (0, 1)]
    strata = [len(indices) for _, indices in first.examples]
    once = np.ones(first.n)
    interval = paired_bootstrap(means[1], means[0], strata, host_generator(0, "mlss"), resamples=RESAMPLES)
    return Difference(means[0](once) - means[1](once), *interval)


def _mean(metrics: Sequence[Metric]) -> Callable[[NDArray[np.float64]], float]:
    shares = [it.successes for it in metrics]
    if any(it is None for it in shares):
        return lambda weights: float(np.mean([it.compute(weights) for it in metrics]))
    # The mean of shares of the same images is a mean over images.
    each = np.mean(np.array(shares, np.float64), axis=0)
    return lambda weights: float(weights @ each / weights.sum())
