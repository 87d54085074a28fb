"""Budgets: found by name, ordered, and written down so that a run can be read again."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.classifiers import seeded_linear, write_tiny_data
from helpers.evaluations import subject_of
from pydantic import TypeAdapter

from hardy.errors import UsageError
from hardy.evaluation.budget import BUDGETS, Budget, find_budget
from hardy.evaluation.evaluate import load_results, measure
from hardy.evaluation.framework import EvaluationContext
from hardy.evaluation.sources import sources_of
from hardy.runs import Run

OWN = replace(BUDGETS["quick"], name="mine", corruptions=("fog",), attack_settings={"pgd": {"steps": 3}})


def context_of(budget: Budget) -> EvaluationContext:
    return EvaluationContext("mnist/test", None, ("glyphs/test",), {}, {"mnist/test": 10}, 10, budget)


def test_a_budget_is_found_by_its_name_or_given() -> None:
    assert list(BUDGETS) == [budget.name for budget in BUDGETS.values()] == ["quick", "standard", "full"]
    assert find_budget("full") is BUDGETS["full"]
    assert find_budget(OWN) is OWN
    with pytest.raises(UsageError, match="unknown budget 'lavish'; known: full, quick, standard"):
        find_budget("lavish")


def test_a_larger_budget_spends_no_less_on_anything() -> None:
    """Of examples None is all, which is most; of corruptions too."""
    spent = [
        [float("inf") if (value := getattr(budget, field.name)) is None else value for field in fields(Budget)[1:]]
        for budget in BUDGETS.values()
    ]
    for less, more in pairwise(spent):
        for field, before, after in zip(fields(Budget)[1:], less, more, strict=True):
            if isinstance(before, int | float) and isinstance(after, int | float):
                assert before <= after, field.name
    assert set(BUDGETS["quick"].standard_norms) < set(BUDGETS["standard"].standard_norms)
    assert not any(budget.attack_settings for budget in BUDGETS.values())


@pytest.mark.parametrize("budget", [*BUDGETS.values(), OWN], ids=lambda budget: budget.name)
def test_a_context_survives_json(budget: Budget) -> None:
    adapter = TypeAdapter(EvaluationContext)
    assert adapter.validate_json(adapter.dump_json(context_of(budget))) == context_of(budget)


def test_an_evaluation_within_a_budget_of_ones_own_can_be_read_and_resumed(tmp_path: Path) -> None:
    data = str(write_tiny_data(tmp_path))
    settings = {"budget": OWN, "properties": ["distribution_shift"], "out": tmp_path / "run", "progress": False}
    card, measured, made = measure(subject_of(seeded_linear(3, 8)), sources_of(data), **settings)
    assert card.budget == "mine"
    assert {it.setting["corruption"] for it in card.estimates if "corruption" in it.setting} == {"fog"}
    properties, results = load_results(Run.open(tmp_path / "run"))
    assert results.context == made.context
    assert properties == measured
    assert results.records.keys() == made.records.keys()
    again = measure(subject_of(seeded_linear(3, 8)), sources_of(data), **settings, resume=True)
    assert again.scorecard.estimates == card.estimates
