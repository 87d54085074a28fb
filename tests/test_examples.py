"""The examples in docstrings run, and say what happens."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import hardy

ROOT = Path(hardy.__file__).parent
MODULES = [
    f"hardy.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.').removesuffix('.__init__')}"
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder; ``out`` is a name in it that is free."""
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    found = doctest.testmod(module, extraglobs={"out": tmp_path / "out"}, optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed
