"""Errors that users see: nearest names, and what to install where an optional package is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.classifiers import write_tiny_data

from hardy.errors import EXTRAS, UsageError, explain_missing_packages, unknown

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "skimage": "scikit-image"}

# As where only what hardy requires is installed, but quicker.
BARE = (
    "import sys; sys.modules |= dict.fromkeys({absent}); sys.argv[0] = 'hardy'\nfrom hardy.cli.main import main; main()"
).replace("{absent}", repr(sorted(EXTRAS)))


def bare(*arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", BARE, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, timeout=120)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert str(unknown("attack", "pgdd", ["pgd", "fab"])) == "unknown attack 'pgdd'; did you mean pgd?"
    assert str(unknown("attack", "xyz", ["pgd", "fab"])) == "unknown attack 'xyz'; known: fab, pgd"


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = {name: project["optional-dependencies"][name] for name in set(EXTRAS.values())}
    declared = {re.split("[><=]", each)[0]: name for name, packages in extras.items() for each in packages}
    assert declared == {DISTRIBUTIONS.get(name, name): extra for name, extra in EXTRAS.items()}
    assert declared.keys() & {re.split("[><=]", each)[0] for each in project["dependencies"]} == set()


def test_a_missing_optional_package_is_answered_with_its_extra() -> None:
    with (
        pytest.raises(UsageError, match=r"this needs polars, .*: pip install 'hardy\[eval\]'"),
        explain_missing_packages(),
    ):
        raise ModuleNotFoundError("No module named 'polars.io'", name="polars.io")
    with pytest.raises(ModuleNotFoundError, match="mine"), explain_missing_packages():
        raise ModuleNotFoundError("No module named 'mine'", name="mine")


@pytest.mark.parametrize(
    "call", [["evaluate", "runs/none"], ["predict", "bundle", "a.png"], ["bundle", "runs/none", "--out", "b"]]
)
def test_a_command_says_what_to_install(call: list[str]) -> None:
    done = bare(*call)
    assert done.returncode == 2
    assert re.fullmatch(r"hardy: this needs \w+, which is not installed; get it with: pip install .*\n", done.stderr)
    assert "'hardy[eval]'" in done.stderr


def test_a_public_name_says_what_to_install() -> None:
    code = (
        f"import sys; sys.modules |= dict.fromkeys({sorted(EXTRAS)!r})\n"
        "import hardy\n"
        "try: hardy.evaluate\n"
        "except hardy.UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert re.fullmatch(r"this needs \w+, .*: pip install 'hardy\[eval\]'\n", done.stdout), done.stderr


def test_the_command_line_trains_without_any_extra(tmp_path: Path) -> None:
    settings = ['model_arguments={"width": 4, "size": 8}', "batch_size=16", "epochs=4"]
    options = [each for setting in settings for each in ("--set", setting)]
    done = bare("train", "fast", "--data", write_tiny_data(tmp_path), "--out", tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    assert "validation accuracy" in done.stdout
