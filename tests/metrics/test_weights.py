"""What every metric keeps: weights are repetitions, order does not matter, and nothing is made from nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hardy import metrics
from hardy.errors import UsageError
from hardy.rng import host_generator

CLASSES = 3


class Data(NamedTuple):
    """A few examples, with every column that some metric wants."""

    score: NDArray
    flag: NDArray
    probabilities: NDArray
    labels: NDArray
    weights: NDArray

    def take(self, index: NDArray) -> Data:
        return Data(*(column[index] for column in self))


Metric = Callable[[Data, NDArray | None], Any]


def split(figure: Callable[..., float]) -> Metric:
    """A two-sample metric on the examples without and with the flag."""

    def measured(data: Data, weights: NDArray | None) -> float:
        joined = None if weights is None else np.concatenate([weights[~data.flag], weights[data.flag]])
        return figure(data.score[~data.flag], data.score[data.flag], weights=joined)

    return measured


def prepared(prepare: Callable[..., metrics.Figure]) -> Metric:
    def measured(data: Data, weights: NDArray | None) -> float:
        joined = None if weights is None else np.concatenate([weights[~data.flag], weights[data.flag]])
        return prepare(data.score[~data.flag], data.score[data.flag])(joined)

    return measured


METRICS: dict[str, Metric] = {
    "weighted_mean": lambda data, weights: metrics.weighted_mean(data.score, weights=weights),
    "ece": lambda data, weights: metrics.ece(data.score, data.flag, 5, weights=weights),
    "rms_calibration_error": lambda data, weights: metrics.rms_calibration_error(
        data.score, data.flag, 5, weights=weights
    ),
    "max_calibration_error": lambda data, weights: metrics.max_calibration_error(
        data.score, data.flag, 5, weights=weights
    ),
    "ece by mass": lambda data, weights: metrics.ece(data.score, data.flag, 3, "mass", weights=weights),
    "debiased_ece": lambda data, weights: metrics.debiased_ece(data.score, data.flag, 5, weights=weights),
    "debiased_squared_calibration_error": lambda data, weights: metrics.debiased_squared_calibration_error(
        data.score, data.flag, 5, weights=weights
    ),
    "class_wise_ece": lambda data, weights: metrics.class_wise_ece(data.probabilities, data.labels, 5, weights=weights),
    "brier_parts": lambda data, weights: metrics.brier_parts(data.probabilities, data.labels, 5, weights=weights),
    "coverage_at_bounded_risk": lambda data, weights: metrics.coverage_at_bounded_risk(
        data.score, data.flag, 0.6, 0.7, weights=weights
    ),
    "reliability by width": lambda data, weights: metrics.reliability(data.score, data.flag, 5, weights=weights),
    "reliability by mass": lambda data, weights: metrics.reliability(data.score, data.flag, 3, "mass", weights=weights),
    "nll": lambda data, weights: metrics.nll(np.log(data.probabilities), data.labels, weights=weights),
    "brier": lambda data, weights: metrics.brier(data.probabilities, data.labels, weights=weights),
    "auroc": split(metrics.auroc),
    "aupr": split(metrics.aupr),
    "fpr_at_tpr": split(partial(metrics.fpr_at_tpr, tpr=0.6)),
    "prepared_auroc": prepared(metrics.prepared_auroc),
    "prepared_aupr": prepared(metrics.prepared_aupr),
    "prepared_fpr_at_tpr": prepared(metrics.prepared_fpr_at_tpr),
    "risk_coverage": lambda data, weights: metrics.risk_coverage(data.score, data.flag, weights=weights),
    "aurc": lambda data, weights: metrics.aurc(data.score, data.flag, weights=weights),
    "excess_aurc": lambda data, weights: metrics.excess_aurc(data.score, data.flag, weights=weights),
    "risk_at_coverage": lambda data, weights: metrics.risk_at_coverage(data.score, data.flag, 0.55, weights=weights),
    "coverage_at_risk": lambda data, weights: metrics.coverage_at_risk(data.score, data.flag, 0.4, weights=weights),
    "prepared_aurc": lambda data, weights: metrics.prepared_aurc(data.score, data.flag)(weights),
    "prepared_excess_aurc": lambda data, weights: metrics.prepared_excess_aurc(data.score, data.flag)(weights),
    "prepared_risk_at_coverage": lambda data, weights: metrics.prepared_risk_at_coverage(data.score, data.flag, 0.3)(
        weights
    ),
    "prepared_coverage_at_risk": lambda data, weights: metrics.prepared_coverage_at_risk(data.score, data.flag, 0.2)(
        weights
    ),
}


@st.composite
def examples(draw: st.DrawFn) -> Data:
    """Scores on a grid that holds 0, 1 and the bin edges, so that ties are frequent; some weights are zero."""
    n = draw(st.integers(1, 12))
    column = {
        name: np.array(draw(st.lists(strategy, min_size=n, max_size=n)))
        for name, strategy in (("score", st.integers(0, 10)), ("flag", st.booleans()), ("labels", st.integers(0, 2)))
    }
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any))
    rows = host_generator(draw(st.integers(0, 99)), "rows").dirichlet(np.ones(CLASSES), n)
    return Data(column["score"] / 10, column["flag"], rows, column["labels"], np.array(weights, dtype=np.float64))


def assert_same(measured: Any, expected: Any) -> None:
    """Of figures, or of curves column by column."""
    if not isinstance(expected, tuple):
        measured, expected = (measured,), (expected,)
    for one, other in zip(measured, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=50, deadline=None)
@given(data=examples())
def test_weights_count_repetitions(name: str, data: Data) -> None:
    repeated = data.take(np.repeat(np.arange(len(data.score)), data.weights.astype(int)))
    assert_same(METRICS[name](data, data.weights), METRICS[name](repeated, None))


def test_roc_curve_with_weights_is_that_of_the_repeated_examples() -> None:
    rng = host_generator(0, "roc")
    negative, positive = rng.integers(0, 8, 30), rng.integers(3, 11, 20)
    often = rng.integers(0, 4, 30), rng.integers(0, 4, 20)
    weighted = metrics.roc_curve(negative, positive, weights=np.concatenate(often).astype(float))
    assert_same(weighted, metrics.roc_curve(np.repeat(negative, often[0]), np.repeat(positive, often[1])))


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=20, deadline=None)
@given(data=examples(), seed=st.integers(0, 99))
def test_order_of_examples_does_not_matter(name: str, data: Data, seed: int) -> None:
    shuffled = data.take(host_generator(seed, "order").permutation(len(data.score)))
    assert_same(METRICS[name](shuffled, shuffled.weights), METRICS[name](data, data.weights))


DATA = Data(
    np.array([0.2, 0.4, 0.6]),
    np.array([True, False, True]),
    np.full((3, CLASSES), 1 / CLASSES),
    np.array([0, 1, 2]),
    np.ones(3),
)


@pytest.mark.parametrize("name", METRICS)
def test_zero_examples_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no examples"):
        METRICS[name](DATA.take(np.array([], dtype=int)), None)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(3), "all are zero"),
        (np.array([1.0, -1.0, 1.0]), "from 0 up"),
        (np.array([1.0, np.nan, 1.0]), "from 0 up"),
        (np.array([1.0, np.inf, 1.0]), "from 0 up"),
    ],
)
def test_weights_that_are_no_counts_are_refused(name: str, weights: NDArray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        METRICS[name](DATA, weights)


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(2,\).*3 examples"):
        metrics.aurc(DATA.score, DATA.flag, weights=np.ones(2))
    with pytest.raises(UsageError, match=r"shape \(2,\).*3 examples"):
        metrics.auroc(np.zeros(1), np.ones(2), weights=np.ones(2))


def test_weighted_mean_leaves_out_what_does_not_count() -> None:
    values = np.array([1.0, np.inf, 4.0])
    assert metrics.weighted_mean(values, weights=np.array([2.0, 0.0, 1.0])) == 2.0
    assert metrics.weighted_mean(values) == np.inf
    assert metrics.weighted_mean(np.array([True, False])) == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda nan: metrics.auroc(nan, np.ones(2)),
        lambda nan: metrics.auroc(np.ones(2), nan),
        lambda nan: metrics.aurc(nan, np.array([True, False])),
        lambda nan: metrics.ece(nan, np.array([True, False])),
        lambda nan: metrics.weighted_mean(nan),
    ],
)
def test_nan_is_refused(call: Callable[[NDArray], float]) -> None:
    with pytest.raises(UsageError, match="NaN for 1 of 2 examples"):
        call(np.array([0.5, np.nan]))


def test_flags_are_flags() -> None:
    assert metrics.ece(DATA.score, DATA.flag.astype(int)) == metrics.ece(DATA.score, DATA.flag)
    with pytest.raises(UsageError, match="correct: flags"):
        metrics.ece(DATA.score, DATA.labels)
    with pytest.raises(UsageError, match=r"wrong: shape \(2,\)"):
        metrics.aurc(DATA.score, DATA.flag[:2])
