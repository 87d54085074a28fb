"""Calibrators: what they recover, what they leave alone, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from hardy.calibration import (
    CALIBRATORS,
    Calibrator,
    average_probabilities,
    check_disjoint,
    fit_calibrator,
    fit_member_calibrators,
    restore_calibrator,
)
from hardy.data import Dataset, load_dataset
from hardy.errors import DataError, UsageError
from hardy.metrics import confidence_and_correct, ece, nll
from hardy.rng import host_generator

calibrators = pytest.mark.parametrize("name", CALIBRATORS)


def drawn(true_logits: NDArray, *purpose: str) -> NDArray[np.int64]:
    """Labels drawn from the softmax of these logits."""
    chance = host_generator(0, "labels", *purpose).random((len(true_logits), 1))
    return (softmax(true_logits, axis=1).cumsum(axis=1) < chance).sum(axis=1).clip(max=true_logits.shape[1] - 1)


def overconfident(n: int = 3000, classes: int = 4, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Logits twice as large as their labels deserve."""
    logits = 3.0 * host_generator(seed, "logits").normal(size=(n, classes))
    return logits.astype(np.float32), drawn(logits / 2.0, str(seed))


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.7, 100.0])
def test_a_known_temperature_is_recovered_within_a_percent(temperature: float) -> None:
    true = 2.0 * host_generator(0, "known").normal(size=(50_000, 3))
    fitted = fit_calibrator("temperature", true * temperature, drawn(true))
    assert fitted.arrays["temperature"][0] == pytest.approx(temperature, rel=0.01)


def test_a_known_weight_and_bias_are_recovered() -> None:
    logits = 2.0 * host_generator(0, "known").normal(size=(50_000, 3))
    weight, bias = np.array([0.5, 1.0, 1.5]), np.array([-1.0, 0.5, 0.5])
    fitted = fit_calibrator("vector", logits, drawn(logits * weight + bias))
    assert fitted.arrays["weight"] == pytest.approx(weight, rel=0.05)
    # Only differences of biases tell in the probabilities.
    assert fitted.arrays["bias"] - fitted.arrays["bias"].mean() == pytest.approx(bias - bias.mean(), abs=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in CALIBRATORS if name != "vector"])
def test_no_answer_changes(name: str, dtype: type) -> None:
    rng = host_generator(0, "answers")
    logits = (10.0 ** rng.uniform(-3, 3, (5000, 1)) * rng.normal(size=(5000, 10))).astype(dtype)
    logits[:500] = rng.integers(-2, 3, (500, 10))
    labels = drawn(logits / 3.0)
    for given in (labels, (labels + 1) % 10, logits.argmax(axis=1)):
        found = fit_calibrator(name, logits, given)(logits)
        np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))


@calibrators
def test_before_and_after(name: str) -> None:
    """On fresh examples: less calibration error, a better likelihood, and distributions in each row."""
    fitted = fit_calibrator(name, *overconfident())
    logits, labels = overconfident(seed=1)
    before, after = softmax(logits.astype(np.float64), axis=1), fitted(logits)
    assert after.dtype == np.float64
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    assert (after > 0).all()
    assert ece(*confidence_and_correct(after, labels)) < 0.5 * ece(*confidence_and_correct(before, labels))
    assert nll(np.log(after), labels) < nll(np.log(before), labels)


def test_the_temperature_is_guos_whatever_it_does_to_the_ece() -> None:
    """The likelihood's own optimum, also where the ECE of so few examples rises, as it does in some of these."""
    raised = 0
    for number in range(30):
        logits, labels = overconfident(60, seed=number)
        logits = logits.astype(np.float64)
        if (logits.argmax(axis=1) == labels).all():
            continue
        (found,) = fit_calibrator("temperature", logits, labels).arrays["temperature"]
        grid = np.geomspace(0.05, 50, 2001)
        losses = [nll(log_softmax(logits / each, axis=1), labels) for each in grid]
        assert found == pytest.approx(grid[np.argmin(losses)], rel=0.01)
        shown = [ece(*confidence_and_correct(softmax(logits / each, axis=1), labels)) for each in (1.0, found)]
        raised += shown[1] > shown[0]
    assert raised > 0


@calibrators
def test_an_example_is_calibrated_alone_as_in_a_batch(name: str) -> None:
    fitted = fit_calibrator(name, *overconfident())
    logits, _ = overconfident(40, seed=2)
    alone = np.concatenate([fitted(row[None]) for row in logits])
    np.testing.assert_allclose(alone, fitted(logits), rtol=1e-12)
    assert fitted(logits[:0]).shape == (0, 4)


@calibrators
def test_fitting_does_not_depend_on_the_order_of_examples(name: str) -> None:
    logits, labels = overconfident(500)
    order = host_generator(0, "order").permutation(500)
    found = [fit_calibrator(name, *given)(logits) for given in ((logits, labels), (logits[order], labels[order]))]
    np.testing.assert_allclose(*found, rtol=1e-3)


class TestTemperatureIsKeptAt1:
    def test_where_no_answer_is_wrong(self) -> None:
        """The likelihood grows without end as T falls to 0."""
        labels = np.arange(30) % 3
        assert fit_calibrator("temperature", 2 * np.eye(3)[labels], labels).arrays["temperature"] == [1.0]

    def test_where_the_classifier_is_calibrated_to_the_example(self) -> None:
        logits = np.tile(np.log([0.75, 0.25]), (400, 1))
        fitted = fit_calibrator("temperature", logits, np.repeat([0, 1], [300, 100]))
        assert fitted.arrays["temperature"] == pytest.approx([1.0], abs=1e-4)


def test_a_temperature_is_above_0_also_where_answers_are_worse_than_chance() -> None:
    logits, labels = overconfident(1000, 2)
    wrong = fit_calibrator("temperature", logits, 1 - labels)
    assert wrong.arrays["temperature"][0] > 10
    np.testing.assert_array_equal(wrong(logits).argmax(axis=1), logits.argmax(axis=1))


def test_isotonic_is_scikit_learns_on_the_confidence() -> None:
    logits, labels = overconfident(400)
    fresh, _ = overconfident(100, seed=1)
    seen, new = (softmax(given.astype(np.float64), axis=1) for given in (logits, fresh))
    reference = IsotonicRegression(out_of_bounds="clip").fit(seen.max(axis=1), seen.argmax(axis=1) == labels)
    expected = reference.predict(new.max(axis=1)).clip(0.5 / 401, 1 - 0.5 / 401)
    found = fit_calibrator("isotonic", logits, labels)(fresh)
    # Below one half another class may be in the way.
    sure = expected > 0.5
    assert sure.sum() > 30
    np.testing.assert_allclose(found.max(axis=1)[sure], expected[sure], rtol=1e-9)


def test_histogram_binning_gives_the_share_of_right_answers_in_each_bin() -> None:
    confidence = np.linspace(0.52, 0.98, 150)
    logits = np.log(np.stack([confidence, 1 - confidence], axis=1))
    labels = (host_generator(0, "hits").random(150) > confidence).astype(int)
    fitted = fit_calibrator("histogram", logits, labels)
    found = fitted(logits)[:, 0]
    right = (1.0 - labels.reshape(15, 10).mean(axis=1)).repeat(10)
    # An answer keeps at least half of the probability, and no bin is all right.
    assert found == pytest.approx(right.clip(0.5, 1 - 0.5 / 151), rel=1e-6)
    outside = np.log(np.array([[0.501, 0.499], [0.999, 0.001]]))
    assert fitted(outside)[:, 0] == pytest.approx([found[0], found[-1]])


@pytest.mark.parametrize("name", ["isotonic", "histogram"])
def test_the_other_classes_keep_their_proportions(name: str) -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.7, 0.1, 0.2], [0.1, 0.8, 0.1]]))
    arrays = {"confidence": np.array([1.0]), "share": np.array([0.5]), "classes": np.array([3])}
    found = restore_calibrator(name, arrays)(logits)
    assert found[0, 0] == pytest.approx(0.5)
    assert found[0, 1] / found[0, 2] == pytest.approx(2.0)
    assert found[2, 2] / found[2, 1] == pytest.approx(2.0)
    assert found[1, 0] == pytest.approx(found[1, 2])


@calibrators
def test_a_calibrator_survives_a_file(name: str, tmp_path: Path) -> None:
    fitted = fit_calibrator(name, *overconfident(500))
    save_file(dict(fitted.arrays), tmp_path / "calibrator.safetensors")
    again = restore_calibrator(name, load_file(tmp_path / "calibrator.safetensors"))
    logits, _ = overconfident(50, seed=1)
    np.testing.assert_array_equal(again(logits), fitted(logits))


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("temperature", {"temperature": np.array([-1.0])}, "one number above 0"),
        ("temperature", {"temperature": np.array([0.0])}, "one number above 0"),
        ("temperature", {"temperature": np.array([1.0, 2.0])}, "one number above 0"),
        ("temperature", {"temperature": np.array([np.nan])}, "not finite"),
        ("temperature", {"temperature": np.array([1.0], dtype=np.float16)}, "float16"),
        ("temperature", {"classes": np.array([1])}, "from 2 up"),
        ("temperature", {"classes": np.array([4.0])}, "from 2 up"),
        ("temperature", {"more": np.array([1.0])}, "arrays .*'more'"),
        ("vector", {"weight": np.ones(3)}, "for each of 4 classes"),
        ("vector", {"weight": np.array([1.0, 1.0, -1.0, 1.0])}, "above 0"),
        ("isotonic", {"share": np.array([[0.5]])}, "shapes"),
        ("isotonic", {"share": np.array([]), "confidence": np.array([])}, "shapes"),
        ("histogram", {"share": np.array([0.5, 1.5]), "confidence": np.array([0.5, 1.0])}, "a share is above 0"),
        ("histogram", {"share": np.array([0.5, 0.6]), "confidence": np.array([1.0, 0.5])}, "it rises"),
    ],
)
def test_arrays_that_are_no_calibrator_are_refused(name: str, changed: dict[str, NDArray], message: str) -> None:
    arrays = dict(fit_calibrator(name, *overconfident(200)).arrays)
    with pytest.raises(DataError, match=message):
        restore_calibrator(name, arrays | changed)


GOOD = np.eye(3)[[0, 1, 2, 0]]


@calibrators
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (GOOD[:0], np.array([], dtype=int), "the calibration set is empty"),
        (GOOD, np.ones(4, dtype=int), "one class only: all 4 labels are 1"),
        (np.where(GOOD > 0, np.nan, 0.0), np.array([0, 1, 2, 0]), "NaN or infinity for 4 of 4 examples"),
        (np.where(GOOD > 0, np.inf, 0.0), np.array([0, 1, 2, 0]), "NaN or infinity"),
        (GOOD.astype(int), np.array([0, 1, 2, 0]), "logits: int64"),
        (GOOD[:, :1], np.array([0, 1, 2, 0]), r"logits: float64 \(4, 1\)"),
        (GOOD[0], np.array([0, 1, 2]), r"logits: float64 \(3,\)"),
        (GOOD, np.array([0, 1, 2]), r"labels: int64 \(3,\)"),
        (GOOD, np.array([0.0, 1.0, 2.0, 0.0]), "labels: float64"),
        (GOOD, np.array([0, 1, 3, 0]), "labels: from 0 to 3; with 3 classes"),
        (GOOD, np.array([0, 1, -1, 0]), "labels: from -1 to 1"),
    ],
)
def test_what_nothing_can_be_fitted_on_is_refused(name: str, logits: NDArray, labels: NDArray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_calibrator(name, logits, labels)


def test_a_calibrator_refuses_what_it_was_not_fitted_for() -> None:
    fitted: Calibrator = fit_calibrator("temperature", *overconfident(200))
    with pytest.raises(UsageError, match="3 classes; the calibrator was fitted on 4"):
        fitted(GOOD)
    with pytest.raises(UsageError, match="NaN or infinity for 1 of 2"):
        fitted(np.array([[0.0, 1, 2, 3], [0, 1, 2, np.nan]]))
    with pytest.raises(UsageError, match="did you mean temperature"):
        fit_calibrator("temprature", *overconfident(20))
    with pytest.raises(UsageError, match="did you mean temperature"):
        restore_calibrator("temprature", {})


class TestMembers:
    logits = np.stack([overconfident(seed=seed)[0] for seed in (0, 1, 2)])
    labels = overconfident()[1]

    def test_one_member_is_calibrated_as_a_classifier_is(self) -> None:
        fitted = fit_member_calibrators("temperature", self.logits[:1], self.labels)
        alone = fit_calibrator("temperature", self.logits[0], self.labels)
        np.testing.assert_array_equal(average_probabilities(fitted, self.logits[:1]), alone(self.logits[0]))

    def test_members_are_calibrated_each_for_itself_and_then_averaged(self) -> None:
        fitted = fit_member_calibrators("temperature", self.logits, self.labels)
        temperatures = [float(one.arrays["temperature"][0]) for one in fitted]
        expected = sum(softmax(z / t, axis=1) for z, t in zip(self.logits.astype(float), temperatures, strict=True)) / 3
        np.testing.assert_allclose(average_probabilities(fitted, self.logits), expected, rtol=1e-9)

    def test_as_many_calibrators_as_members(self) -> None:
        fitted = fit_member_calibrators("temperature", self.logits, self.labels)
        with pytest.raises(UsageError, match="3 calibrators for 2 members"):
            average_probabilities(fitted, self.logits[:2])
        with pytest.raises(UsageError, match=r"\(M, N, K\)"):
            fit_member_calibrators("temperature", self.logits[0], self.labels)


class TestOverlap:
    images = torch.arange(40, dtype=torch.uint8).reshape(10, 1, 2, 2)

    def dataset(self, name: str, images: torch.Tensor) -> Dataset:
        return Dataset(name, images, torch.zeros(len(images), dtype=torch.int64), ("a", "b"))

    def test_an_image_of_both_is_refused_whatever_its_place_and_type(self) -> None:
        measured = self.dataset("toy/test", self.images[5:].float() / 255)
        with pytest.raises(
            UsageError, match="1 of 6 images of toy/validation are in toy/test too, the first at index 5"
        ):
            check_disjoint(self.dataset("toy/validation", self.images[:6]), measured)
        check_disjoint(self.dataset("toy/validation", self.images[:5]), measured)

    def test_mnist_is_validation_cleanly(self) -> None:
        check_disjoint(load_dataset("mnist/validation"), load_dataset("mnist/test"))
