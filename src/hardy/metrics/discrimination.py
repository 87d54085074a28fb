"""Discrimination: how well a score tells suspicious examples from harmless ones.

A higher score is more suspicious, and the positive class is the suspicious one: the wrong predictions in error
detection, the foreign inputs in out-of-distribution detection. Only the order of scores matters, so any increasing
function of a score gives the same figures. Ties are kept: examples of one score pass a threshold together.

Figures are NaN where one of the classes has no example or no weight. The ``prepared_…`` functions sort once and return
the figure as a function of weights, negatives first, then positives: linear in N, for bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import Figure, Floats, checked_values, checked_weights, group_sums
from hardy.metrics.intervals import Interval, bounded_interval, check_level


class RocCurve(NamedTuple):
    """Points of a ROC curve from (0, 0) to (1, 1), both float64 (M,) and never falling."""

    false_positive_rate: Floats
    true_positive_rate: Floats


def auroc(negative_scores: NDArray, positive_scores: NDArray, *, weights: Floats | None = None) -> float:
    """Area under the ROC curve in [0, 1]: the chance that a positive outscores a negative, a tie counting one half.

    Args:
        negative_scores: (N,), higher is more suspicious.
        positive_scores: (M,), the suspicious class.
        weights: float64 (N+M,), how often each example counts, negatives first.

    Returns:
        The Mann-Whitney statistic, exact with ties; NaN where a class is empty.

    Raises:
        UsageError: no examples or no weight at all, NaN scores.
    """
    return prepared_auroc(negative_scores, positive_scores)(weights)


def aupr(negative_scores: NDArray, positive_scores: NDArray, *, weights: Floats | None = None) -> float:
    """Average precision in [0, 1], the positive class being the suspicious one; arguments as in :func:`auroc`.

    The sum over thresholds of precision times the gain in recall, without interpolation. A score that knows nothing
    gets the share of positives, so figures of different shares do not compare.
    """
    return prepared_aupr(negative_scores, positive_scores)(weights)


def fpr_at_tpr(
    negative_scores: NDArray, positive_scores: NDArray, tpr: float = 0.95, *, weights: Floats | None = None
) -> float:
    """The share of negatives flagged when at least ``tpr`` of the positives are; arguments as in :func:`auroc`.

    The positive class is the suspicious one: harmless examples flagged while 95 % of the suspicious ones are caught.
    Some papers call the in-distribution class positive, which is another figure. The threshold is a score that occurs;
    nothing is interpolated.

    Raises:
        UsageError: also for a ``tpr`` outside (0, 1].
    """
    return prepared_fpr_at_tpr(negative_scores, positive_scores, tpr)(weights)


def auroc_interval(negative_scores: NDArray, positive_scores: NDArray, *, level: float = 0.95) -> Interval:
    """The interval of :func:`auroc` by DeLong's variance, as that of a share with such a variance; within [0, 1].

    Where all are told apart it is exact: were the area smaller than the k-th root of 2.5 %, k being the size of the
    smaller class, k pairs without a common example would all be in order with a chance of less than 2.5 %.

    Raises:
        UsageError: a class without two examples, NaN scores, a level outside (0, 1).

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988; :func:`~hardy.metrics.bounded_interval` for the rest.
    """
    check_level(level)
    negative = np.sort(checked_values(negative_scores, "negative scores"))
    positive = np.sort(checked_values(positive_scores, "positive scores"))
    if min(len(negative), len(positive)) < 2:
        raise UsageError("the interval of an AUROC needs two examples of each class")
    of_positives, of_negatives = _share_below(negative, positive), 1.0 - _share_below(positive, negative)
    area = float(of_positives.mean())
    variance = of_positives.var(ddof=1) / len(positive) + of_negatives.var(ddof=1) / len(negative)
    event = 1.0 / min(len(negative), len(positive))
    # Where all say the same there is no variance to see; that of a share is the largest that there can be.
    return bounded_interval(area, float(variance) or area * (1.0 - area) * event, event, level=level)


def _share_below(sorted_scores: Floats, scores: Floats) -> Floats:
    """For each score the share of the sorted ones below it, ties counting one half."""
    below, up_to = (np.searchsorted(sorted_scores, scores, side) for side in ("left", "right"))
    return (below + up_to) / (2.0 * len(sorted_scores))


def prepared_auroc(negative_scores: NDArray, positive_scores: NDArray) -> Figure:
    """:func:`auroc` as a function of weights, float64 (N+M,), negatives first."""
    sweep = _prepared_sweep(negative_scores, positive_scores)
    return lambda weights: _area(*sweep(weights))


def prepared_aupr(negative_scores: NDArray, positive_scores: NDArray) -> Figure:
    """:func:`aupr` as a function of weights, float64 (N+M,), negatives first."""
    sweep = _prepared_sweep(negative_scores, positive_scores)
    return lambda weights: _average_precision(*sweep(weights))


def prepared_fpr_at_tpr(negative_scores: NDArray, positive_scores: NDArray, tpr: float = 0.95) -> Figure:
    """:func:`fpr_at_tpr` as a function of weights, float64 (N+M,), negatives first."""
    if not 0 < tpr <= 1:
        raise UsageError(f"tpr: {tpr}; a true positive rate to reach lies in (0, 1]")
    sweep = _prepared_sweep(negative_scores, positive_scores)
    return lambda weights: _false_positive_rate(*sweep(weights), tpr)


def roc_curve(
    negative_scores: NDArray, positive_scores: NDArray, points: int = 500, *, weights: Floats | None = None
) -> RocCurve:
    """The ROC curve for drawing, at most ``points`` of its corners; other arguments as in :func:`auroc`.

    A left-out corner is closer than 2/(points - 1) to a kept one, right and up together.

    Raises:
        UsageError: no examples, NaN scores, fewer than 2 points, or an empty class, which has no such curve.
    """
    if points < 2:
        raise UsageError(f"points: {points}; a curve has at least 2")
    false, true = _prepared_sweep(negative_scores, positive_scores)(weights)
    if not (false[-1] and true[-1]):
        raise UsageError("roc_curve: one class is empty; a ROC curve needs negatives and positives")
    false, true = _corners(false, true)
    if len(false) > points:
        kept = np.unique(np.searchsorted(false + true, np.linspace(0.0, 2.0, points)))
        false, true = false[kept], true[kept]
    return RocCurve(false, true)


def _prepared_sweep(negative: NDArray, positive: NDArray) -> Callable[[Floats | None], tuple[Floats, Floats]]:
    """From weights to the false and true positives at each distinct score, the most suspicious first."""
    negative, positive = checked_values(negative, "negative_scores"), checked_values(positive, "positive_scores")
    n = len(negative)
    distinct, place = np.unique(-np.concatenate([negative, positive]), return_inverse=True)

    def sweep(weights: Floats | None) -> tuple[Floats, Floats]:
        weights = checked_weights(weights, len(place))
        return (
            np.cumsum(group_sums(place[:n], weights[:n], len(distinct))),
            np.cumsum(group_sums(place[n:], weights[n:], len(distinct))),
        )

    return sweep


def _area(false: Floats, true: Floats) -> float:
    if not (false[-1] and true[-1]):
        return float("nan")
    # A trapezium from one distinct score to the next counts half of the tied pairs.
    area = np.diff(false, prepend=0.0) @ (true - np.diff(true, prepend=0.0) / 2.0)
    return float(area / (false[-1] * true[-1]))


def _average_precision(false: Floats, true: Floats) -> float:
    if not (false[-1] and true[-1]):
        return float("nan")
    found = np.diff(true, prepend=0.0)
    some = found > 0
    return float(found[some] @ (true[some] / (true[some] + false[some])) / true[-1])


def _false_positive_rate(false: Floats, true: Floats, tpr: float) -> float:
    if not (false[-1] and true[-1]):
        return float("nan")
    return float(false[np.searchsorted(true / true[-1], tpr)] / false[-1])


def _corners(false: Floats, true: Floats) -> tuple[Floats, Floats]:
    """Rates from (0, 0) to (1, 1), only where the direction changes: no straight stretch has inner points."""
    right, up = np.diff(false, prepend=0.0), np.diff(true, prepend=0.0)
    moves = right + up > 0
    right, up = right[moves], up[moves]
    turns = np.append(right[:-1] * up[1:] != right[1:] * up[:-1], True)
    return (
        np.concatenate([[0.0], false[moves][turns] / false[-1]]),
        np.concatenate([[0.0], true[moves][turns] / true[-1]]),
    )
