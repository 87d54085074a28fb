"""The scorecard as pages, Markdown and a table for the terminal. Nothing is computed here."""

from hardy.report.card import write_model_card
from hardy.report.compare import comparison_markdown, comparison_rows, write_comparison_html
from hardy.report.page import Section, write_report
from hardy.report.terminal import print_scorecard

__all__ = [
    "Section",
    "write_report",
    "write_model_card",
    "comparison_rows",
    "comparison_markdown",
    "write_comparison_html",
    "print_scorecard",
]
