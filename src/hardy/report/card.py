"""The model card: the ``README.md`` of a run folder."""

from __future__ import annotations

from pathlib import Path

from hardy.evaluation.scorecard import Scorecard
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.page import render
from hardy.report.verdicts import verdicts


def write_model_card(out: Path, scorecard: Scorecard) -> None:
    """Replace ``out`` with a model card: what the classifier is, how it was trained, how it does, where it ends.

    Raises:
        HardyError: the file cannot be written.
    """
    headline = [formatting.figure(estimate) for estimate in scorecard.estimates if estimate.headline]
    write_text(out, render("card.md.j2", card=scorecard, headline=headline, verdicts=verdicts(scorecard)))
