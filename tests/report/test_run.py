from __future__ import annotations

from typing import Any, cast

from helpers.reports import Page, scorecard

from hardy.evaluation.charts import Table
from hardy.evaluation.evaluate import Evaluation
from hardy.evaluation.framework import Plan, Property
from hardy.report.run import write_run_report


def test_what_was_just_evaluated_is_not_read_again(tmp_path):
    """The folder holds no run: everything comes from what is handed over."""
    results = cast(Any, object())
    prop = Property(
        name="accuracy",
        title="Accuracy",
        description="How often it is right.",
        plan=lambda _: Plan(()),
        metrics=lambda _: [],
        draw=lambda seen: [Table("Drawn from these results", "", ("a",), ())] if seen is results else [],
        functions={},
    )
    page = write_run_report(tmp_path, evaluation=Evaluation(scorecard(), [prop], results))
    words = Page(page.read_text(encoding="utf-8")).words
    assert "How often it is right." in words
    assert "Drawn from these results" in words
    assert (tmp_path / "README.md").read_text(encoding="utf-8").startswith("# compact\n")
