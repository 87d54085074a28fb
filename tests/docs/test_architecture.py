"""What the documentation lists by hand is what there is: the layout, the properties, the verbs, the pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer

from hardy.cli.main import app
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.scorecard import SCHEMA as SCORECARD_SCHEMA
from hardy.runs import SCHEMA as RUN_SCHEMA

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def test_the_layout_is_listed_in_the_order_of_imports() -> None:
    tree = ast.parse((ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8"))
    (order,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ORDER"
    )
    section = read("architecture.md").partition("## Layout")[2]
    listed = re.findall(r"^(\w+)(?:\.py|/) ", section.split("```")[1], re.MULTILINE)
    assert listed == list(order)


def test_every_property_has_a_page_that_measures_it() -> None:
    pages = "".join(read(f"properties/{path.name}") for path in (DOCS / "properties").glob("*.md"))
    assert [name for name in PROPERTIES if f"--property {name}\n" not in pages] == []


def test_every_verb_is_described() -> None:
    group = typer.main.get_command(app)
    text = read("command-line.md")
    assert [verb for verb in group.commands if f"`hardy {verb}`" not in text] == []  # type: ignore[attr-defined]


def test_the_schema_numbers_are_those_of_the_code() -> None:
    assert f"scorecard {SCORECARD_SCHEMA}, run {RUN_SCHEMA}," in read("architecture.md")


@pytest.mark.parametrize("page", sorted(path.name for path in (DOCS / "reference").glob("*.md")))
def test_the_reference_names_modules_that_there_are(page: str) -> None:
    modules = re.findall(r"^::: (hardy[\w.]*)$", read(f"reference/{page}"), re.MULTILINE)
    assert modules
    for module in modules:
        place = ROOT.joinpath("src", *module.split("."))
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), module
