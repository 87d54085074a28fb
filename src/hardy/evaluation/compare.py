"""Differences between runs, paired where both measured the same examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hardy.evaluation.evaluate import load_results, resamples_of
from hardy.evaluation.properties import Metric
from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.metrics import paired_bootstrap, unpaired_bootstrap_difference
from hardy.rng import host_generator
from hardy.runs import Run


def identity(estimate: Estimate) -> tuple[str, str, str, str]:
    """What makes two figures of different runs the same figure."""
    return (estimate.property, estimate.metric, estimate.dataset, json.dumps(estimate.setting, sort_keys=True))


class Difference(NamedTuple):
    """How far one figure of a run is from the same figure of the first run.

    Attributes:
        identity: which figure, see :func:`identity`.
        run: the place of the run, from 1; the first run is 0.
        value: the figure of this run less that of the first.
        low: lower end of the 95 % interval of ``value``.
        high: its upper end.
        paired: whether both runs measured the same examples, which makes the interval narrower.
    """

    identity: tuple[str, str, str, str]
    run: int
    value: float
    low: float
    high: float
    paired: bool


class Comparison(NamedTuple):
    """Runs side by side; the first is what the others are held against.

    Attributes:
        names: what the runs are called.
        scorecards: of each run.
        differences: of the later runs to the first, where both have the figure.
    """

    names: tuple[str, ...]
    scorecards: tuple[Scorecard, ...]
    differences: tuple[Difference, ...]


def compare_runs(paths: Sequence[Path], data_dir: Path | None = None) -> Comparison:
    """All figures of evaluated runs, and how far each run's are from the first run's.

    Raises:
        RunError: a run holds no evaluation, or records are missing or damaged.
    """
    runs = [Run.open(path) for path in paths]
    scorecards = [Scorecard.read(path / "scorecard.json") for path in paths]
    statistics = [_statistics(run, scorecard, data_dir) for run, scorecard in zip(runs, scorecards, strict=True)]
    resamples = min(resamples_of(scorecard.budget) for scorecard in scorecards)
    hashes = [run.manifest["evaluation"]["data"] for run in runs]
    differences = [
        _difference(key, number, statistics[0][key], statistic, hashes[0], hashes[number], resamples)
        for number in range(1, len(runs))
        for key, statistic in statistics[number].items()
        # A figure whose interval is known does not vary with the examples, so resampling them tells nothing.
        if key in statistics[0] and statistic.interval is None
    ]
    # Two figures may each be defined on most resamples, and both on too few.
    told = [difference for difference in differences if np.isfinite([difference.low, difference.high]).all()]
    return Comparison(tuple(_names(paths)), tuple(scorecards), tuple(told))


def _names(paths: Sequence[Path]) -> list[str]:
    last = [path.resolve().name for path in paths]
    return last if len(set(last)) == len(last) else [str(path) for path in paths]


def _statistics(run: Run, scorecard: Scorecard, data_dir: Path | None) -> dict[tuple[str, str, str, str], Metric]:
    """The statistics behind the figures of a scorecard, by what identifies the figure."""
    chosen, results = load_results(run, data_dir)
    figures = {identity(metric) for metric in scorecard.estimates}
    found = {}
    for prop in chosen:
        for statistic in prop.metrics(results):
            setting = json.dumps(dict(statistic.setting), sort_keys=True)
            key = (prop.name, statistic.metric, statistic.dataset, setting)
            if key in figures:
                found[key] = statistic
    return found


def _difference(
    key: tuple[str, str, str, str],
    number: int,
    first: Metric,
    other: Metric,
    first_data: dict[str, str],
    other_data: dict[str, str],
    resamples: int,
) -> Difference:
    paired = _same_examples(first, other, first_data, other_data)
    rng = host_generator(0, "comparison")
    strata = [len(indices) for _, indices in first.examples]
    value = other.compute(np.ones(other.n)) - first.compute(np.ones(first.n))
    if paired:
        interval = paired_bootstrap(first.compute, other.compute, strata, rng, resamples=resamples)
    else:
        strata_other = [len(indices) for _, indices in other.examples]
        interval = unpaired_bootstrap_difference(
            first.compute, strata, other.compute, strata_other, rng, resamples=resamples
        )
    return Difference(key, number, value, *interval, paired)


def _same_examples(first: Metric, other: Metric, first_data: dict[str, str], other_data: dict[str, str]) -> bool:
    return len(first.examples) == len(other.examples) and all(
        name == other_name and first_data[name] == other_data[name] and np.array_equal(indices, other_indices)
        for (name, indices), (other_name, other_indices) in zip(first.examples, other.examples, strict=True)
    )
