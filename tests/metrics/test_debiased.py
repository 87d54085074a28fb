"""Debiased and class-wise errors, the parts of the Brier score, and the p-value, against what they estimate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from netcal.metrics import ECE
from numpy.typing import NDArray
from scipy.stats import binom, kstest, norm

from hardy.errors import UsageError
from hardy.metrics import (
    NoiseFloor,
    brier,
    brier_parts,
    calibration_p_value,
    class_wise_ece,
    debiased_ece,
    debiased_squared_calibration_error,
    ece,
    ece_noise_floor,
    max_calibration_error,
    rms_calibration_error,
)
from hardy.rng import host_generator


def rows_of_distributions(n: int, classes: int) -> tuple[NDArray, NDArray]:
    rng = host_generator(classes, "rows")
    return rng.dirichlet(np.full(classes, 0.4), n), rng.integers(0, classes, n)


@pytest.mark.parametrize("truth", [(0.3, 0.9), (0.4, 0.8), (0.0, 1.0)])
def test_the_debiased_square_is_unbiased(truth: tuple[float, float]) -> None:
    """Over all outcomes of 4 answers of confidence .4 and 5 of .8, each as likely as it is."""
    confidence = np.repeat([0.4, 0.8], [4, 5])
    mean = 0.0
    for hits in itertools.product(range(5), range(6)):
        chance = binom.pmf(hits[0], 4, truth[0]) * binom.pmf(hits[1], 5, truth[1])
        correct = np.concatenate([np.arange(4) < hits[0], np.arange(5) < hits[1]])
        mean += chance * debiased_squared_calibration_error(confidence, correct)
    assert mean == pytest.approx((4 * (truth[0] - 0.4) ** 2 + 5 * (truth[1] - 0.8) ** 2) / 9)


def test_of_the_squared_error_only_the_variance_is_taken() -> None:
    confidence, correct = np.full(10, 0.7), np.arange(10) < 8
    square = rms_calibration_error(confidence, correct) ** 2
    assert debiased_squared_calibration_error(confidence, correct) == pytest.approx(square - 0.8 * 0.2 / 9)


def test_a_bin_of_one_has_no_variance_and_counts_as_0() -> None:
    assert debiased_squared_calibration_error(np.array([0.3]), np.array([True])) == 0.0
    assert debiased_squared_calibration_error(np.array([0.3, 0.9, 0.9]), np.array([1, 1, 1])) == pytest.approx(0.02 / 3)


def test_debiased_ece_takes_off_what_normal_noise_adds() -> None:
    """As by drawing: Kumar et al. add noise to each bin's accuracy and see how much the gaps grow."""
    rng = host_generator(0, "noise")
    confidence = rng.random(400)
    correct = rng.random(400) < confidence**1.2
    place = np.ceil(confidence * 5).astype(int) - 1
    counts = np.bincount(place)
    accuracy, mean = (np.bincount(place, values) / counts for values in (correct, confidence))
    noisy = accuracy + np.sqrt(accuracy * (1 - accuracy) / counts) * rng.normal(size=(200_000, 5))
    grown = np.abs(noisy - mean) @ counts / 400
    plain = ece(confidence, correct, 5)
    spread = grown.std() / np.sqrt(len(grown))
    assert debiased_ece(confidence, correct, 5) == pytest.approx(2 * plain - grown.mean(), abs=5 * spread)
    assert debiased_ece(confidence, correct, 5) < plain


def test_debiased_ece_in_closed_form() -> None:
    """No gap is left to chance: what noise of deviation s adds to a gap of 0 is s times the mean of |normal|."""
    confidence, correct = np.full(100, 0.8), np.arange(100) < 80
    added = norm.expect(abs) * 0.4 / 10
    assert debiased_ece(confidence, correct) == pytest.approx(-added, rel=1e-6)
    assert debiased_ece(np.full(9, 0.9), np.ones(9, bool)) == pytest.approx(0.1)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_class_wise_ece_is_the_mean_of_netcals_over_classes(classes: int, bins: int) -> None:
    probabilities, labels = rows_of_distributions(300, classes)
    expected = np.mean([ECE(bins).measure(probabilities[:, k], (labels == k).astype(int)) for k in range(classes)])
    assert class_wise_ece(probabilities, labels, bins) == pytest.approx(expected)


def test_class_wise_ece_of_certainty() -> None:
    assert class_wise_ece(np.eye(4), np.arange(4)) == 0.0
    assert class_wise_ece(np.eye(4), np.array([1, 2, 3, 0])) == pytest.approx(0.5)
    assert class_wise_ece(np.array([[1.0, 0.0, 0.0]]), np.array([0]), 100) == 0.0


def test_of_two_classes_class_wise_ece_sees_both_sides() -> None:
    """Class 1 mirrors class 0; with one bin both are the gap of the means."""
    probabilities, labels = rows_of_distributions(200, 2)
    gap = abs(probabilities[:, 1].mean() - labels.mean())
    assert class_wise_ece(probabilities, labels, 1) == pytest.approx(gap)


def test_errors_by_mass_equal_netcals() -> None:
    rng = host_generator(0, "mass")
    confidence = rng.random(600)
    correct = rng.random(600) < confidence**2
    by_mass = ECE(12, equal_intervals=False).measure(confidence, correct.astype(int))
    assert ece(confidence, correct, 12, "mass") == pytest.approx(by_mass)
    order = np.argsort(confidence)
    gaps = confidence[order].reshape(12, 50).mean(axis=1) - correct[order].reshape(12, 50).mean(axis=1)
    assert max_calibration_error(confidence, correct, 12, "mass") == pytest.approx(np.abs(gaps).max())
    assert rms_calibration_error(confidence, correct, 12, "mass") == pytest.approx(np.sqrt((gaps**2).mean()))


def test_by_mass_more_bins_than_examples_leave_each_alone() -> None:
    confidence, correct = np.array([0.2, 0.5, 0.9]), np.array([True, False, True])
    assert ece(confidence, correct, 20, "mass") == pytest.approx((0.8 + 0.5 + 0.1) / 3)
    assert max_calibration_error(confidence, correct, 20, "mass") == pytest.approx(0.8)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_parts_sum_to_the_brier_score(classes: int) -> None:
    probabilities, labels = rows_of_distributions(250, classes)
    parts = brier_parts(probabilities, labels, 7)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(brier(probabilities, labels))
    share = np.bincount(labels, minlength=classes) / 250
    assert parts.uncertainty == pytest.approx(share @ (1 - share))
    assert parts.reliability >= 0
    assert 0 <= parts.resolution <= parts.uncertainty


def test_within_bins_is_variance_less_twice_the_covariance() -> None:
    probabilities, labels = rows_of_distributions(250, 3)
    within = 0.0
    for k in range(3):
        p, y = probabilities[:, k], labels == k
        for place in range(4):
            held = np.clip(np.ceil(p * 4) - 1, 0, 3) == place
            if held.any():
                within += held.mean() * (p[held].var() - 2 * np.mean((p[held] - p[held].mean()) * y[held]))
    assert brier_parts(probabilities, labels, 4).within == pytest.approx(within)


def test_where_each_bin_has_one_probability_nothing_is_hidden() -> None:
    """Murphy's decomposition in its own setting."""
    rng = host_generator(0, "discrete")
    forecast = rng.choice([0.05, 0.35, 0.95], 400)
    labels = (rng.random(400) < forecast).astype(int)
    parts = brier_parts(np.stack([1 - forecast, forecast], axis=1), labels, 10)
    assert parts.within == pytest.approx(0.0, abs=1e-12)
    groups = [labels[forecast == value] for value in (0.05, 0.35, 0.95)]
    resolution = sum(len(group) * (group.mean() - labels.mean()) ** 2 for group in groups) / 400
    assert parts.resolution == pytest.approx(2 * resolution)


def test_the_p_value_counts_draws_that_are_as_bad() -> None:
    floor = NoiseFloor(0.02, 0.01, 0.03, np.array([0.01, 0.02, 0.03]))
    assert [calibration_p_value(found, floor) for found in (0.0, 0.02, 0.025, 0.04)] == [1.0, 0.75, 0.5, 0.25]


def test_of_a_calibrated_model_the_p_value_is_uniform() -> None:
    rng = host_generator(0, "uniform")
    found = []
    for _ in range(200):
        confidence = rng.random(60)
        floor = ece_noise_floor(confidence, 10, 99, rng=rng)
        found.append(calibration_p_value(ece(confidence, rng.random(60) < confidence, 10), floor))
    assert kstest(found, "uniform").pvalue > 0.01


def test_of_an_overconfident_model_the_p_value_is_small() -> None:
    confidence, correct = np.full(500, 0.9), np.arange(500) < 400
    floor = ece_noise_floor(confidence, resamples=999, rng=host_generator(0, "floor"))
    assert calibration_p_value(ece(confidence, correct), floor) == pytest.approx(1 / 1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_wise_ece(np.array([[2.0, -1.0]]), np.array([0])), "were logits passed"),
        (lambda: class_wise_ece(np.array([[0.5, 0.5]]), np.array([2])), "labels: from 2 to 2"),
        (lambda: class_wise_ece(np.array([[0.5, 0.5]]), np.array([1]), 0), "bins: 0"),
        (lambda: brier_parts(np.array([[0.5, 0.5]]), np.array([1]), 0), "bins: 0"),
        (lambda: debiased_ece(np.array([1.5]), np.array([True])), "confidence: values"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
