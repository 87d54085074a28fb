"""Accuracy on slices: groups of images that ``metadata.csv`` tells apart, and the worst of them beside the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Compute, Metric, MetricKind, Results, view
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.metrics import clopper_pearson, weighted_mean

FEWEST = 10
"""Images of a slice; what is said of fewer is mostly chance."""
MOST_VALUES = 50
"""Of a column; one with more, such as a date, makes no groups."""

SLICE_ACCURACY = MetricKind.share("slice_accuracy", "Accuracy on one slice", higher_is_better=True)
WORST_ACCURACY = MetricKind.share("worst_slice_accuracy", "Accuracy on the worst slice", higher_is_better=True)


class Slice(NamedTuple):
    """The test images with one value in one column; bool (N,), which they are."""

    column: str
    value: str
    chosen: NDArray[np.bool_]


class Slices(NamedTuple):
    """The slices that are looked at, and those that are not, with the reason."""

    found: list[Slice]
    left_out: list[str]


@view
def slices(results: Results) -> Slices:
    """What the columns of the test images' metadata tell apart."""
    indices = predictions_of(results, test_measurement(results.context)).indices
    found, left_out = [], []
    for column, values in results.dataset(results.context.dataset).columns.items():
        own = np.array(values, object)[indices]
        distinct = sorted(set(own.tolist()) - {""})
        if len(distinct) > MOST_VALUES:
            left_out.append(f"{column}, which has {len(distinct):,} values")
            continue
        each = [Slice(column, value, own == value) for value in distinct]
        few = [it.value for it in each if it.chosen.sum() < FEWEST]
        left_out += [f"{column} {', '.join(few)}, with fewer than {FEWEST} images each"] if few else []
        found += [it for it in each if it.value not in few]
    return Slices(found, left_out)


def metrics(results: Results) -> list[Metric]:
    """The accuracy on each slice and on the worst, with intervals that hold for all of them at once.

    They are exact ones at a level that Bonferroni corrects for the number of slices: Wilson's, which cover on average
    over the shares, miss too many of the lowest of several.
    """
    answers, found = predictions_of(results, test_measurement(results.context)), slices(results).found
    if not found:
        return []
    level = 1.0 - 0.05 / len(found)
    right = answers.correct.astype(np.float64)
    intervals = [clopper_pearson(int(right[it.chosen].sum()), int(it.chosen.sum()), level) for it in found]
    metrics = []
    for it, interval in zip(found, intervals, strict=True):
        own = answers.at(it.chosen)
        setting = {"column": it.column, "value": it.value, "slices": len(found)}
        accuracy = _accuracy(own.correct)
        metrics.append(Metric(SLICE_ACCURACY, accuracy, own.examples, setting, interval=(interval.low, interval.high)))

    def worst(weights: NDArray[np.float64]) -> float:
        each = [_accuracy(right[it.chosen])(weights[it.chosen]) for it in found if weights[it.chosen].any()]
        return min(each, default=float("nan"))

    lowest = found[int(np.argmin([right[it.chosen].mean() for it in found]))]
    kind = replace(WORST_ACCURACY, question=f"Are all groups recognized? Least of all {lowest.column} {lowest.value}")
    # All shares lie in their intervals at once, so the lowest lies between the lowest ends.
    interval = min(it.low for it in intervals), min(it.high for it in intervals)
    setting = {"slices": len(found)}
    return [Metric(kind, worst, answers.examples, setting, interval=interval, headline=True), *metrics]


def _accuracy(correct: NDArray) -> Compute:
    return lambda weights: weighted_mean(correct, weights=weights)


def warnings(results: Results) -> list[str]:
    return [f"accuracy: slices that are not looked at: {reason}" for reason in slices(results).left_out]
