"""The report and the model card of a run folder."""

from __future__ import annotations

from pathlib import Path

from hardy.evaluation.evaluate import Evaluation, load_results
from hardy.evaluation.scorecard import Scorecard
from hardy.report.card import write_model_card
from hardy.report.page import Section, write_report
from hardy.runs import Run


def write_run_report(path: Path, data_dir: Path | None = None, *, evaluation: Evaluation | None = None) -> Path:
    """Write ``report.html`` and ``README.md`` of an evaluated run; returns the page.

    What ``evaluation`` holds is not read from the run's records again.

    Raises:
        RunError: the run holds no evaluation, or records are missing or damaged.
    """
    if evaluation is None:
        chosen, results = load_results(Run.open(path), data_dir)
        scorecard = Scorecard.read(path / "scorecard.json")
    else:
        chosen, results, scorecard = evaluation.properties, evaluation.results, evaluation.scorecard
    sections = [Section(prop.name, prop.title, prop.description, prop.draw(results)) for prop in chosen]
    page = path / "report.html"
    write_report(page, scorecard, sections)
    write_model_card(path / "README.md", scorecard)
    return page
