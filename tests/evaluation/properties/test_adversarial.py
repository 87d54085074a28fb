"""Robust accuracy on records made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from helpers.results import (
    certain,
    chart,
    found,
    images_of,
    results_of,
    value,
)

from hardy.evaluation.charts import Gallery, LineChart
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import Measurement, Results
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.adversarial.measure import radii
from hardy.evaluation.records import frame
from hardy.metrics import share_interval


class TestAdversarial:
    prop = PROPERTIES["adversarial"]
    count = 8

    def results(self, spread: float = 1.0) -> Results:
        """In each measurement: wrong already; broken below, at and just above the first radius, at and just above the
        last; and robust, twice. With another ``spread`` that many times as far.
        """
        labels = np.arange(self.count) % 3
        results = results_of(certain(labels), labels)
        records = {
            measurement: self.records(measurement, labels, spread)
            for measurement in self.prop.plan(results.context).measurements
        }
        return replace(results, records={**results.records, **records})

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
                shown = estimate("adversarial", found("adversarial", results, "robust_accuracy", **setting), 0)
                assert shown is not None
                assert shown.value == standing / self.count, setting
                assert (shown.low, shown.high) == share_interval(standing, self.count)

    @pytest.mark.parametrize(("spread", "standing"), [(0.5, 2), (1.0, 2), (1e6, 7)])
    def test_to_stand_in_all_norms_is_to_stand_in_each(self, spread: float, standing: int) -> None:
        """One measurement leaves two or three of eight standing, the same ones as the others and one more."""
        results = self.results(spread)
        union = found("adversarial", results, "robust_accuracy", norm="union")
        each = [
            metric for metric in self.prop.metrics(results) if metric.headline and metric.setting.get("norm") != "union"
        ]
        assert each
        assert value(union) <= min(map(value, each))
        assert standing <= 8 * value(union) <= standing + 2

    def test_the_curve_begins_at_the_clean_accuracy_and_agrees_with_the_records(self) -> None:
        curve = chart(self.prop.draw(self.results()), "Robust accuracy")
        assert isinstance(curve, LineChart)
        for series in curve.series:
            assert (series.x[0], series.y[0]) == (0.0, 7 / 8)
            # The curve ends below the last radius that was measured.
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
