"""Accuracy on records made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    certain,
    chart,
    found,
    images_of,
    random_results,
    results_of,
    value,
)
from sklearn.metrics import confusion_matrix

from hardy.evaluation.charts import Gallery, Matrix
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.properties import PROPERTIES
from hardy.metrics import share_interval


class TestAccuracy:
    prop = PROPERTIES["accuracy"]
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 0, 2, 1, 0, 1, 1])
    results = results_of(certain(answers), labels, classes=4)

    def test_accuracy_overall_and_by_class_with_wilsons_intervals(self) -> None:
        shares = {("accuracy", ""): (4, 8), ("class_accuracy", "a"): (3, 4), ("class_accuracy", "b"): (1, 2)}
        shares["class_accuracy", "c"] = (0, 2)
        metrics = self.prop.metrics(self.results)
        assert {(it.kind.name, str(it.setting.get("class", ""))) for it in metrics} == shares.keys()
        for metric in metrics:
            right, count = shares[metric.kind.name, str(metric.setting.get("class", ""))]
            shown = estimate("accuracy", metric, 0)
            assert shown is not None
            assert (shown.value, shown.n) == (right / count, count)
            assert (shown.low, shown.high) == share_interval(right, count)
            assert shown.headline == (metric.kind.name == "accuracy")

    def test_weights_belong_to_the_examples_that_are_named(self) -> None:
        metric = found("accuracy", self.results, "class_accuracy", **{"class": "b"})
        ((dataset, indices),) = metric.examples
        assert dataset == INSIDE
        assert indices.tolist() == [4, 5]
        assert metric.compute(np.array([1.0, 3.0])) == 0.25

    def test_the_confusion_matrix_equals_scikit_learns(self) -> None:
        results, logits, labels = random_results()
        matrix = chart(self.prop.draw(results), "Confusion")
        assert isinstance(matrix, Matrix)
        assert np.array_equal(matrix.counts, confusion_matrix(labels, logits.argmax(1)))
        assert matrix.counts.sum() == len(labels)
        assert matrix.names == ("a", "b", "c")

    def test_mistakes_are_shown_the_surest_first(self) -> None:
        logits = certain(self.answers)
        logits[[3, 5, 6, 7]] *= np.array([[0.5], [0.9], [0.7], [0.6]], np.float32)
        gallery = chart(self.prop.draw(results_of(logits, self.labels)), "The most confident")
        assert isinstance(gallery, Gallery)
        pictures = [picture for row in gallery.rows for picture in row]
        expected = images_of(8).float() / 255
        for picture, place in zip(pictures, [5, 6, 7, 3], strict=True):
            assert np.allclose(picture.image, expected[place, 0])
        assert pictures[0].caption.startswith("b taken for a")

    def test_a_perfect_classifier_has_no_mistakes_to_show(self) -> None:
        charts = self.prop.draw(results_of(certain(self.labels), self.labels))
        assert [type(one) for one in charts] == [Matrix]

    def test_a_class_that_the_data_does_not_have_may_be_predicted(self) -> None:
        results = results_of(certain(np.array([0, 4, 1]), classes=5), np.array([0, 1, 1]))
        assert value(found("accuracy", results, "accuracy")) == pytest.approx(2 / 3)
        gallery = chart(self.prop.draw(results), "The most confident")
        assert isinstance(gallery, Gallery)
        assert gallery.rows[0][0].caption.startswith("b taken for #4")
