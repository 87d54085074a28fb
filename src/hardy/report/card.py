"""The model card: the ``README.md`` of a run folder."""

from __future__ import annotations

import textwrap
from pathlib import Path

from hardy.evaluation.scorecard import Scorecard
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.markdown import bullets, inline, table

_SCOPE = (
    "Each figure holds for the data and the setting named beside it, and says nothing of others. "
    "A robust accuracy against an attack is an upper bound: a stronger attack can only lower it."
)


def write_model_card(out: Path, scorecard: Scorecard) -> None:
    """Replace ``out`` with a model card: what the classifier is, how it was trained, how it does, where it ends.

    Raises:
        HardyError: the file cannot be written.
    """
    contract = (
        "It takes float32 images in [0, 1] of shape (N, C, H, W) and gives logits; normalisation lives inside it."
    )
    files = "`report.html` shows every figure, `scorecard.json` holds them for programs."
    parts = [
        f"# {inline(scorecard.subject.name)}",
        f"An image classifier: {inline(formatting.subject_line(scorecard))}. {contract}",
        "## How it was trained",
        _training(scorecard),
        "## How it does",
        f"Measured with the {inline(formatting.measuring_line(scorecard))}. {files}",
        _headline(scorecard),
        "## Limits",
        _SCOPE,
        bullets(scorecard.warnings) if scorecard.warnings else "The evaluation gave no warnings.",
    ]
    if scorecard.skipped:
        reasons = (f"{formatting.sentence(skip.property)}: {skip.reason}" for skip in scorecard.skipped)
        parts += ["## Not measured", bullets(reasons)]
    parts += ["## How to reproduce it", *_reproduction(scorecard)]
    write_text(out, "\n\n".join(parts) + "\n")


def _training(scorecard: Scorecard) -> str:
    if scorecard.subject.training is None:
        return "Not trained by hardy; how it was trained is not known here."
    return table(("Setting", "Value"), formatting.flat(scorecard.subject.training))


def _headline(scorecard: Scorecard) -> str:
    figures = [formatting.figure(metric) for metric in scorecard.estimates if metric.headline]
    if not figures:
        return "No headline figure was measured."
    header = ("Property", "Figure", "Setting", "Measured on", "Value", "95 % interval", "Examples", "Better")
    rows = [
        (
            figure.property,
            figure.name,
            figure.setting,
            figure.dataset,
            figure.value,
            figure.interval,
            figure.n,
            figure.direction,
        )
        for figure in figures
    ]
    return table(header, rows, numeric=(4, 5, 6))


def _reproduction(scorecard: Scorecard) -> list[str]:
    environment = scorecard.environment
    facts = [
        ("hardy", environment.hardy),
        ("Git commit", formatting.commit_words(scorecard)),
        ("Seed", str(scorecard.seed)),
        ("Device", environment.device),
        ("Weights (SHA-256)", scorecard.subject.weights_sha256),
        *((f"Data {name} (SHA-256)", digest) for name, digest in environment.data.items()),
        *((f"Package {name}", version) for name, version in environment.packages.items()),
    ]
    # Indented, not fenced: no command can end the block.
    return [textwrap.indent(environment.command, "    "), table(("", ""), facts)]
