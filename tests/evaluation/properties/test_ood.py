"""Out-of-distribution detection on records made by hand."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    OUTSIDE,
    certain,
    random_results,
    results_of,
    softmax,
    value,
)
from sklearn.metrics import average_precision_score, roc_auc_score

import hardy.ood
from hardy.deployment.fit import fit_bundle
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import Histogram, LineChart, Table
from hardy.evaluation.framework import EvaluationContext, Measurement, Metric, Results
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.ood.measure import HEADLINES, Outside
from hardy.evaluation.properties.ood.metrics import _mean, _seen_in_fitting
from hardy.metrics import prepared_auroc

DOCS = Path(__file__).parents[3] / "docs"


def outside_figure(results: Results, name: str, **setting: object) -> Metric:
    """The figure against the other dataset itself, not against what is made of it or perturbed."""
    (metric,) = [
        it
        for it in PROPERTIES["out_of_distribution"].metrics(results)
        if it.kind.name == name
        and it.dataset == OUTSIDE
        and "eps" not in it.setting
        and setting.items() <= dict(it.setting).items()
    ]
    return metric


class TestOutOfDistribution:
    prop = PROPERTIES["out_of_distribution"]
    labels = np.array([0, 1, 2, 0, 1])

    @pytest.mark.parametrize(
        ("outside", "auroc", "false_alarms"),
        [(0.5, 1.0, 0.0), (9.0, 0.0, 1.0), (5.0, 0.5, 1.0)],
    )
    def test_unsure_outside_is_detected_and_sure_outside_is_not(
        self, outside: float, auroc: float, false_alarms: float
    ) -> None:
        results = results_of(certain(self.labels), self.labels, certain(np.array([0, 1, 2]), size=outside))
        for score in ("max_softmax", "max_logit"):
            assert value(outside_figure(results, "auroc", score=score)) == pytest.approx(auroc)
            assert value(outside_figure(results, "fpr_at_95_tpr", score=score)) == false_alarms

    def test_figures_are_those_of_scikit_learn(self) -> None:
        results, logits, _ = random_results()
        (measurement,) = [
            measurement
            for measurement in self.prop.plan(results.context).measurements
            if measurement.dataset == OUTSIDE and not measurement.settings["perturbed"]
        ]
        outside = results.records[measurement]["logits"].to_numpy()
        positive = np.repeat([0, 1], [len(logits), len(outside)])
        suspicions = {
            "max_softmax": -np.concatenate([softmax(logits).max(1), softmax(outside).max(1)]),
            "max_logit": -np.concatenate([logits.max(1), outside.max(1)]),
        }
        for score, suspicion in suspicions.items():
            swapped = average_precision_score(1 - positive, -suspicion)
            assert value(outside_figure(results, "aupr_in", score=score)) == pytest.approx(swapped, abs=1e-9)
            for name, reference in (("auroc", roc_auc_score), ("aupr", average_precision_score)):
                assert value(outside_figure(results, name, score=score)) == pytest.approx(
                    reference(positive, suspicion), abs=1e-9
                )

    def test_weights_come_in_the_order_of_the_strata(self) -> None:
        """What is suspicious inside counts for nothing once it has no weight."""
        logits = np.concatenate([certain(self.labels), certain(self.labels, size=0.1)])
        results = results_of(logits, np.tile(self.labels, 2), certain(np.array([0, 1]), size=1.0))
        metric = outside_figure(results, "auroc", score="max_logit")
        assert [(name, len(indices)) for name, indices in metric.examples] == [(INSIDE, 10), (OUTSIDE, 2)]
        assert value(metric) == pytest.approx(0.5)
        assert metric.compute(np.repeat([1.0, 0.0, 1.0], [5, 5, 2])) == 1.0
        assert metric.compute(np.repeat([0.0, 1.0, 1.0], [5, 5, 2])) == 0.0

    def test_near_and_far_datasets_have_means_of_their_own(self) -> None:
        results, _, _ = random_results()
        (outside,) = results.context.out_of_distribution
        for distances, wanted in (({}, []), ({outside: "far"}, ["far"])):
            sorted_ones = replace(results, context=replace(results.context, distances=distances))
            means = [it for it in self.prop.metrics(sorted_ones) if it.kind.name == "mean_auroc"]
            assert list(dict.fromkeys(it.setting["distance"] for it in means)) == wanted
            for mean in means:
                (alone,) = [
                    it
                    for it in self.prop.metrics(results)
                    if (it.kind.name, it.dataset, it.setting) == ("auroc", outside, {"score": mean.setting["score"]})
                ]
                assert value(mean) == pytest.approx(value(alone))
                assert mean.dataset == results.context.dataset

    def test_a_score_is_marked_where_it_was_fitted_on_the_like(self) -> None:
        measurement = Measurement.of("detect", "glyphs/test", 10)
        for score, family in (("discriminator", "glyphs"), ("combination", "glyphs"), ("vim", ""), ("max_softmax", "")):
            marks = _seen_in_fitting(Outside("glyphs/test", measurement, {}), score)
            assert marks == ((f"the score was fitted on synthetic outliers of the same kind, {family}",) * bool(family))
        noise = Outside("gaussian noise", measurement, {"transform": "gaussian_noise"})
        assert _seen_in_fitting(noise, "discriminator")[0].endswith(", noise")
        assert not _seen_in_fitting(Outside("notmnist/test", measurement, {}), "discriminator")

    def test_the_headline_is_the_score_that_bundles_refuse_by(self) -> None:
        assert inspect.signature(fit_bundle).parameters["detector"].default == HEADLINES[0] == hardy.ood.HEADLINE
        assert f"`{hardy.ood.HEADLINE}`" in (DOCS / "properties" / "out-of-distribution.md").read_text()
        assert f"`{hardy.ood.HEADLINE}`" in (DOCS / "bundles.md").read_text()

    def test_a_mean_over_datasets_weighs_test_images_once(self) -> None:
        negative, positives = np.array([0.0, 1.0]), [np.array([0.5]), np.array([2.0, -1.0])]
        mean = _mean([prepared_auroc(negative, it) for it in positives], negative, positives)
        assert mean(np.ones(5)) == pytest.approx((0.5 + 0.5) / 2)
        assert mean(np.array([0.0, 1.0, 1.0, 1.0, 0.0])) == pytest.approx((0.0 + 1.0) / 2)

    def test_what_is_not_at_hand_is_skipped_with_its_reason(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {"far/test": "not at hand"}, {INSIDE: 5}, 3, BUDGETS["quick"])
        planned = self.prop.plan(context)
        assert {measurement.dataset for measurement in planned.measurements} == {INSIDE}
        assert [skip.reason.split(";")[0] for skip in planned.skipped] == [
            "far/test: not at hand",
            "no out-of-distribution dataset is at hand",
            "there are no training images: detectors that are fitted on them are left out",
            "there are no validation images: the combination of scores, and thresholds, are left out",
            "ODIN and adversarially perturbed images: the quick budget leaves them out",
        ]

    def test_pictures_agree_with_the_records(self) -> None:
        results, _, _ = random_results()
        table, roc, histogram = self.prop.draw(results)
        assert isinstance(table, Table)
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert isinstance(roc, LineChart)
        assert isinstance(histogram, Histogram)
        curve = roc.series[0]
        area = np.trapezoid(curve.y, curve.x)
        assert area == pytest.approx(value(outside_figure(results, "auroc", score="max_softmax")), abs=1e-3)
        assert {name: pytest.approx(1.0) for name in (INSIDE, OUTSIDE)} == {
            name: shares.sum() for name, shares in histogram.shares.items()
        }
