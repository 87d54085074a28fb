"""Prediction sets on records made by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from helpers.results import (
    INSIDE,
    answers,
    calibratable_results,
    found,
    results_of,
    value,
)

from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.framework import EvaluationContext
from hardy.evaluation.properties import PROPERTIES


class TestConformal:
    prop = PROPERTIES["conformal"]

    @pytest.mark.parametrize("kind", ["lac", "aps", "raps", "class_conditional"])
    @pytest.mark.parametrize("alpha", [0.1, 0.05])
    def test_sets_hold_the_true_class_as_often_as_promised(self, kind: str, alpha: float) -> None:
        measured = calibratable_results(3000)
        coverage = value(found("conformal", measured, "coverage", sets=kind, alpha=alpha))
        assert coverage == pytest.approx(1 - alpha, abs=0.025)
        size = value(found("conformal", measured, "mean_set_size", sets=kind, alpha=alpha))
        assert coverage <= size <= 3

    def test_to_promise_more_takes_larger_sets(self) -> None:
        measured = calibratable_results()
        for kind in ("lac", "aps", "raps", "class_conditional"):
            sizes = [
                value(found("conformal", measured, "mean_set_size", sets=kind, alpha=a)) for a in (0.1, 0.05, 0.01)
            ]
            assert all(one < other for one, other in pairwise(sizes))

    def test_of_class_coverages_the_weighted_mean_is_the_coverage(self) -> None:
        measured = calibratable_results()
        classes = [
            it for it in self.prop.metrics(measured) if it.kind.name == "class_coverage" and it.setting["sets"] == "lac"
        ]
        assert [it.setting["class"] for it in classes] == ["a", "b", "c"]
        mean = sum(value(it) * it.n for it in classes) / sum(it.n for it in classes)
        assert mean == pytest.approx(value(found("conformal", measured, "coverage", sets="lac", alpha=0.05)))

    def test_answers_are_righter_than_without_abstaining(self) -> None:
        measured = calibratable_results()
        logits, labels = answers(900, "test")
        answered = found("conformal", measured, "answered_rate", sets="lac", alpha=0.05)
        wrong = found("conformal", measured, "error_rate_when_answered", sets="lac", alpha=0.05)
        assert wrong.n == round(value(answered) * 900)
        assert value(wrong) < (logits.argmax(axis=1) != labels).mean()

    def test_what_is_always_in_is_said(self) -> None:
        logits, labels = answers(50, "test")
        there = answers(200, "held out")[0]
        measured = results_of(logits, labels, validation=(there, np.arange(200) % 2))
        warnings = self.prop.warnings(measured)
        assert "conformal: at alpha 0.1 every class-conditional set holds c" in warnings[0]

    def test_without_validation_images_there_are_no_sets(self) -> None:
        context = EvaluationContext(INSIDE, None, (), {}, {INSIDE: 10}, 3, BUDGETS["quick"])
        planned = self.prop.plan(context)
        assert (planned.measurements, len(planned.skipped)) == ([], 1)
