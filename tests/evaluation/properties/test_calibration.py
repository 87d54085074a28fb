"""Calibration on records made by hand, before and after calibrating."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    answers,
    calibratable_results,
    certain,
    chart,
    ensemble_results,
    found,
    random_results,
    results_of,
    softmax,
    value,
    values_of,
)
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import LineChart
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import EvaluationContext
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.calibration.measure import attack_setting
from hardy.evaluation.properties.calibration.metrics import BINS
from hardy.evaluation.validation_fits import MEMBERS_FIRST
from hardy.metrics import ece, ece_noise_floor, max_calibration_error, nll, rms_calibration_error
from hardy.rng import host_generator


class TestCalibration:
    prop = PROPERTIES["calibration"]

    def test_figures_are_those_of_the_metrics_and_of_scikit_learn(self) -> None:
        results, logits, labels = random_results()
        probabilities = softmax(logits)
        confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
        values = values_of(self.prop, results)
        for name, metric in {
            "ece": ece,
            "rms_calibration_error": rms_calibration_error,
            "max_calibration_error": max_calibration_error,
        }.items():
            assert values[name, ("bins", BINS)] == pytest.approx(metric(confidence, correct, BINS), abs=1e-9)
        assert values[("nll",)] == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
        squares = ((probabilities - np.eye(3)[labels]) ** 2).sum(1).mean()
        assert values[("brier",)] == pytest.approx(squares, rel=1e-6)

    def test_a_classifier_that_is_always_sure_and_half_the_time_right_is_off_by_a_half(self) -> None:
        labels = np.zeros(40, np.int64)
        results = results_of(certain(np.arange(40) % 2, size=40.0), labels)
        assert value(found("calibration", results, "ece")) == pytest.approx(0.5)
        assert self.prop.warnings(results) == []

    @pytest.mark.parametrize(
        "name", ["ece", "rms_calibration_error", "max_calibration_error", "class_wise_ece", "brier_reliability"]
    )
    def test_an_error_that_chance_adds_to_stands_beside_its_noise_floor_without_an_interval(self, name: str) -> None:
        results, logits, _ = random_results()
        shown = estimate("calibration", found("calibration", results, name), 0)
        assert shown is not None
        assert shown.interval() is None
        assert "chance adds to this figure" in shown.no_interval
        assert shown.chance_band is not None
        assert 0 < shown.chance_band[0] < shown.chance_band[1]
        floor = ece_noise_floor(softmax(logits).max(1), BINS, rng=host_generator(0, "noise floor"))
        assert name != "ece" or shown.chance_band == pytest.approx((floor.low, floor.high), rel=1e-6)

    def test_an_error_within_the_noise_ranks_nobody(self) -> None:
        """Right nine times in ten, and 90 % sure: the expected calibration error is 0."""
        labels = np.where(np.arange(200) % 10 == 0, 1, 0)
        logits = np.tile(np.log([0.9, 0.05, 0.05]), (200, 1))
        (warning,) = self.prop.warnings(results_of(logits, labels))
        assert "ranks nobody" in warning
        assert "0.00%" in warning

    def test_every_answer_is_in_one_bar_and_points_are_shares(self) -> None:
        results, logits, labels = random_results()
        charts = [one for one in self.prop.draw(results) if "attack" not in one.title]
        diagram, bars = chart(charts, "Reliability"), chart(charts, "How sure")
        assert isinstance(diagram, LineChart)
        assert isinstance(bars, LineChart)
        assert bars.series[0].y.sum() == len(labels)
        points = diagram.series[1]
        assert points.low is not None
        assert points.high is not None
        assert ((points.low <= points.y) & (points.y <= points.high)).all()
        right = (logits.argmax(1) == labels).sum()
        assert points.y @ bars.series[0].y == pytest.approx(right)
        assert points.x @ bars.series[0].y == pytest.approx(softmax(logits).max(1).sum())


class TestCalibrators:
    prop = PROPERTIES["calibration"]

    def test_before_and_after_are_side_by_side(self) -> None:
        measured = calibratable_results()
        before = value(found("calibration", measured, "ece"))
        floor = found("calibration", measured, "ece", calibrator="temperature").chance_band
        after = value(found("calibration", measured, "ece", calibrator="temperature"))
        assert floor is not None
        assert after < floor[1] < before
        for name in ("vector", "isotonic", "histogram"):
            assert value(found("calibration", measured, "ece", calibrator=name)) < before
        ways: dict[object, set] = {}
        for it in self.prop.metrics(measured):
            setting = dict(it.setting)
            ways.setdefault(setting.pop("calibrator", None), set()).add((it.kind.name, *sorted(setting.items())))
        plain = ways.pop(None)
        assert len(ways) == 4
        assert all(way - plain == {("accuracy",)} for way in ways.values())
        assert all(plain - way == {("brier_uncertainty", ("bins", 15))} for way in ways.values())

    def test_figures_are_those_of_the_scaled_logits(self) -> None:
        """The temperature was 2: what the property says after it is what the true logits say, nearly."""
        measured = calibratable_results()
        logits, labels = answers(900, "test")
        assert value(found("calibration", measured, "nll", calibrator="temperature")) == pytest.approx(
            nll(log_softmax(logits / 2.0, axis=1), labels), rel=0.01
        )
        by_mass = value(found("calibration", measured, "ece", binning="mass"))
        confidence = softmax(logits.astype(np.float32)).max(axis=1)
        assert by_mass == pytest.approx(ece(confidence, logits.argmax(axis=1) == labels, 15, "mass"), rel=1e-5)

    @pytest.mark.parametrize("name", ["temperature", "isotonic", "histogram"])
    def test_accuracy_stays(self, name: str) -> None:
        measured = calibratable_results()
        logits, labels = answers(900, "test")
        metric = found("calibration", measured, "accuracy", calibrator=name)
        assert metric.successes is not None
        np.testing.assert_array_equal(metric.successes, logits.argmax(axis=1) == labels)

    def test_the_p_value_tells_calibrated_from_not(self) -> None:
        measured = calibratable_results()
        before = estimate("calibration", found("calibration", measured, "calibration_p_value"), 0)
        after = estimate(
            "calibration", found("calibration", measured, "calibration_p_value", calibrator="temperature"), 0
        )
        assert before is not None
        assert after is not None
        assert before.value < 0.01 < 0.05 < after.value
        assert before.interval() is None

    def test_under_attack_the_calibrator_is_the_one_fitted_on_clean_images(self) -> None:
        measured = calibratable_results()
        attack = attack_setting(measured.context)
        # Here the records of attacked images are those of clean ones.
        for setting in ({}, {"calibrator": "temperature"}):
            assert value(found("calibration", measured, "ece", **attack, **setting)) == pytest.approx(
                value(found("calibration", measured, "ece", **setting))
            )

    def test_members_may_be_calibrated_first(self) -> None:
        measured = ensemble_results()
        first = found("calibration", measured, "nll", calibrator="temperature", order=MEMBERS_FIRST)
        after = found("calibration", measured, "nll", calibrator="temperature")
        before = found("calibration", measured, "nll")
        assert value(first) < value(before)
        assert value(after) < value(before)
        assert value(first) != pytest.approx(value(after), rel=1e-6)

    def test_without_validation_images_nothing_is_calibrated(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {}, {INSIDE: 10}, 3, BUDGETS["quick"])
        reasons = [skip.reason for skip in self.prop.plan(context).skipped]
        assert "calibrators: toy has no validation split to fit on" in reasons
        alone = results_of(*answers(50, "test"))
        assert not [it for it in self.prop.metrics(alone) if "calibrator" in it.setting]

    def test_validation_images_of_one_class_are_said(self) -> None:
        logits, labels = answers(50, "test")
        one = results_of(logits, labels, validation=(certain(np.zeros(20, int)), np.zeros(20, int)))
        for prop in (self.prop, PROPERTIES["conformal"]):
            assert any("all of one class" in warning for warning in prop.warnings(one))
        assert not [it for it in self.prop.metrics(one) if "calibrator" in it.setting]

    def test_pictures_show_both(self) -> None:
        charts = self.prop.draw(calibratable_results())
        for title in ("Reliability diagram", "How sure the answers are", "Confidence against accuracy"):
            clean, attacked = (it for it in charts if it.title.startswith(title))
            assert isinstance(clean, LineChart)
            assert [it.name for it in clean.series if it.style != "reference"] == ["as it is", "with temperature"]
            assert attacked.title.endswith("under attack")
        counts = chart(charts[:3], "How sure")
        assert isinstance(counts, LineChart)
        assert [series.y.sum() for series in counts.series] == [900, 900]
