"""The snippets of the documentation: Python runs, and commands are ones that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from helpers.snippets import make_cheap, prepared, registries_kept

from hardy.cli.main import app

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
# These evaluate or train.
SLOW = {
    "README.md",
    "docs/quickstart.md",
    "docs/how-to/evaluate.md",
    "docs/how-to/own-images.md",
    "docs/how-to/bundle.md",
    "docs/how-to/extend.md",
}
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:hardy|python benchmarks/\S+\.py|make)\s[^`]+)`")


class Block(NamedTuple):
    page: str
    language: str
    line: int
    content: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start(2)) + 1
        yield Block(page.relative_to(ROOT).as_posix(), found[1], line, found[2])


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = sorted({block.page for block in BLOCKS if block.language == "python"})


def commands() -> Iterator[tuple[str, str]]:
    """Where a command stands, and the command: each line of a shell block, and those within a sentence."""
    for block in BLOCKS:
        if block.language in ("sh", "console"):
            lines = block.content.replace("\\\n", " ").splitlines()
            yield from ((f"{block.page}:{block.line}", line) for line in lines if line.strip())
    for page in PAGES:
        for found in INLINE.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
            yield f"{page.relative_to(ROOT)} (in a sentence)", " ".join(found[1].split())


COMMANDS = list(dict.fromkeys(commands()))


@pytest.mark.parametrize("page", [pytest.param(it, marks=pytest.mark.slow if it in SLOW else ()) for it in PYTHON])
def test_python_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page in turn, as a reader types them, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    make_cheap(monkeypatch)
    namespace: dict[str, Any] = prepared(tmp_path)
    with registries_kept():
        for block in BLOCKS:
            if block.page == page and block.language == "python":
                # As many empty lines before it, so that a traceback names the line of the page.
                exec(compile("\n" * (block.line - 1) + block.content, page, "exec"), namespace)


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "sh", "console", ""}
    assert len(PYTHON) > 5
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("place", "command"), COMMANDS)
def test_commands_are_ones_that_there_are(place: str, command: str) -> None:
    words = shlex.split(command.removeprefix("$ "), comments=True)
    if words[0] == "hardy":
        _check_verb(words[1:], whole="sentence" not in place)
    elif words[0] == "make":
        assert re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words[1]
    elif words[0] == "python":
        script = (ROOT / words[1]).read_text(encoding="utf-8")
        unknown = [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in script]
        assert unknown == []
    else:
        assert words[0] in ("pip", "time", "pre-commit", "git"), f"{words[0]}: no command that the tests know"


def _check_verb(words: list[str], *, whole: bool) -> None:
    """Parse a command as the command line does; where it need not be whole, only verb and options have to exist."""
    group: Any = typer.main.get_command(app)
    if words[:1] == ["--import"]:
        words = words[2:]
    while words and words[0] in getattr(group, "commands", {}):
        group, words = group.commands[words[0]], words[1:]
    if hasattr(group, "commands"):
        options = {option for parameter in group.params for option in parameter.opts} | {"--help"}
        assert all(word in options or word == "VERB" for word in words), f"no verb or option: {words}"
    elif whole:
        with group.make_context("hardy", list(words), resilient_parsing=False):
            pass
    else:
        options = {option for parameter in group.params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
