"""Calibration and proper scores against torchmetrics, netcal, scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from netcal.metrics import ECE, MCE
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from hardy.errors import UsageError
from hardy.metrics import (
    brier,
    brier_parts,
    class_noise_floors,
    class_wise_ece,
    confidence_and_correct,
    ece,
    ece_noise_floor,
    max_calibration_error,
    nll,
    noise_floors,
    reliability,
    rms_calibration_error,
)
from hardy.rng import host_generator


def some_predictions(classes: int, n: int = 700) -> tuple[NDArray, NDArray]:
    """Probabilities and labels, drawn from flattened probabilities: an overconfident classifier."""
    rng = host_generator(classes, "predictions")
    # No certainty: torchmetrics gives a confidence of exactly 1 a bin of its own.
    probabilities = 0.99 * rng.dirichlet(np.full(classes, 0.3), n) + 0.01 / classes
    flat = 0.7 * probabilities + 0.3 / classes
    return probabilities, (flat.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)


def some_confidences(n: int = 500) -> tuple[NDArray, NDArray]:
    rng = host_generator(n, "confidences")
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence**2


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_calibration_errors_equal_torchmetrics(classes: int, bins: int) -> None:
    probabilities, labels = some_predictions(classes)
    measured = confidence_and_correct(probabilities, labels)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(labels), classes, bins
    # It computes in float32.
    assert ece(*measured, bins) == pytest.approx(float(multiclass_calibration_error(*tensors, "l1")), abs=1e-6)
    assert rms_calibration_error(*measured, bins) == pytest.approx(
        float(multiclass_calibration_error(*tensors, "l2")), abs=1e-6
    )
    assert max_calibration_error(*measured, bins) == pytest.approx(
        float(multiclass_calibration_error(*tensors, "max")), abs=1e-6
    )


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_errors_equal_netcal_with_certain_ones(bins: int) -> None:
    """Confidences of exactly 0 and 1 lie in the first and the last bin in both."""
    confidence, correct = some_confidences()
    confidence[:40], confidence[40:90] = 0.0, 1.0
    assert ece(confidence, correct, bins) == pytest.approx(ECE(bins).measure(confidence, correct.astype(int)))
    assert max_calibration_error(confidence, correct, bins) == pytest.approx(
        MCE(bins).measure(confidence, correct.astype(int))
    )


@pytest.mark.parametrize("bins", [2, 4, 8])
def test_on_bin_edges_netcal_agrees_once_mirrored(bins: int) -> None:
    """netcal and torchmetrics close bins on the left: turned to 1 - confidence, that is our rule; 1/16 is exact."""
    rng = host_generator(0, "edges")
    confidence = rng.integers(0, 17, 400) / 16
    correct = rng.random(400) < 0.6
    mirrored = (1 - confidence, (~correct).astype(int))
    assert ece(confidence, correct, bins) == pytest.approx(ECE(bins).measure(*mirrored))
    assert max_calibration_error(confidence, correct, bins) == pytest.approx(MCE(bins).measure(*mirrored))
    assert ece(confidence, correct, bins) != pytest.approx(ECE(bins).measure(confidence, correct.astype(int)))


@pytest.mark.parametrize("bins", [1, 3, 10, 15, 49])
def test_an_edge_belongs_to_the_bin_below_it(bins: int) -> None:
    edges = np.array([i / bins for i in range(bins + 1)])
    counts, confidence, _, found = reliability(edges, np.ones(bins + 1, dtype=bool), bins)
    np.testing.assert_array_equal(found, edges)
    np.testing.assert_array_equal(counts, [2, *[1] * (bins - 1)])
    np.testing.assert_allclose(confidence, [edges[1] / 2, *edges[2:]])
    above = np.nextafter(edges[:-1], 1)
    np.testing.assert_array_equal(reliability(above, np.ones(bins, dtype=bool), bins).counts, np.ones(bins))


def test_reliability_of_few_examples() -> None:
    counts, confidence, accuracy, edges = reliability(np.array([0.62, 0.65, 0.9]), np.array([1, 0, 1]), 10)
    np.testing.assert_array_equal(counts, [0, 0, 0, 0, 0, 0, 2, 0, 1, 0])
    np.testing.assert_allclose(confidence, [*[np.nan] * 6, 0.635, np.nan, 0.9, np.nan])
    np.testing.assert_allclose(accuracy, [*[np.nan] * 6, 0.5, np.nan, 1.0, np.nan])
    assert len(edges) == 11


def test_errors_in_closed_form() -> None:
    confidence = np.array([0.2, 0.3, 0.8, 0.9, 1.0, 0.9])
    correct = np.array([False, True, True, True, False, True])
    # Two bins: 2 examples with confidence .25 and accuracy .5; 4 with .9 and .75.
    assert ece(confidence, correct, 2) == pytest.approx((2 * 0.25 + 4 * 0.15) / 6)
    assert rms_calibration_error(confidence, correct, 2) == pytest.approx(np.sqrt((2 * 0.25**2 + 4 * 0.15**2) / 6))
    assert max_calibration_error(confidence, correct, 2) == pytest.approx(0.25)


@pytest.mark.parametrize("metric", [ece, rms_calibration_error, max_calibration_error])
@pytest.mark.parametrize(
    ("confidence", "correct"), [(0.0, True), (0.0, False), (1.0, False), (0.4, True), (0.4, False)]
)
def test_of_one_example_the_error_is_its_own(metric, confidence: float, correct: bool) -> None:
    assert metric(np.array([confidence]), np.array([correct])) == pytest.approx(abs(confidence - correct))


def test_calibration_does_not_depend_on_batches() -> None:
    probabilities, labels = some_predictions(4, 60)
    whole = confidence_and_correct(probabilities, labels)
    single = [confidence_and_correct(probabilities[i : i + 1], labels[i : i + 1]) for i in range(60)]
    confidence, correct = (np.concatenate(column) for column in zip(*single, strict=True))
    assert ece(confidence, correct) == ece(*whole)


def test_mass_bins_equal_netcal() -> None:
    confidence, correct = some_confidences(600)
    counts, mean, accuracy, _ = reliability(confidence, correct, 12, "mass")
    np.testing.assert_array_equal(counts, 50)
    gap = np.abs(mean - accuracy)
    assert gap.mean() == pytest.approx(ECE(12, equal_intervals=False).measure(confidence, correct.astype(int)))


def test_mass_bins_keep_ties_together() -> None:
    confidence = np.array([0.3, *[0.99] * 7, 1.0, 1.0])
    counts, mean, _, edges = reliability(confidence, np.ones(10, dtype=bool), 5, "mass")
    np.testing.assert_array_equal(edges, [0, 0.99, 0.99, 0.99, 0.99, 1])
    np.testing.assert_array_equal(counts, [8, 0, 0, 0, 2])
    assert mean[-1] == 1.0


def test_confidence_is_that_of_the_first_largest_class() -> None:
    confidence, correct = confidence_and_correct(
        np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0, 0, 1]], dtype=np.float32), np.array([0, 1, 2])
    )
    np.testing.assert_allclose(confidence, [0.4, 0.4, 1.0])
    np.testing.assert_array_equal(correct, [True, False, True])
    assert confidence.dtype == np.float64


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_proper_scores_equal_scikit_learn(classes: int) -> None:
    probabilities, labels = some_predictions(classes)
    names = np.arange(classes)
    assert nll(np.log(probabilities), labels) == pytest.approx(log_loss(labels, probabilities, labels=names))
    # One against the rest, summed over the classes.
    expected = sum(brier_score_loss(labels == k, probabilities[:, k], labels=[False, True]) for k in names)
    assert brier(probabilities, labels) == pytest.approx(expected)


def test_proper_scores_in_closed_form() -> None:
    labels = np.array([0, 1, 2, 3])
    uniform = np.full((4, 4), 0.25)
    assert nll(np.log(uniform), labels) == pytest.approx(np.log(4))
    assert brier(uniform, labels) == pytest.approx(0.75)
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(4))
    assert (nll(certain, labels), brier(np.eye(4), labels)) == (0.0, 0.0)
    assert (nll(certain, labels[::-1]), brier(np.eye(4), labels[::-1])) == (np.inf, 2.0)
    assert nll(certain, np.array([0, 1, 2, 0]), weights=np.array([1.0, 1, 1, 0])) == 0.0


def test_noise_floor_of_equal_confidences_is_the_mean_deviation_of_a_binomial() -> None:
    n, share = 400, 0.93
    floor = ece_noise_floor(np.full(n, share), resamples=4000, rng=host_generator(0, "floor"))
    hits = np.arange(n + 1)
    deviation = np.abs(hits / n - share)
    chance = binom.pmf(hits, n, share)
    mean = deviation @ chance
    error = math.sqrt((deviation - mean) ** 2 @ chance / 4000)
    assert floor.mean == pytest.approx(mean, abs=4 * error)
    assert floor.values.shape == (4000,)


def test_noise_floor_at_the_accuracy_of_mnist_classifiers() -> None:
    """Most confidences near 1, the mean 99.5 %, 10,000 examples: .13 to .15 %, and .07 to .22 for 2.5 to 97.5 %."""
    confidence = 1 - host_generator(0, "peaked").beta(0.02, 4, 10_000)
    assert confidence.mean() == pytest.approx(0.995, abs=5e-4)
    floor = ece_noise_floor(confidence, rng=host_generator(1, "floor"))
    assert 0.0013 <= floor.mean <= 0.0015
    assert 0.0006 <= floor.low <= 0.0009
    assert 0.0019 <= floor.high <= 0.0023


def test_noise_floor_is_what_drawing_outcomes_by_hand_gives() -> None:
    confidence, _ = some_confidences(120)
    rng = host_generator(5, "by hand")
    by_hand = np.array([ece(confidence, rng.random(120) < confidence) for _ in range(1500)])
    floor = ece_noise_floor(confidence, resamples=1500, rng=host_generator(6, "floor"))
    deviation = float(by_hand.std())
    assert floor.mean == pytest.approx(by_hand.mean(), abs=4 * deviation * math.sqrt(2 / 1500))
    assert floor.values.std() == pytest.approx(deviation, rel=0.1)
    assert (floor.low, floor.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=0.3 * deviation)


def test_noise_floor_of_certainty_is_zero() -> None:
    floor = ece_noise_floor(np.array([0.0, 1.0, 1.0]), rng=host_generator(0, "floor"))
    np.testing.assert_array_equal(floor.values, 0)


def test_the_noise_floor_holds_ninety_five_percent_of_calibrated_models() -> None:
    rng = host_generator(3, "floors")
    probabilities = rng.dirichlet([0.2, 0.2, 0.2], 200)
    confidence = probabilities.max(axis=1)
    floors = noise_floors(confidence, rng=rng) | class_noise_floors(probabilities, resamples=1000, rng=rng)
    inside = dict.fromkeys(floors, 0)
    for _ in range(400):
        labels = (probabilities.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1).clip(max=2)
        correct = probabilities.argmax(axis=1) == labels
        shown = {
            "ece": ece(confidence, correct),
            "ece_mass": ece(confidence, correct, binning="mass"),
            "rms_calibration_error": rms_calibration_error(confidence, correct),
            "max_calibration_error": max_calibration_error(confidence, correct),
            "class_wise_ece": class_wise_ece(probabilities, labels),
            "brier_reliability": brier_parts(probabilities, labels).reliability,
        }
        for name, found in shown.items():
            inside[name] += floors[name].low <= found <= floors[name].high
    assert {name: count / 400 for name, count in inside.items()} == pytest.approx(
        dict.fromkeys(floors, 0.95), abs=0.035
    )


def test_noise_floor_depends_on_neither_order_nor_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    confidence, _ = some_confidences(50)
    whole = ece_noise_floor(confidence, resamples=30, rng=host_generator(0, "floor"))
    monkeypatch.setattr("hardy.metrics.noise_floor._BLOCK", 350)
    blocks = ece_noise_floor(confidence[::-1], resamples=30, rng=host_generator(0, "floor"))
    np.testing.assert_array_equal(blocks.values, whole.values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ece(np.array([1.2]), np.array([True])), "confidence: values from 1.2 to 1.2"),
        (lambda: ece(np.array([-0.1]), np.array([True])), "confidence: values from -0.1"),
        (lambda: ece(np.array([0.5]), np.array([True]), 0), "bins: 0"),
        (lambda: reliability(np.array([0.5]), np.array([True]), 0, "mass"), "bins: 0"),
        (lambda: ece_noise_floor(np.array([]), rng=host_generator(0)), "no examples"),
        (lambda: ece_noise_floor(np.array([0.5]), resamples=0, rng=host_generator(0)), "resamples: 0"),
        (lambda: ece_noise_floor(np.array([0.5]), bins=0, rng=host_generator(0)), "bins: 0"),
        (lambda: confidence_and_correct(np.array([[2.0, -1.0]]), np.array([0])), "were logits passed"),
        (lambda: confidence_and_correct(np.array([0.5, 0.5]), np.array([0, 1])), r"\(N, K\)"),
        (lambda: confidence_and_correct(np.array([[0.5, 0.5]]), np.array([-1])), "labels: from -1 to -1; with 2"),
        (lambda: brier(np.array([[0.5, 0.5]]), np.array([2])), "labels: from 2 to 2; with 2"),
        (lambda: brier(np.array([[0.5, 0.5]]), np.array([1.0])), "labels: float64"),
        (lambda: brier(np.array([[0.5, np.nan]]), np.array([1])), "rows are not distributions"),
        (lambda: nll(np.array([[0.5, 0.5]]), np.array([1])), "log_probabilities: rows are not distributions"),
        (lambda: nll(np.array([[900.0, -900.0]]), np.array([0])), "log_probabilities: rows are not distributions"),
        (lambda: nll(np.array([[-900.0, -901.0]]), np.array([0])), "log_probabilities: rows are not distributions"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
