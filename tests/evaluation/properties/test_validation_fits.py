"""Calibration before and after, prediction sets and learned scores, on records made by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.classifiers import seeded_linear, small_classifier, some_digits, write_tiny_data
from helpers.evaluations import measure
from helpers.results import INSIDE, VALIDATION, certain, chart, evidence_of, found, softmax, value
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hardy.errors import ContractError, UsageError
from hardy.evaluation.charts import LineChart
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.properties import (
    MEASUREMENT_FUNCTIONS,
    PROPERTIES,
    EvaluationContext,
    Measurement,
    Results,
    Shard,
)
from hardy.evaluation.properties.calibration.metrics import ATTACK, EPS, NORM
from hardy.evaluation.validation_fits import MEMBERS_FIRST
from hardy.metrics import ece, nll
from hardy.models import Ensemble
from hardy.ood.learned_score import fit_learned_score, mistake_features
from hardy.ood.member_scores import MEMBER_SCORES
from hardy.rng import host_generator


def answers(n: int, *purpose: str, temperature: float = 2.0) -> tuple[NDArray, NDArray]:
    """Logits of three classes that are ``temperature`` times too large, and labels."""
    rng = host_generator(0, *purpose)
    logits = 2.0 * temperature * rng.normal(size=(n, 3))
    truth = softmax(logits / temperature).cumsum(axis=1)
    return logits, (truth < rng.random((n, 1))).sum(axis=1).clip(max=2)


def results(n: int = 900, *, temperature: float = 2.0, **more: object) -> Results:
    logits, labels = answers(n, "test", temperature=temperature)
    validation = answers(1500, "held out", temperature=temperature)
    return evidence_of(logits, labels, validation=validation, **more)  # type: ignore[arg-type]


def ensemble_evidence() -> Results:
    members = []
    for name, n in (("test", 400), ("held out", 600)):
        logits, labels = answers(n, name)
        noise = 2.0 * host_generator(1, name).normal(size=(3, n, 3))
        members.append((logits + noise, labels))
    means = [np.asarray(logsumexp(log_softmax(given, axis=2), axis=0)) - math.log(3) for given, _ in members]
    return evidence_of(
        means[0], members[0][1], validation=(means[1], members[1][1]), members=(members[0][0], members[1][0])
    )


class TestCalibration:
    prop = PROPERTIES["calibration"]

    def test_before_and_after_are_side_by_side(self) -> None:
        measured = results()
        before = value(found("calibration", measured, "ece"))
        floor = found("calibration", measured, "ece_noise_floor", calibrator="temperature").interval
        after = value(found("calibration", measured, "ece", calibrator="temperature"))
        assert floor is not None
        assert after < floor[1] < before
        for name in ("vector", "isotonic", "histogram"):
            assert value(found("calibration", measured, "ece", calibrator=name)) < before
        ways: dict[object, set] = {}
        for it in self.prop.metrics(measured):
            setting = dict(it.setting)
            ways.setdefault(setting.pop("calibrator", None), set()).add((it.metric, *sorted(setting.items())))
        plain = ways.pop(None)
        assert len(ways) == 4
        assert all(way - plain == {("accuracy",)} for way in ways.values())
        assert all(plain - way == {("brier_uncertainty", ("bins", 15))} for way in ways.values())

    def test_figures_are_those_of_the_scaled_logits(self) -> None:
        """The temperature was 2: what the property says after it is what the true logits say, nearly."""
        measured = results()
        logits, labels = answers(900, "test")
        assert value(found("calibration", measured, "nll", calibrator="temperature")) == pytest.approx(
            nll(log_softmax(logits / 2.0, axis=1), labels), rel=0.01
        )
        by_mass = value(found("calibration", measured, "ece", binning="mass"))
        confidence = softmax(logits.astype(np.float32)).max(axis=1)
        assert by_mass == pytest.approx(ece(confidence, logits.argmax(axis=1) == labels, 15, "mass"), rel=1e-5)

    @pytest.mark.parametrize("name", ["temperature", "isotonic", "histogram"])
    def test_accuracy_stays(self, name: str) -> None:
        measured = results()
        logits, labels = answers(900, "test")
        statistic = found("calibration", measured, "accuracy", calibrator=name)
        assert statistic.successes is not None
        np.testing.assert_array_equal(statistic.successes, logits.argmax(axis=1) == labels)

    def test_the_p_value_tells_calibrated_from_not(self) -> None:
        measured = results()
        before = estimate("calibration", found("calibration", measured, "calibration_p_value"), 0)
        after = estimate(
            "calibration", found("calibration", measured, "calibration_p_value", calibrator="temperature"), 0
        )
        assert before is not None
        assert after is not None
        assert before.value < 0.01 < 0.05 < after.value
        assert before.low <= before.value <= before.high

    def test_under_attack_the_calibrator_is_the_one_fitted_on_clean_images(self) -> None:
        measured = results()
        attack = {"attack": ATTACK, "norm": NORM, "eps": EPS}
        # The records of the attacked cell are those of the clean one here.
        for setting in ({}, {"calibrator": "temperature"}):
            assert value(found("calibration", measured, "ece", **attack, **setting)) == pytest.approx(
                value(found("calibration", measured, "ece", **setting))
            )

    def test_members_may_be_calibrated_first(self) -> None:
        measured = ensemble_evidence()
        first = found("calibration", measured, "nll", calibrator="temperature", order=MEMBERS_FIRST)
        after = found("calibration", measured, "nll", calibrator="temperature")
        before = found("calibration", measured, "nll")
        assert value(first) < value(before)
        assert value(after) < value(before)
        assert value(first) != pytest.approx(value(after), rel=1e-6)

    def test_without_validation_images_nothing_is_calibrated(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {}, {INSIDE: 10}, 3, "quick")
        reasons = [skip.reason for skip in self.prop.plan(context).skipped]
        assert "calibrators: toy has no validation split to fit on" in reasons
        alone = evidence_of(*answers(50, "test"))
        assert not [it for it in self.prop.metrics(alone) if "calibrator" in it.setting]

    def test_validation_images_of_one_class_are_said(self) -> None:
        logits, labels = answers(50, "test")
        one = evidence_of(logits, labels, validation=(certain(np.zeros(20, int)), np.zeros(20, int)))
        for prop in (self.prop, PROPERTIES["conformal"]):
            assert any("all of one class" in warning for warning in prop.warnings(one))
        assert not [it for it in self.prop.metrics(one) if "calibrator" in it.setting]

    def test_pictures_show_both(self) -> None:
        charts = self.prop.draw(results())
        for title in ("Reliability diagram", "How sure the answers are", "Confidence against accuracy"):
            clean, attacked = (it for it in charts if it.title.startswith(title))
            assert isinstance(clean, LineChart)
            assert [it.name for it in clean.series if it.style != "reference"] == ["as it is", "with temperature"]
            assert attacked.title.endswith("under attack")
        counts = chart(charts[:3], "How sure")
        assert isinstance(counts, LineChart)
        assert [series.y.sum() for series in counts.series] == [900, 900]


class TestConformal:
    prop = PROPERTIES["conformal"]

    @pytest.mark.parametrize("kind", ["lac", "aps", "raps", "class_conditional"])
    @pytest.mark.parametrize("alpha", [0.1, 0.05])
    def test_sets_hold_the_true_class_as_often_as_promised(self, kind: str, alpha: float) -> None:
        measured = results(3000)
        coverage = value(found("conformal", measured, "coverage", sets=kind, alpha=alpha))
        assert coverage == pytest.approx(1 - alpha, abs=0.025)
        size = value(found("conformal", measured, "mean_set_size", sets=kind, alpha=alpha))
        assert coverage <= size <= 3

    def test_to_promise_more_takes_larger_sets(self) -> None:
        measured = results()
        for kind in ("lac", "aps", "raps", "class_conditional"):
            sizes = [
                value(found("conformal", measured, "mean_set_size", sets=kind, alpha=a)) for a in (0.1, 0.05, 0.01)
            ]
            assert all(one < other for one, other in pairwise(sizes))

    def test_of_class_coverages_the_weighted_mean_is_the_coverage(self) -> None:
        measured = results()
        classes = [
            it for it in self.prop.metrics(measured) if it.metric == "class_coverage" and it.setting["sets"] == "lac"
        ]
        assert [it.setting["class"] for it in classes] == ["a", "b", "c"]
        mean = sum(value(it) * it.n for it in classes) / sum(it.n for it in classes)
        assert mean == pytest.approx(value(found("conformal", measured, "coverage", sets="lac", alpha=0.05)))

    def test_answers_are_righter_than_without_abstaining(self) -> None:
        measured = results()
        logits, labels = answers(900, "test")
        answered = found("conformal", measured, "answered_rate", sets="lac", alpha=0.05)
        wrong = found("conformal", measured, "error_rate_when_answered", sets="lac", alpha=0.05)
        assert wrong.n == round(value(answered) * 900)
        assert value(wrong) < (logits.argmax(axis=1) != labels).mean()

    def test_what_is_always_in_is_said(self) -> None:
        logits, labels = answers(50, "test")
        there = answers(200, "held out")[0]
        measured = evidence_of(logits, labels, validation=(there, np.arange(200) % 2))
        warnings = self.prop.warnings(measured)
        assert "conformal: at alpha 0.1 every class-conditional set holds c" in warnings[0]

    def test_without_validation_images_there_are_no_sets(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {}, {INSIDE: 10}, 3, "quick")
        planned = self.prop.plan(context)
        assert (planned.measurements, len(planned.skipped)) == ([], 1)


class TestErrorDetection:
    prop = PROPERTIES["error_detection"]

    def test_members_disagree_and_a_score_is_learned(self) -> None:
        measured = ensemble_evidence()
        scores = {str(it.setting["score"]) for it in self.prop.metrics(measured)}
        assert scores == {"max_softmax", "margin", "entropy", "energy", "disagreement", "mutual_information", "learned"}
        for name in scores:
            assert 0.5 < value(found("error_detection", measured, "auroc", score=name)) < 1
        assert found("error_detection", measured, "auroc", score="learned").setting["fitted_on"] == VALIDATION
        names = {series.name for series in chart(self.prop.draw(measured), "Risk and coverage").series}  # type: ignore[union-attr]
        assert names == {name.replace("_", " ") for name in scores} | {"best possible"}

    def test_what_is_no_ensemble_has_no_disagreement(self) -> None:
        context = EvaluationContext(INSIDE, VALIDATION, (), {}, {INSIDE: 10, VALIDATION: 10}, 3, "quick")
        (skip,) = self.prop.plan(context).skipped
        assert "no ensemble" in skip.reason
        assert {measurement.function for measurement in self.prop.plan(context).measurements} == {"predict"}

    def test_without_mistakes_nothing_is_learned(self) -> None:
        logits, labels = answers(50, "test")
        truth = np.arange(30) % 3
        measured = evidence_of(logits, labels, validation=(certain(truth), truth))
        assert "learned" not in {it.setting["score"] for it in self.prop.metrics(measured)}
        assert any("no score was learned" in warning for warning in self.prop.warnings(measured))

    def test_sure_coverage_is_less_than_coverage(self) -> None:
        measured = results(temperature=0.2)
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


class TestMembersMeasure:
    def shard(self) -> Shard:
        return Shard(*some_digits(12))

    @pytest.mark.parametrize("batch_size", [5, 12])
    def test_rows_hold_one_member_after_another(self, batch_size: int) -> None:
        first, second = small_classifier().eval(), small_classifier().eval()
        with torch.no_grad():
            second.head.bias.add_(torch.arange(10.0))
        measurement = Measurement.of("predict_members", "mnist/test", 12)
        columns = MEASUREMENT_FUNCTIONS["predict_members"](
            Ensemble([first, second]), self.shard(), measurement, seed=0, batch_size=batch_size
        )
        with torch.no_grad():
            expected = torch.cat([first(self.shard().images), second(self.shard().images)], dim=1)
        np.testing.assert_allclose(columns["logits"], expected.numpy(), atol=1e-5)

    def test_a_single_network_has_no_members(self) -> None:
        with pytest.raises(ContractError, match="SmallNet has no members"):
            MEASUREMENT_FUNCTIONS["predict_members"](
                small_classifier(),
                self.shard(),
                Measurement.of("predict_members", "mnist/test", 12),
                seed=0,
                batch_size=5,
            )


class TestOverlap:
    def data(self, folder: Path) -> str:
        """Tested on what was held out."""
        with np.load(write_tiny_data(folder)) as found:
            arrays = {name: found[name] for name in ("train_images", "train_labels")}
        both = {name.replace("train", split): array for name, array in arrays.items() for split in ("train", "test")}
        np.savez(folder / "both.npz", **both)
        return str(folder / "both.npz")

    @pytest.mark.parametrize("prop", ["calibration", "conformal", "error_detection"])
    def test_what_is_fitted_must_not_be_what_is_measured(self, prop: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"40 of 40 images .* must not be what it is measured on"):
            measure(
                tmp_path / "run", classifier=seeded_linear(3, 8), data=self.data(tmp_path), properties=[prop], limit=10
            )
        assert not (tmp_path / "run" / "records").exists()

    def test_where_nothing_is_fitted_nothing_is_asked(self, tmp_path: Path) -> None:
        classifier, data = seeded_linear(3, 8), self.data(tmp_path)
        card = measure(tmp_path / "run", classifier=classifier, data=data, properties=["accuracy"], limit=10)
        assert card.estimates
