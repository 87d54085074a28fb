"""Differences between runs, paired where both measured the same examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hardy.evaluation.evaluate import load_results
from hardy.evaluation.framework import Metric
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
        value: the figure of this run minus that of the first.
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
    """Runs side by side; the others are compared with the first.

    Attributes:
        names: what the runs are called.
        scorecards: of each run.
        differences: of the later runs from the first, where both have the figure.
    """

    names: tuple[str, ...]
    scorecards: tuple[Scorecard, ...]
    differences: tuple[Difference, ...]


class _Evaluated(NamedTuple):
    """What was evaluated: the metrics behind the figures, the hashes of the data, and how many resamples to make."""

    metrics: dict[tuple[str, str, str, str], Metric]
    hashes: dict[str, str]
    resamples: int


def compare_runs(paths: Sequence[Path], data_dir: Path | None = None) -> Comparison:
    """All figures of evaluated runs, and how far those of each run are from those of the first.

    Raises:
        RunError: a run holds no evaluation, or records are missing or damaged.
    """
    runs = [Run.open(path) for path in paths]
    scorecards = [Scorecard.read(path / "scorecard.json") for path in paths]
    first, *others = (_evaluated(run, card, data_dir) for run, card in zip(runs, scorecards, strict=True))
    resamples = min(each.resamples for each in (first, *others))
    differences = [
        _difference(key, number, first, other, resamples)
        for number, other in enumerate(others, start=1)
        for key, metric in other.metrics.items()
        # A figure whose interval is known does not vary with the examples, so resampling them tells nothing.
        if key in first.metrics and metric.interval is None and not metric.no_interval
    ]
    # Two figures may each be defined on most resamples, and both on too few.
    known = [difference for difference in differences if np.isfinite([difference.low, difference.high]).all()]
    return Comparison(tuple(_names(paths)), tuple(scorecards), tuple(known))


def _names(paths: Sequence[Path]) -> list[str]:
    last = [path.resolve().name for path in paths]
    return last if len(set(last)) == len(last) else [str(path) for path in paths]


def _evaluated(run: Run, scorecard: Scorecard, data_dir: Path | None) -> _Evaluated:
    chosen, results = load_results(run, data_dir)
    figures = {identity(estimate) for estimate in scorecard.estimates}
    metrics = {}
    for prop in chosen:
        for metric in prop.metrics(results):
            setting = json.dumps(dict(metric.setting), sort_keys=True)
            key = (prop.name, metric.kind.name, metric.dataset, setting)
            if key in figures:
                metrics[key] = metric
    return _Evaluated(metrics, run.manifest["evaluation"]["data"], results.context.budget.resamples)


def _difference(
    key: tuple[str, str, str, str], number: int, first: _Evaluated, other: _Evaluated, resamples: int
) -> Difference:
    before, after = first.metrics[key], other.metrics[key]
    paired = _same_examples(before, after, first.hashes, other.hashes)
    rng = host_generator(0, "comparison")
    strata, strata_after = ([len(indices) for _, indices in it.examples] for it in (before, after))
    value = after.compute(np.ones(after.n)) - before.compute(np.ones(before.n))
    if paired:
        interval = paired_bootstrap(before.compute, after.compute, strata, rng, resamples=resamples)
    else:
        interval = unpaired_bootstrap_difference(
            before.compute, strata, after.compute, strata_after, rng, resamples=resamples
        )
    return Difference(key, number, value, *interval, paired)


def _same_examples(first: Metric, other: Metric, first_data: dict[str, str], other_data: dict[str, str]) -> bool:
    return len(first.examples) == len(other.examples) and all(
        name == other_name and first_data[name] == other_data[name] and np.array_equal(indices, other_indices)
        for (name, indices), (other_name, other_indices) in zip(first.examples, other.examples, strict=True)
    )
