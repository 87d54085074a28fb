"""Differences between runs, paired where both measured the same examples.

The interval of a difference comes from those of its two figures and their correlation. Hundreds of figures are
compared, so which differences count as found is decided for all of them together, by Benjamini and Hochberg's rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.evaluate import load_results
from hardy.evaluation.framework import Metric, interval_of, resampled
from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.metrics import benjamini_hochberg, mcnemar, mover, phi_coefficient
from hardy.rng import host_generator
from hardy.runs import Run

FALSE_DISCOVERIES = 0.05
"""The share of the differences that are said to be found which may be chance, on average."""


def identity(estimate: Estimate) -> tuple[str, str, str, str]:
    """What makes two figures of different runs the same figure."""
    return (estimate.property, estimate.metric, estimate.dataset, json.dumps(estimate.setting, sort_keys=True))


class Difference(NamedTuple):
    """How far one figure of a run is from the same figure of the first run.

    Attributes:
        identity: which figure, see :func:`identity`.
        run: the place of the run, from 1; the first run is 0.
        value: the figure of this run minus that of the first.
        low: lower end of the 95 % interval of ``value``; None where the figure has no interval.
        high: its upper end.
        paired: whether both runs measured the same examples, which makes the interval narrower.
        p_value: how often chance makes such a difference of equal figures; None where there is no interval.
        found: whether the difference counts as found: of all that do, at most 5 % are false on average.
    """

    identity: tuple[str, str, str, str]
    run: int
    value: float
    low: float | None
    high: float | None
    paired: bool
    p_value: float | None = None
    found: bool = False


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

    def as_json(self) -> dict[str, Any]:
        """JSON values: the runs' names, and per figure its value in each run and its difference from the first's."""
        known = {(it.identity, it.run): it for it in self.differences}
        by_run = [{identity(estimate): estimate for estimate in card.estimates} for card in self.scorecards]
        figures = []
        for key in dict.fromkeys(key for run in by_run for key in run):
            entries = []
            for place, run in enumerate(by_run):
                value = run[key].value if key in run else None
                found = known.get((key, place))
                difference = None
                if found is not None:
                    names = ("value", "low", "high", "paired", "p_value", "found")
                    difference = {name: getattr(found, name) for name in names}
                entries.append({"value": value, "difference": difference})
            prop, metric, dataset, setting = key
            place = {"property": prop, "metric": metric, "dataset": dataset, "setting": json.loads(setting)}
            figures.append({**place, "runs": entries})
        return {"runs": list(self.names), "false_discoveries": FALSE_DISCOVERIES, "figures": figures}


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
        for key in other.metrics
        if key in first.metrics
    ]
    # Two figures may each be defined on most resamples, and both on too few.
    known = [difference for difference in differences if difference is not None]
    found = iter(benjamini_hochberg([it.p_value for it in known if it.p_value is not None], FALSE_DISCOVERIES))
    judged = [it if it.p_value is None else it._replace(found=next(found)) for it in known]
    return Comparison(tuple(_names(paths)), tuple(scorecards), tuple(judged))


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
) -> Difference | None:
    before, after = first.metrics[key], other.metrics[key]
    paired = _same_examples(before, after, first.hashes, other.hashes)
    values = [it.compute(np.ones(it.n)) for it in (before, after)]
    difference = values[1] - values[0]
    if before.no_interval or after.no_interval:
        return Difference(key, number, difference, None, None, paired) if np.isfinite(difference) else None
    shares = before.successes is not None and after.successes is not None
    if shares:
        none = np.empty(0)
        intervals = [interval_of(it, value, lambda: none) for it, value in zip((before, after), values, strict=True)]
        correlation, p_value = _of_shares(before, after, paired)
    else:
        # The same resamples for both where they are paired.
        purposes = ("comparison",) * 2 if paired else ("comparison", "second")
        drawn = [
            resampled(it, host_generator(0, purpose), resamples)
            for it, purpose in zip((before, after), purposes, strict=True)
        ]
        intervals = [
            interval_of(it, value, lambda draws=draws: draws)
            for it, value, draws in zip((before, after), values, drawn, strict=True)
        ]
        defined = np.isfinite(drawn).all(axis=0)
        if 2 * defined.sum() < resamples:
            return None
        correlation, p_value = _of_resamples(drawn[0][defined], drawn[1][defined], difference, paired)
    if intervals[0] is None or intervals[1] is None:
        return None
    low, high = mover(values[0], intervals[0], values[1], intervals[1], correlation)
    return Difference(key, number, difference, low, high, paired, p_value)


def _of_shares(before: Metric, after: Metric, paired: bool) -> tuple[float, float]:
    """The correlation of two shares, and the p-value that they are equal: McNemar's, or Fisher's where not paired."""
    first, second = before.successes, after.successes
    assert first is not None
    assert second is not None
    if paired:
        both, only_first, only_second = (int(it.sum()) for it in (first & second, first & ~second, ~first & second))
        neither = len(first) - both - only_first - only_second
        return phi_coefficient(both, only_first, only_second, neither), mcnemar(only_first, only_second)
    from scipy.stats import fisher_exact

    table = [[int(it.sum()), int((~it).sum())] for it in (first, second)]
    tested: Any = fisher_exact(table)
    return 0.0, float(tested.pvalue)


def _of_resamples(
    before: NDArray[np.float64], after: NDArray[np.float64], difference: float, paired: bool
) -> tuple[float, float]:
    """The correlation of two figures over resamples, and the p-value that they are equal.

    It is the normal one, or the share of resamples on the other side of 0 if that is larger.
    """
    varies = before.std() > 0 and after.std() > 0
    correlation = float(np.corrcoef(before, after)[0, 1]) if paired and varies else 0.0
    drawn = after - before
    deviation = float(drawn.std())
    if difference == 0.0 or deviation == 0.0:
        return correlation, float(difference == 0.0)
    normal = math.erfc(abs(difference) / deviation / math.sqrt(2.0))
    return correlation, min(1.0, max(normal, 2.0 * float((drawn * np.sign(difference) <= 0).mean())))


def _same_examples(first: Metric, other: Metric, first_data: dict[str, str], other_data: dict[str, str]) -> bool:
    return len(first.examples) == len(other.examples) and all(
        name == other_name and first_data[name] == other_data[name] and np.array_equal(indices, other_indices)
        for (name, indices), (other_name, other_indices) in zip(first.examples, other.examples, strict=True)
    )
