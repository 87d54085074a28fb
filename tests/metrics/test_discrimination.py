"""ROC figures against scikit-learn, the definition by pairs, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as peer

from hardy.errors import UsageError
from hardy.metrics import (
    aupr,
    auroc,
    auroc_interval,
    bootstrap_weights,
    bounded_interval,
    clopper_pearson,
    fpr_at_tpr,
    prepared_aupr,
    prepared_auroc,
    prepared_fpr_at_tpr,
    roc_curve,
)
from hardy.rng import host_generator

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=15).map(np.array)


def some_scores(ties: bool) -> tuple[NDArray, NDArray]:
    rng = host_generator(int(ties), "scores")
    negative, positive = rng.normal(0, 1, 400), rng.normal(1, 1.5, 150)
    return (negative.round(), positive.round()) if ties else (negative, positive)


def labelled(negative: NDArray, positive: NDArray) -> tuple[NDArray, NDArray]:
    return np.repeat([0, 1], [len(negative), len(positive)]), np.concatenate([negative, positive])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_figures_equal_scikit_learn(ties: bool, weighted: bool) -> None:
    negative, positive = some_scores(ties)
    truth, scores = labelled(negative, positive)
    weights = host_generator(0, "weights").integers(0, 4, len(truth)).astype(float) if weighted else None
    given_weights = {} if weights is None else {"weights": weights}
    assert auroc(negative, positive, **given_weights) == pytest.approx(
        peer.roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12
    )
    assert aupr(negative, positive, **given_weights) == pytest.approx(
        peer.average_precision_score(truth, scores, sample_weight=weights), abs=1e-12
    )
    false, true, _ = peer.roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    for tpr in (0.05, 0.5, 0.8, 0.95, 1.0):
        expected = false[true >= tpr - 1e-12].min()
        assert fpr_at_tpr(negative, positive, tpr, **given_weights) == pytest.approx(expected, abs=1e-12)
    curve = roc_curve(negative, positive, 10**6, **given_weights)
    # As functions of the way along the curve, where a vertical stretch is no jump.
    way = curve.false_positive_rate + curve.true_positive_rate
    np.testing.assert_allclose(np.interp(false + true, way, curve.false_positive_rate), false, atol=1e-12)
    np.testing.assert_allclose(np.interp(false + true, way, curve.true_positive_rate), true, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(negative=SCORES, positive=SCORES)
def test_auroc_is_the_share_of_ordered_pairs(negative: NDArray, positive: NDArray) -> None:
    difference = positive[:, None] - negative[None, :]
    assert auroc(negative, positive) == pytest.approx(((difference > 0) + (difference == 0) / 2).mean(), abs=1e-15)
    assert auroc(positive, negative) == pytest.approx(1 - auroc(negative, positive), abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(negative=SCORES, positive=SCORES, tpr=st.sampled_from([0.1, 0.5, 0.75, 0.95, 1.0]))
def test_fpr_at_tpr_is_the_best_of_all_thresholds(negative: NDArray, positive: NDArray, tpr: float) -> None:
    rates = [(np.mean(positive >= cut), np.mean(negative >= cut)) for cut in positive]
    assert fpr_at_tpr(negative, positive, tpr) == min(false for true, false in rates if true >= tpr)


def test_only_the_order_of_scores_matters() -> None:
    negative, positive = some_scores(ties=True)
    for figure in (auroc, aupr, fpr_at_tpr):
        assert figure(np.exp(negative), np.exp(positive)) == figure(negative, positive)


@pytest.mark.parametrize("figure", [auroc, aupr])
def test_separated_classes(figure) -> None:
    assert figure(np.array([-np.inf, 1, 2]), np.array([3, np.inf])) == 1.0


def test_scores_that_know_nothing() -> None:
    same = np.zeros(30), np.zeros(10)
    assert auroc(*same) == 0.5
    assert aupr(*same) == 0.25
    assert fpr_at_tpr(*same) == 1.0


def test_fpr_at_95_tpr_catches_19_of_20_suspicious_ones() -> None:
    positive = np.arange(1.0, 21.0)
    assert fpr_at_tpr(np.array([1.5, 2.5, 0.0, 0.0]), positive) == 0.25
    assert fpr_at_tpr(positive, np.array([1.5, 2.5, 0.0, 0.0])) == 1.0


@pytest.mark.parametrize("figure", [auroc, aupr, fpr_at_tpr])
def test_one_class_has_no_figure(figure) -> None:
    some, none = np.array([1.0, 2.0]), np.array([])
    assert np.isnan(figure(some, none))
    assert np.isnan(figure(none, some))
    assert np.isnan(figure(some, some, weights=np.array([1.0, 1.0, 0.0, 0.0])))
    assert np.isnan(figure(some, some, weights=np.array([0.0, 0.0, 1.0, 1.0])))


def test_a_prepared_figure_can_be_used_again() -> None:
    negative, positive = some_scores(ties=True)
    rng = host_generator(0, "resamples")
    resamples = [bootstrap_weights([len(negative), len(positive)], rng) for _ in range(5)]
    for prepare, figure in ((prepared_auroc, auroc), (prepared_aupr, aupr), (prepared_fpr_at_tpr, fpr_at_tpr)):
        once = prepare(negative, positive)
        for weights in resamples:
            often = np.split(weights, [len(negative)])
            assert once(weights) == figure(negative, positive, weights=np.concatenate(often))
        assert once(None) == figure(negative, positive)


def test_roc_curve_keeps_only_corners() -> None:
    curve = roc_curve(np.array([1.0, 2, 3, 4]), np.array([3.5, 5, 6]))
    np.testing.assert_allclose(curve.false_positive_rate, [0, 0, 0.25, 0.25, 1])
    np.testing.assert_allclose(curve.true_positive_rate, [0, 2 / 3, 2 / 3, 1, 1])
    for same in (np.zeros(3), np.zeros(1)):
        np.testing.assert_array_equal(roc_curve(same, np.zeros(2)), [[0, 1], [0, 1]])


@pytest.mark.parametrize("shift", [0.5, 2.0, 4.0])
def test_a_thinned_roc_curve_keeps_its_shape(shift: float) -> None:
    rng = host_generator(0, "thinned")
    negative, positive = rng.normal(0, 1, 5000), rng.normal(shift, 1, 4000)
    thin, whole = roc_curve(negative, positive, 100), roc_curve(negative, positive, 10**6)
    assert len(thin[0]) <= 100 < len(whole[0])
    assert (thin[0][0], thin[1][0], thin[0][-1], thin[1][-1]) == (0, 0, 1, 1)
    assert {*zip(*thin, strict=True)} <= {*zip(*whole, strict=True)}
    assert np.trapezoid(whole[1], whole[0]) == pytest.approx(auroc(negative, positive), abs=1e-12)
    gap = np.abs(np.add(*whole)[:, None] - np.add(*thin)[None, :]).min(axis=1)
    assert gap.max() < 2 / 99
    assert np.trapezoid(thin[1], thin[0]) == pytest.approx(auroc(negative, positive), abs=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fpr_at_tpr(np.ones(1), np.ones(1), 0.0), "tpr: 0.0"),
        (lambda: fpr_at_tpr(np.ones(1), np.ones(1), 95), "tpr: 95"),
        (lambda: roc_curve(np.ones(1), np.array([])), "one class is empty"),
        (lambda: roc_curve(np.ones(1), np.ones(1), 1), "points: 1"),
        (lambda: auroc(np.ones((2, 2)), np.ones(2)), r"negative_scores: shape \(2, 2\)"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_the_interval_is_delongs() -> None:
    """The variance of the area from all pairs of placements, as DeLong writes it, then the logit and back."""
    rng = np.random.default_rng(0)
    negative, positive = rng.normal(size=40).round(1), (rng.normal(size=25) + 1.2).round(1)
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = wins.mean()
    deviation = math.sqrt(wins.mean(1).var(ddof=1) / 25 + wins.mean(0).var(ddof=1) / 40)
    assert auroc_interval(negative, positive) == pytest.approx(bounded_interval(area, deviation**2, 1 / 25))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = 0.5 * math.erfc(-1.0 / 2.0)  # Two normals, one deviation apart.
    hits = 0
    for _ in range(400):
        low, high = auroc_interval(rng.normal(size=60), rng.normal(size=60) + 1.0)
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_interval_of_what_is_all_told_apart_is_exact() -> None:
    inside, outside = np.arange(500.0), 500.0 + np.arange(40.0)
    assert auroc_interval(inside, outside) == pytest.approx((0.025 ** (1 / 40), 1.0))
    assert auroc_interval(np.zeros(40), np.zeros(60)).low == pytest.approx(clopper_pearson(20, 40).low, abs=0.01)


def test_one_outlier_of_a_hundred_that_looks_like_a_digit_is_not_forgotten() -> None:
    """An interval of width zero, where none of the 100 is, covers in 57 % of cases."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        outside = np.where(rng.random(100) < 0.01, rng.normal(size=100), rng.normal(size=100) + 9)
        low, high = auroc_interval(rng.normal(size=300), outside)
        hits += low <= 0.995 <= high
    assert hits / 300 >= 0.94


def test_the_interval_needs_two_of_each() -> None:
    with pytest.raises(UsageError, match="two examples"):
        auroc_interval(np.array([0.0]), np.array([2.0, 3.0]))
