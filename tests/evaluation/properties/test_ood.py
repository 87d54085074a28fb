"""Error detection and out-of-distribution detection on records made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    OUTSIDE,
    certain,
    chart,
    evidence_of,
    found,
    random_evidence,
    softmax,
    value,
    values_of,
)
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from hardy.evaluation.charts import Histogram, LineChart, Table
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.properties import PROPERTIES, EvaluationContext, Metric, Results


def detection_logits(sure: NDArray, answers: NDArray) -> NDArray[np.float32]:
    """Answers, with as much certainty as ``sure`` says."""
    return (np.eye(3)[answers] * sure[:, None]).astype(np.float32)


def outside_figure(results: Results, metric: str, **setting: object) -> Metric:
    """The figure against the other dataset itself, not against what is made or moved."""
    (statistic,) = [
        it
        for it in PROPERTIES["out_of_distribution"].metrics(results)
        if it.metric == metric
        and it.dataset == OUTSIDE
        and "eps" not in it.setting
        and setting.items() <= dict(it.setting).items()
    ]
    return statistic


class TestErrorDetection:
    prop = PROPERTIES["error_detection"]
    labels = np.zeros(10, np.int64)
    answers = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2])

    @pytest.mark.parametrize(("of_mistakes", "expected"), [(1.0, 1.0), (9.0, 0.0), (4.0, 0.5)])
    def test_a_detector_that_knows_each_mistake_has_an_auroc_of_1(self, of_mistakes: float, expected: float) -> None:
        sure = np.where(self.answers == 0, 4.0, of_mistakes)
        results = evidence_of(detection_logits(sure, self.answers), self.labels)
        assert value(found("error_detection", results, "auroc", score="max_softmax")) == pytest.approx(expected)

    def test_figures_are_those_of_scikit_learn_and_of_counting(self) -> None:
        results, logits, labels = random_evidence()
        probabilities = softmax(logits)
        wrong = probabilities.argmax(1) != labels
        suspicion = -probabilities.max(1)
        values = values_of(self.prop, results)
        score = ("score", "max_softmax")
        assert values["auroc", score] == pytest.approx(roc_auc_score(wrong, suspicion), abs=1e-9)
        risks = np.cumsum(wrong[np.argsort(suspicion, kind="stable")]) / np.arange(1, len(wrong) + 1)
        assert values["aurc", score] == pytest.approx(risks.mean(), abs=2e-3)
        best = np.cumsum(np.sort(wrong)) / np.arange(1, len(wrong) + 1)
        assert values["excess_aurc", score] == pytest.approx(risks.mean() - best.mean(), abs=4e-3)
        for coverage in (0.99, 0.95, 0.9):
            kept = round(coverage * len(wrong))
            assert values["risk_at_coverage", ("coverage", coverage), score] == pytest.approx(
                risks[kept - 1], abs=2 / len(wrong)
            )

    def test_a_resample_weighs_right_answers_and_mistakes_as_they_stand(self) -> None:
        """Doubling examples by weight is doubling them in the records."""
        results, logits, labels = random_evidence(count=60)
        weights = np.random.default_rng(1).integers(0, 3, 60).astype(np.float64)
        repeats = weights.astype(int)
        repeated = evidence_of(np.repeat(logits, repeats, axis=0), np.repeat(labels, repeats))
        for statistic in self.prop.metrics(results):
            (twin,) = [
                it
                for it in self.prop.metrics(repeated)
                if (it.metric, it.setting) == (statistic.metric, statistic.setting)
            ]
            assert statistic.compute(weights) == pytest.approx(value(twin), abs=1e-9), statistic.metric

    def test_without_a_mistake_there_is_nothing_to_detect(self) -> None:
        results = evidence_of(certain(self.labels), self.labels)
        assert math.isnan(value(found("error_detection", results, "auroc", score="max_softmax")))
        assert estimate("error_detection", found("error_detection", results, "auroc", score="max_softmax"), 0) is None
        assert value(found("error_detection", results, "aurc", score="max_softmax")) == 0.0
        assert [one.title for one in self.prop.draw(results)] == ["Risk and coverage"]

    def test_without_a_right_answer_there_is_nothing_to_tell_mistakes_from(self) -> None:
        results = evidence_of(certain(self.labels + 1), self.labels)
        assert math.isnan(value(found("error_detection", results, "auroc", score="max_softmax")))
        assert value(found("error_detection", results, "risk_at_coverage", coverage=0.9, score="max_softmax")) == 1.0
        assert [one.title for one in self.prop.draw(results)] == ["Risk and coverage"]

    def test_pictures_agree_with_the_records(self) -> None:
        results, logits, labels = random_evidence()
        charts = self.prop.draw(results)
        curve, histogram = chart(charts, "Risk and coverage"), chart(charts, "Scores of right")
        assert isinstance(curve, LineChart)
        assert isinstance(histogram, Histogram)
        risk = (logits.argmax(1) != labels).mean()
        assert curve.series[0].x[-1] == 1.0
        assert curve.series[0].y[-1] == pytest.approx(risk)
        assert curve.series[-1].y[-1] == pytest.approx(risk)
        for shares in histogram.shares.values():
            assert shares.sum() == pytest.approx(1.0)


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
        results = evidence_of(certain(self.labels), self.labels, certain(np.array([0, 1, 2]), size=outside))
        for score in ("max_softmax", "max_logit"):
            assert value(outside_figure(results, "auroc", score=score)) == pytest.approx(auroc)
            assert value(outside_figure(results, "fpr_at_95_tpr", score=score)) == false_alarms

    def test_figures_are_those_of_scikit_learn(self) -> None:
        results, logits, _ = random_evidence()
        (measurement,) = [
            measurement
            for measurement in self.prop.plan(results.context).measurements
            if measurement.dataset == OUTSIDE and not measurement.settings["moved"]
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
            for metric, reference in (("auroc", roc_auc_score), ("aupr", average_precision_score)):
                assert value(outside_figure(results, metric, score=score)) == pytest.approx(
                    reference(positive, suspicion), abs=1e-9
                )

    def test_weights_come_in_the_order_of_the_strata(self) -> None:
        """What is suspicious inside counts for nothing once it has no weight."""
        logits = np.concatenate([certain(self.labels), certain(self.labels, size=0.1)])
        results = evidence_of(logits, np.tile(self.labels, 2), certain(np.array([0, 1]), size=1.0))
        statistic = outside_figure(results, "auroc", score="max_logit")
        assert [(name, len(indices)) for name, indices in statistic.examples] == [(INSIDE, 10), (OUTSIDE, 2)]
        assert value(statistic) == pytest.approx(0.5)
        assert statistic.compute(np.repeat([1.0, 0.0, 1.0], [5, 5, 2])) == 1.0
        assert statistic.compute(np.repeat([0.0, 1.0, 1.0], [5, 5, 2])) == 0.0

    def test_what_is_not_at_hand_is_skipped_with_its_reason(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {"far/test": "not at hand"}, {INSIDE: 5}, 3, "quick")
        planned = self.prop.plan(context)
        assert {measurement.dataset for measurement in planned.measurements} == {INSIDE}
        assert [skip.reason.split(";")[0] for skip in planned.skipped] == [
            "far/test: not at hand",
            "no out-of-distribution dataset is at hand",
            "nothing is held out: scores that are fitted, and thresholds, are left out",
            "ODIN and adversarially moved images: the quick budget leaves them out",
        ]

    def test_pictures_agree_with_the_records(self) -> None:
        results, _, _ = random_evidence()
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
