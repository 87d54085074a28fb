"""Accuracy, calibration and adversarial robustness on records made by hand, whose figures are known in closed form."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from helpers.results import (
    INSIDE,
    certain,
    chart,
    evidence_of,
    found,
    images_of,
    random_evidence,
    softmax,
    value,
    values_of,
)
from sklearn.metrics import confusion_matrix, log_loss

from hardy.errors import UsageError
from hardy.evaluation.charts import Gallery, LineChart, Matrix
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.properties import PROPERTIES, Measurement, Results, get_property
from hardy.evaluation.properties.adversarial.measure import radii
from hardy.evaluation.properties.calibration.metrics import BINS
from hardy.evaluation.records import frame
from hardy.metrics import ece, ece_noise_floor, max_calibration_error, rms_calibration_error, wilson
from hardy.rng import host_generator


def test_dashes_may_stand_for_underscores() -> None:
    assert get_property("out-of-distribution") is PROPERTIES["out_of_distribution"]
    with pytest.raises(UsageError, match="unknown property 'calibratoin'; did you mean calibration"):
        get_property("calibratoin")


class TestAccuracy:
    prop = PROPERTIES["accuracy"]
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 0, 2, 1, 0, 1, 1])
    results = evidence_of(certain(answers), labels, classes=4)

    def test_accuracy_overall_and_by_class_with_wilsons_intervals(self) -> None:
        shares = {("accuracy", ""): (4, 8), ("class_accuracy", "a"): (3, 4), ("class_accuracy", "b"): (1, 2)}
        shares["class_accuracy", "c"] = (0, 2)
        statistics = self.prop.metrics(self.results)
        assert {(it.metric, str(it.setting.get("class", ""))) for it in statistics} == shares.keys()
        for statistic in statistics:
            right, count = shares[statistic.metric, str(statistic.setting.get("class", ""))]
            metric = estimate("accuracy", statistic, 0)
            assert metric is not None
            assert (metric.value, metric.n) == (right / count, count)
            assert (metric.low, metric.high) == wilson(right, count)
            assert metric.headline == (statistic.metric == "accuracy")

    def test_weights_belong_to_the_examples_that_are_named(self) -> None:
        statistic = found("accuracy", self.results, "class_accuracy", **{"class": "b"})
        ((dataset, indices),) = statistic.examples
        assert dataset == INSIDE
        assert indices.tolist() == [4, 5]
        assert statistic.compute(np.array([1.0, 3.0])) == 0.25

    def test_the_confusion_matrix_equals_scikit_learns(self) -> None:
        results, logits, labels = random_evidence()
        matrix = chart(self.prop.draw(results), "Confusion")
        assert isinstance(matrix, Matrix)
        assert np.array_equal(matrix.counts, confusion_matrix(labels, logits.argmax(1)))
        assert matrix.counts.sum() == len(labels)
        assert matrix.names == ("a", "b", "c")

    def test_mistakes_are_shown_the_surest_first(self) -> None:
        logits = certain(self.answers)
        logits[[3, 5, 6, 7]] *= np.array([[0.5], [0.9], [0.7], [0.6]], np.float32)
        gallery = chart(self.prop.draw(evidence_of(logits, self.labels)), "The most confident")
        assert isinstance(gallery, Gallery)
        pictures = [picture for row in gallery.rows for picture in row]
        expected = images_of(8).float() / 255
        for picture, place in zip(pictures, [5, 6, 7, 3], strict=True):
            assert np.allclose(picture.image, expected[place, 0])
        assert pictures[0].caption.startswith("b taken for a")

    def test_a_perfect_classifier_has_no_mistakes_to_show(self) -> None:
        charts = self.prop.draw(evidence_of(certain(self.labels), self.labels))
        assert [type(one) for one in charts] == [Matrix]

    def test_a_class_that_the_data_does_not_have_may_be_predicted(self) -> None:
        results = evidence_of(certain(np.array([0, 4, 1]), classes=5), np.array([0, 1, 1]))
        assert value(found("accuracy", results, "accuracy")) == pytest.approx(2 / 3)
        gallery = chart(self.prop.draw(results), "The most confident")
        assert isinstance(gallery, Gallery)
        assert gallery.rows[0][0].caption.startswith("b taken for #4")


class TestCalibration:
    prop = PROPERTIES["calibration"]

    def test_figures_are_those_of_the_metrics_and_of_scikit_learn(self) -> None:
        results, logits, labels = random_evidence()
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
        results = evidence_of(certain(np.arange(40) % 2, size=40.0), labels)
        assert value(found("calibration", results, "ece")) == pytest.approx(0.5)
        assert self.prop.warnings(results) == []

    def test_the_interval_of_the_noise_floor_is_its_spread(self) -> None:
        results, logits, _ = random_evidence()
        floor = ece_noise_floor(softmax(logits).max(1), BINS, rng=host_generator(0, "noise floor"))
        metric = estimate("calibration", found("calibration", results, "ece_noise_floor"), 0)
        assert metric is not None
        assert (metric.value, metric.low, metric.high) == pytest.approx((floor.mean, floor.low, floor.high), rel=1e-6)
        assert metric.low < metric.value < metric.high
        assert metric.higher_is_better is None

    def test_an_error_within_the_noise_ranks_nobody(self) -> None:
        """Right nine times in ten, and 90 % sure: the expected calibration error is 0."""
        labels = np.where(np.arange(200) % 10 == 0, 1, 0)
        logits = np.tile(np.log([0.9, 0.05, 0.05]), (200, 1))
        (warning,) = self.prop.warnings(evidence_of(logits, labels))
        assert "ranks nobody" in warning
        assert "0.00%" in warning

    def test_every_answer_is_in_one_bar_and_points_are_shares(self) -> None:
        results, logits, labels = random_evidence()
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


class TestAdversarial:
    prop = PROPERTIES["adversarial"]
    count = 8

    def results(self, spread: float = 1.0) -> Results:
        """In each cell: wrong already; fallen below, at and just above the first radius, at and just above the last;
        and standing, twice. With another ``spread`` that many times as far.
        """
        labels = np.arange(self.count) % 3
        results = evidence_of(certain(labels), labels)
        records = {
            measurement: self.records(measurement, labels, spread)
            for measurement in self.prop.plan(results.context).measurements
        }
        return results._replace(records={**results.records, **records})

    def records(self, measurement: Measurement, labels: np.ndarray, spread: float) -> pl.DataFrame:
        if measurement.function != "attack":
            return self.nothing_masked(labels)
        first, last = radii(measurement)[0], radii(measurement)[-1]
        norms = [0.0, first / 2, first, np.nextafter(first, 1e9), last, np.nextafter(last, 1e9), np.inf, np.inf]
        images = np.full((self.count, 4), 0.25, np.float32)
        images[3:] = np.nan
        columns = {
            "norm": np.full(self.count, np.inf) if np.isinf(spread) else spread * np.array(norms),
            "found_by": np.full(self.count, "somebody"),
            "clean_prediction": labels,
            "adversarial_prediction": (labels + 1) % 3,
            "image": images,
        }
        return frame(np.arange(self.count), labels, columns)

    def nothing_masked(self, labels: np.ndarray) -> pl.DataFrame:
        falls = ("many_steps", "one_step", "smoothed", "black_box", "transfer", "hopeless")
        columns = {name: np.ones(self.count, bool) for name in ("right", *falls)}
        return frame(np.arange(self.count), labels, columns | {"zero_gradient": np.zeros(self.count, bool)})

    def test_what_falls_at_exactly_eps_has_fallen(self) -> None:
        results = self.results()
        attacks = [measurement for measurement in results.records if measurement.function == "attack"]
        assert len(attacks) > 3
        for measurement in attacks:
            first, last = radii(measurement)[0], radii(measurement)[-1]
            # Of the eight, those above the first radius, and those above the last.
            expected = {first: 4} if first == last else {first: 5, last: 3}
            for eps, standing in expected.items():
                setting = {"attack": measurement.settings["attack"], "norm": measurement.settings["norm"], "eps": eps}
                metric = estimate("adversarial", found("adversarial", results, "robust_accuracy", **setting), 0)
                assert metric is not None
                assert metric.value == standing / self.count, setting
                assert (metric.low, metric.high) == wilson(standing, self.count)

    @pytest.mark.parametrize(("spread", "standing"), [(0.5, 2), (1.0, 2), (1e6, 7)])
    def test_to_stand_in_all_norms_is_to_stand_in_each(self, spread: float, standing: int) -> None:
        """One cell leaves two or three of eight standing, the same ones as the other cells and one more."""
        results = self.results(spread)
        union = found("adversarial", results, "robust_accuracy", norm="union")
        each = [
            statistic
            for statistic in self.prop.metrics(results)
            if statistic.headline and statistic.setting.get("norm") != "union"
        ]
        assert each
        assert value(union) <= min(map(value, each))
        assert standing <= 8 * value(union) <= standing + 2

    def test_the_curve_begins_at_the_clean_accuracy_and_agrees_with_the_records(self) -> None:
        curve = chart(self.prop.draw(self.results()), "Robust accuracy")
        assert isinstance(curve, LineChart)
        for series in curve.series:
            assert (series.x[0], series.y[0]) == (0.0, 7 / 8)
            # The curve ends below the last radius of its cell.
            assert series.y[[1, -1]].tolist() == [5 / 8, 4 / 8]
            assert (np.diff(series.x) > 0).all()

    def test_pictures_show_what_was_kept_and_fell(self) -> None:
        gallery = chart(self.prop.draw(self.results()), "Adversarial examples")
        assert isinstance(gallery, Gallery)
        clean = images_of(8).float().numpy() / 255
        for place, (before, after, difference) in zip([1, 2], gallery.rows, strict=True):
            assert np.allclose(before.image, clean[place, 0])
            assert np.allclose(after.image, 0.25)
            assert np.allclose(difference.image, 0.25 - clean[place, 0])
            assert difference.signed

    def test_without_a_fallen_image_there_is_no_gallery(self) -> None:
        charts = self.prop.draw(self.results(spread=np.inf))
        assert not [one for one in charts if isinstance(one, Gallery)]
