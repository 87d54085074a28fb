"""Selective prediction: answer where the score is low, abstain where it is high, and count the errors that remain.

Coverage is the share answered, risk the share of wrong ones among these. Examples of one score are answered in random
order, and each figure is the expectation over these orders, in closed form; so none depends on the order of the data.
The ``prepared_…`` functions sort once and return the figure as a function of weights, linear in N.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import Figure, Floats, checked_flags, checked_values, checked_weights, group_sums


class RiskCoverage(NamedTuple):
    """The curve at each distinct score, the least suspicious first; coverage, float64 (M,), rises to 1."""

    coverage: Floats
    risk: Floats


def risk_coverage(score: NDArray, wrong: NDArray, *, weights: Floats | None = None) -> RiskCoverage:
    """The risk-coverage curve: one point for each threshold that the score allows.

    Args:
        score: (N,), higher is more suspicious.
        wrong: bool (N,), whether the prediction is wrong.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, NaN scores.

    El-Yaniv and Wiener, JMLR 2010.
    """
    answered, errors = _prepared_curve(score, wrong)(weights)
    return RiskCoverage(answered / answered[-1], errors / answered)


def aurc(score: NDArray, wrong: NDArray, *, weights: Floats | None = None) -> float:
    """Area under the risk-coverage curve in [0, 1]: the mean over n = 1 … N of the risk when n examples are answered.

    Arguments and errors as in :func:`risk_coverage`. A score that knows nothing gets the error rate.

    Geifman and El-Yaniv, NeurIPS 2017; ties as described above.
    """
    return prepared_aurc(score, wrong)(weights)


def excess_aurc(score: NDArray, wrong: NDArray, *, weights: Floats | None = None) -> float:
    """:func:`aurc` minus that of the best score, which ranks every wrong prediction last: 0 is perfect.

    The best is the exact one of N examples, not the limit r + (1 - r) ln(1 - r) for many.

    Geifman, Uziel and El-Yaniv, ICLR 2019.
    """
    return prepared_excess_aurc(score, wrong)(weights)


def risk_at_coverage(score: NDArray, wrong: NDArray, coverage: float, *, weights: Floats | None = None) -> float:
    """The risk when the least suspicious share ``coverage``, in (0, 1], is answered.

    A fraction of an example counts as that fraction. Other arguments and errors as in :func:`risk_coverage`.
    """
    return prepared_risk_at_coverage(score, wrong, coverage)(weights)


def coverage_at_risk(score: NDArray, wrong: NDArray, risk: float, *, weights: Floats | None = None) -> float:
    """The largest coverage of all thresholds whose risk is at most ``risk``, in [0, 1]; 0 where none is so safe.

    A threshold cannot tell equal scores apart: it answers all of them or none. Other arguments and errors as in
    :func:`risk_coverage`.
    """
    return prepared_coverage_at_risk(score, wrong, risk)(weights)


def coverage_at_bounded_risk(
    score: NDArray, wrong: NDArray, risk: float, level: float = 0.95, *, weights: Floats | None = None
) -> float:
    """:func:`coverage_at_risk`, where not the risk found but its upper Clopper-Pearson bound is at most ``risk``.

    Args:
        level: how sure the bound is at each threshold, one-sided, in (0, 1). It is not sure of all thresholds at once.

    With e errors among n answers the bound is at most ``risk`` where so few errors or fewer have a chance of at most
    1 - ``level`` at that risk. Without an error it takes 2,995 answers for a risk of 0.1 % at 95 %.

    Clopper and Pearson, Biometrika 1934; Geifman and El-Yaniv, NeurIPS 2017.
    """
    return prepared_coverage_at_bounded_risk(score, wrong, risk, level)(weights)


def prepared_aurc(score: NDArray, wrong: NDArray) -> Figure:
    """:func:`aurc` as a function of weights, float64 (N,)."""
    curve = _prepared_curve(score, wrong)
    return lambda weights: _area(*curve(weights))


def prepared_excess_aurc(score: NDArray, wrong: NDArray) -> Figure:
    """:func:`excess_aurc` as a function of weights, float64 (N,)."""
    own, best = prepared_aurc(score, wrong), prepared_aurc(wrong, wrong)
    return lambda weights: own(weights) - best(weights)


def prepared_risk_at_coverage(score: NDArray, wrong: NDArray, coverage: float) -> Figure:
    """:func:`risk_at_coverage` as a function of weights, float64 (N,)."""
    if not 0 < coverage <= 1:
        raise UsageError(f"coverage: {coverage}; the share of examples to answer lies in (0, 1]")
    curve = _prepared_curve(score, wrong)
    return lambda weights: _risk(*curve(weights), coverage)


def prepared_coverage_at_risk(score: NDArray, wrong: NDArray, risk: float) -> Figure:
    """:func:`coverage_at_risk` as a function of weights, float64 (N,)."""
    if not 0 <= risk <= 1:
        raise UsageError(f"risk: {risk}; the share of wrong answers to allow lies in [0, 1]")
    curve = _prepared_curve(score, wrong)
    return lambda weights: _coverage(*curve(weights), risk)


def prepared_coverage_at_bounded_risk(score: NDArray, wrong: NDArray, risk: float, level: float = 0.95) -> Figure:
    """:func:`coverage_at_bounded_risk` as a function of weights, float64 (N,)."""
    if not 0 < risk < 1:
        raise UsageError(f"risk: {risk}; the share of wrong answers to bound lies in (0, 1)")
    if not 0 < level < 1:
        raise UsageError(f"level: {level}; how sure a bound is lies in (0, 1), 0.95 for 95 %")
    curve = _prepared_curve(score, wrong)
    return lambda weights: _bounded_coverage(*curve(weights), risk, level)


def _prepared_curve(score: NDArray, wrong: NDArray) -> Callable[[Floats | None], tuple[Floats, Floats]]:
    """From weights to the weight answered and the errors in it, at each distinct score that has any weight."""
    score = checked_values(score, "score")
    wrong = checked_flags(wrong, len(score), "wrong")
    distinct, place = np.unique(score, return_inverse=True)

    def curve(weights: Floats | None) -> tuple[Floats, Floats]:
        weights = checked_weights(weights, len(place))
        size = group_sums(place, weights, len(distinct))
        errors = group_sums(place, weights * wrong, len(distinct))
        held = size > 0
        return np.cumsum(size[held]), np.cumsum(errors[held])

    return curve


def _area(answered: Floats, errors: Floats) -> float:
    """Sums the expected risks within each group of ties.

    With n answered and e errors before a group of m with f wrong, the k-th of the group brings the expected risk to
    (e + k f/m) / (n + k). Over k = 1 … m these sum to f + (e - n f/m) (H(n+m) - H(n)), H being harmonic numbers.
    """
    from scipy.special import digamma

    size, wrong = np.diff(answered, prepend=0.0), np.diff(errors, prepend=0.0)
    before, rate = answered - size, wrong / size
    harmonic = np.diff(digamma(np.concatenate([[0.0], answered]) + 1.0))
    return float((wrong + (errors - wrong - before * rate) * harmonic).sum() / answered[-1])


def _risk(answered: Floats, errors: Floats, coverage: float) -> float:
    reached = coverage * answered[-1]
    return float(np.interp(reached, np.append(0.0, answered), np.append(0.0, errors)) / reached)


def _coverage(answered: Floats, errors: Floats, risk: float) -> float:
    safe = np.flatnonzero(errors / answered <= risk)
    return float(answered[safe[-1]] / answered[-1]) if len(safe) else 0.0


def _bounded_coverage(answered: Floats, errors: Floats, risk: float, level: float) -> float:
    from scipy.special import betainc

    # Of the thresholds with equally many errors the last is the safest, and answers the most.
    last = np.append(np.diff(errors) > 0, True)
    answers, errors = answered[last], errors[last]
    right = answers - errors
    some = right > 0
    # The chance of at most e errors in n is that of a beta variable: I(1 - risk; n - e, e + 1).
    chance = betainc(right[some], errors[some] + 1.0, 1.0 - risk)
    safe = np.flatnonzero(chance <= 1.0 - level)
    return float(answers[some][safe[-1]] / answered[-1]) if len(safe) else 0.0
