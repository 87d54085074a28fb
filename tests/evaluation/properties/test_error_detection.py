"""Error detection on records made by hand, by logits, by members and by a learned score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    VALIDATION,
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
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hardy.errors import UsageError
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import Histogram, LineChart
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import EvaluationContext
from hardy.evaluation.properties import PROPERTIES
from hardy.ood.learned_score import fit_learned_score, mistake_features
from hardy.ood.member_scores import MEMBER_SCORES
from hardy.rng import host_generator


class TestErrorDetection:
    prop = PROPERTIES["error_detection"]
    labels = np.zeros(10, np.int64)
    answers = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2])

    @pytest.mark.parametrize(("of_mistakes", "expected"), [(1.0, 1.0), (9.0, 0.0), (4.0, 0.5)])
    def test_a_detector_that_knows_each_mistake_has_an_auroc_of_1(self, of_mistakes: float, expected: float) -> None:
        sure = np.where(self.answers == 0, 4.0, of_mistakes)
        results = results_of(detection_logits(sure, self.answers), self.labels)
        assert value(found("error_detection", results, "auroc", score="max_softmax")) == pytest.approx(expected)

    def test_figures_are_those_of_scikit_learn_and_of_counting(self) -> None:
        results, logits, labels = random_results()
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
        results, logits, labels = random_results(count=60)
        weights = np.random.default_rng(1).integers(0, 3, 60).astype(np.float64)
        repeats = weights.astype(int)
        repeated = results_of(np.repeat(logits, repeats, axis=0), np.repeat(labels, repeats))
        for metric in self.prop.metrics(results):
            (twin,) = [
                it
                for it in self.prop.metrics(repeated)
                if (it.kind.name, it.setting) == (metric.kind.name, metric.setting)
            ]
            assert metric.compute(weights) == pytest.approx(value(twin), abs=1e-9), metric.kind.name

    def test_without_a_mistake_there_is_nothing_to_detect(self) -> None:
        results = results_of(certain(self.labels), self.labels)
        assert math.isnan(value(found("error_detection", results, "auroc", score="max_softmax")))
        assert estimate("error_detection", found("error_detection", results, "auroc", score="max_softmax"), 0) is None
        assert value(found("error_detection", results, "aurc", score="max_softmax")) == 0.0
        assert [one.title for one in self.prop.draw(results)] == ["Risk and coverage"]

    def test_without_a_right_answer_there_is_nothing_to_tell_mistakes_from(self) -> None:
        results = results_of(certain(self.labels + 1), self.labels)
        assert math.isnan(value(found("error_detection", results, "auroc", score="max_softmax")))
        assert value(found("error_detection", results, "risk_at_coverage", coverage=0.9, score="max_softmax")) == 1.0
        assert [one.title for one in self.prop.draw(results)] == ["Risk and coverage"]

    def test_pictures_agree_with_the_records(self) -> None:
        results, logits, labels = random_results()
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


def detection_logits(sure: NDArray, answers: NDArray) -> NDArray[np.float32]:
    """Answers, with as much certainty as ``sure`` says."""
    return (np.eye(3)[answers] * sure[:, None]).astype(np.float32)


class TestFittedScores:
    prop = PROPERTIES["error_detection"]

    def test_members_disagree_and_a_score_is_learned(self) -> None:
        measured = ensemble_results()
        scores = {str(it.setting["score"]) for it in self.prop.metrics(measured)}
        assert scores == {"max_softmax", "margin", "entropy", "energy", "disagreement", "mutual_information", "learned"}
        for name in scores:
            assert 0.5 < value(found("error_detection", measured, "auroc", score=name)) < 1
        assert found("error_detection", measured, "auroc", score="learned").setting["fitted_on"] == VALIDATION
        names = {series.name for series in chart(self.prop.draw(measured), "Risk and coverage").series}  # type: ignore[union-attr]
        assert names == {name.replace("_", " ") for name in scores} | {"best possible"}

    def test_what_is_no_ensemble_has_no_disagreement(self) -> None:
        context = EvaluationContext(INSIDE, VALIDATION, (), {}, {INSIDE: 10, VALIDATION: 10}, 3, BUDGETS["quick"])
        (skip,) = self.prop.plan(context).skipped
        assert "no ensemble" in skip.reason
        assert {measurement.function for measurement in self.prop.plan(context).measurements} == {"predict"}

    def test_without_mistakes_nothing_is_learned(self) -> None:
        logits, labels = answers(50, "test")
        truth = np.arange(30) % 3
        measured = results_of(logits, labels, validation=(certain(truth), truth))
        assert "learned" not in {it.setting["score"] for it in self.prop.metrics(measured)}
        assert any("no score was learned" in warning for warning in self.prop.warnings(measured))

    def test_sure_coverage_is_less_than_coverage(self) -> None:
        measured = calibratable_results(temperature=0.2)
        reached, sure = (
            value(found("error_detection", measured, metric, score="max_softmax"))
            for metric in ("coverage_at_risk", "coverage_at_bounded_risk")
        )
        assert 0 <= sure <= reached < 1


class TestLearnedScore:
    def test_it_is_scikit_learns_logistic_regression(self) -> None:
        logits, labels = answers(500, "learned")
        features, wrong = mistake_features(logits), logits.argmax(axis=1) != labels
        scaled = (features - features.mean(axis=0)) / features.std(axis=0)
        expected = LogisticRegression(max_iter=1000).fit(scaled, wrong).decision_function(scaled)
        np.testing.assert_allclose(fit_learned_score(features, wrong)(features), expected, rtol=1e-6, atol=1e-8)

    def test_it_finds_what_one_score_does_not_see(self) -> None:
        """Mistakes are where the largest logit is unusually large, whatever its lead."""
        rng = host_generator(0, "size")
        logits = rng.normal(size=(4000, 3)) + 2.0 * rng.normal(size=(4000, 1))
        wrong = rng.random(4000) < 1 / (1 + np.exp(-2.0 * logits.max(axis=1)))
        learned = fit_learned_score(mistake_features(logits[:2000]), wrong[:2000])
        assert roc_auc_score(wrong[2000:], learned(mistake_features(logits[2000:]))) > 0.85

    def test_features_are_finite_where_answers_are_certain(self) -> None:
        logits = np.array([[900.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
        assert np.isfinite(mistake_features(logits)).all()
        assert np.isfinite(mistake_features(logits, np.stack([logits, logits]))).all()

    def test_without_both_kinds_nothing_can_be_learned(self) -> None:
        for wrong in (np.zeros(5, bool), np.ones(5, bool)):
            with pytest.raises(UsageError, match=f"{int(wrong.sum())} mistakes among 5"):
                fit_learned_score(np.zeros((5, 2)), wrong)


class TestMemberScores:
    @pytest.mark.parametrize("name", MEMBER_SCORES)
    def test_members_that_agree_are_not_suspicious(self, name: str) -> None:
        logits = host_generator(0, "agree").normal(size=(20, 3))
        assert MEMBER_SCORES[name](np.stack([logits] * 4)) == pytest.approx(np.zeros(20), abs=1e-12)

    def test_in_closed_form(self) -> None:
        """Two members, each certain of another class: the mean is (1/2, 1/2)."""
        members = np.array([[[50.0, 0.0]], [[0.0, 50.0]]])
        assert MEMBER_SCORES["mutual_information"](members) == pytest.approx([math.log(2)])
        assert MEMBER_SCORES["disagreement"](members) == pytest.approx([0.5])

    def test_mutual_information_is_a_difference_of_entropies(self) -> None:
        members = host_generator(0, "members").normal(size=(3, 50, 4))
        p = np.exp(log_softmax(members, axis=2))

        def entropy(p: NDArray) -> NDArray:
            return -(p * np.log(p)).sum(axis=-1)

        expected = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
        assert MEMBER_SCORES["mutual_information"](members) == pytest.approx(expected)
