"""The layout: a module imports only from those above it, and each entry loads no more than it needs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from helpers.classifiers import write_tiny_data

import hardy

ROOT = Path(hardy.__file__).parent
ORDER = (
    "errors",
    "registry",
    "validation",
    "files",
    "rng",
    "threats",
    "devices",
    "progress",
    "synthetic",
    "data",
    "models",
    "augmentations",
    "corruptions",
    "attacks",
    "certification",
    "runs",
    "training",
    "metrics",
    "calibration",
    "ood",
    "deployment",
    "evaluation",
    "report",
    "studies",
    "cli",
    "__main__",
)
PACKAGES = (
    "attacks",
    "augmentations",
    "calibration",
    "certification",
    "corruptions",
    "data",
    "evaluation",
    "metrics",
    "models",
    "ood",
    "report",
    "training",
)
PUBLIC = {
    "HardyError",
    "Randomness",
    "Scorecard",
    "ThreatModel",
    "UsageError",
    "build_model",
    "bundle",
    "corrupt",
    "evaluate",
    "load",
    "load_dataset",
    "train",
}
TRAINING_NEEDS = ("torch", "numpy", "safetensors", "rich")
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(module: str) -> str:
    """The module or package right below ``hardy`` that ``hardy.a.b`` or ``a/b.py`` belongs to."""
    return re.split(r"[./]", module.removeprefix("hardy."))[0]


def imported(file: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything of hardy that a file imports, at its top and inside functions."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "hardy")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            if node.module == "hardy":
                yield from ((node.lineno, f"hardy.{alias.name}") for alias in node.names)
            elif node.module and node.module.startswith("hardy."):
                yield from ((node.lineno, _module(node.module, alias.name)) for alias in node.names)


def _module(package: str, name: str) -> str:
    """``package.name`` if that is a module, else the package, of which it is a name."""
    folder = ROOT.joinpath(*package.split(".")[1:])
    return f"{package}.{name}" if (folder / f"{name}.py").exists() or (folder / name).is_dir() else package


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def third_party() -> dict[str, frozenset[str]]:
    """Import names of what is installed besides Python and hardy, each with the distributions that bring it."""
    names = {name: frozenset(map(_canonical, owners)) for name, owners in packages_distributions().items()}
    return {name: owners for name, owners in names.items() if "hardy" not in owners}


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def needed_by(*distributions: str) -> set[str]:
    """These distributions and all that they cannot be installed without."""
    found: set[str] = set()
    waiting = [*distributions]
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        try:
            requirements = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.split(r"[^\w.-]", it)[0] for it in requirements if "extra ==" not in it]
    return found


def test_the_order_names_everything_that_is_there_and_nothing_else() -> None:
    assert {part_of(file.removesuffix(".py")) for file in MODULES} == set(ORDER)


@pytest.mark.parametrize("file", MODULES)
def test_a_module_imports_only_from_above(file: str) -> None:
    here = part_of(file.removesuffix(".py"))
    wrong = [
        f"{file}:{line} imports {name}"
        for line, name in imported(file)
        if name != "hardy.__version__" and ORDER.index(part_of(name)) > ORDER.index(here)
    ]
    assert wrong == []


def test_no_two_modules_need_each_other() -> None:
    graph = {}
    for file in MODULES:
        module = f"hardy.{file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
        # What lies in one package may import the package's modules, but not the package.
        graph[module] = {name for _, name in imported(file) if name != "hardy.__version__"}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_importing_hardy_loads_nothing_else() -> None:
    program = """
import sys, time
before, start = set(sys.modules), time.process_time()
import hardy
print(time.process_time() - start, *(set(sys.modules) - before))
"""
    seconds, *loaded = run(program).split()
    assert "hardy" in loaded
    assert {name.split(".")[0] for name in loaded} & third_party().keys() == set()
    assert [name for name in loaded if name.startswith("hardy.")] == []
    assert float(seconds) < 0.15


def test_the_public_names_are_these() -> None:
    assert set(hardy.__all__) == {*PACKAGES, *PUBLIC}
    assert hardy.__all__ == dir(hardy) == sorted(hardy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        hardy.trian  # noqa: B018


def test_every_public_name_is_there_after_a_plain_import() -> None:
    program = "import hardy; print(*(f'{name}:{getattr(hardy, name).__name__}' for name in hardy.__all__))"
    found = dict(pair.split(":") for pair in run(program).split())
    assert {name: found[name] for name in PACKAGES} == {name: f"hardy.{name}" for name in PACKAGES}
    assert found.keys() == set(hardy.__all__)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["evaluate", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, json; from hardy.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(run(program, *arguments).splitlines()[-1])
    assert "typer" in loaded
    heavy = {"torch", "numpy", "polars", "matplotlib", "scipy", "sklearn", "PIL", "jinja2"}
    assert heavy & set(loaded) == set()


def test_training_runs_with_nothing_but_what_a_bare_machine_has(tmp_path: Path) -> None:
    there = needed_by(*TRAINING_NEEDS)
    absent = sorted(name for name, owners in third_party().items() if not owners & there)
    assert {"polars", "scipy", "sklearn", "matplotlib", "pydantic", "typer", "PIL"} <= set(absent)
    program = """
import json, sys
from pathlib import Path

absent = set(json.loads(sys.argv[1]))

class Bare:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in absent else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
from dataclasses import replace
from hardy.training.recipes import RECIPES
from hardy.training import train

recipe = replace(RECIPES["fast"], model_arguments={"width": 4, "size": 8}, batch_size=16, epochs=4)
run = train(recipe, Path(sys.argv[3]), data=sys.argv[2])
print(run.manifest["training"]["status"])
"""
    out = run(program, json.dumps(absent), write_tiny_data(tmp_path), tmp_path / "run")
    assert out.split() == ["trained"]
