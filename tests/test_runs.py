"""Run folders: what they may be, and what they say of how they came about."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import hardy
from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError
from hardy.runs import MANIFEST, SCHEMA, Run, environment


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_made_in_a_folder_that_is_missing_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "run", tmp_path / "empty"):
        run = Run.create(folder)
        assert not (folder / MANIFEST).exists()
        run.manifest["answer"] = 42
        run.save()
        assert Run.open(folder).manifest == {"schema": SCHEMA, "answer": 42}
        assert names(folder) == [MANIFEST]


def test_what_is_there_is_never_taken_for_a_new_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is not empty and is no run of hardy; choose another --out"):
        Run.create(tmp_path)
    with pytest.raises(RunError, match="file is a file; a run needs a folder"):
        Run.create(tmp_path / "file")
    Run.create(tmp_path / "run").save()
    with pytest.raises(RunError, match="already holds a run; go on with it by --resume"):
        Run.create(tmp_path / "run")
    assert names(tmp_path) == ["file", "run"]


def test_a_run_below_a_file_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    run = Run.create(tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="cannot write"):
        run.save()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"is no run of hardy: it has no {MANIFEST}"),
        ("{", "cannot read"),
        (b"\xff\xfe", "cannot read"),
        ("[]", "is not a manifest of hardy: it names no schema"),
        ("{}", "is not a manifest of hardy: it names no schema"),
        ('{"schema": "1"}', "is not a manifest of hardy: it names no schema"),
        (json.dumps({"schema": SCHEMA + 1}), f"of schema {SCHEMA + 1}, and this hardy reads up to {SCHEMA}"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=message):
        Run.open(tmp_path)


def test_a_file_and_a_missing_folder_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(RunError, match="is no run of hardy"):
            Run.open(path)


def test_going_on_opens_what_is_there_or_makes_it(tmp_path: Path) -> None:
    run = Run.open_or_create(tmp_path / "run")
    run.manifest["answer"] = 42
    run.save()
    assert Run.open_or_create(tmp_path / "run").manifest["answer"] == 42
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        Run.open_or_create(tmp_path)


def test_what_a_kill_left_half_written_is_no_obstacle_and_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f".{MANIFEST}.123.part").write_text("{")
    Run.open_or_create(tmp_path).save()
    assert names(tmp_path) == [MANIFEST]

    (tmp_path / "records").mkdir()
    (tmp_path / "records" / ".cell.parquet.77.part").write_text("half")
    (tmp_path / "records" / "cell.parquet").write_text("whole")
    (tmp_path / ".weights.safetensors.123.part").write_text("half")
    Run.open_or_create(tmp_path)
    assert names(tmp_path) == ["records", MANIFEST]
    assert names(tmp_path / "records") == ["cell.parquet"]


def test_half_written_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".film.mp4.part").write_text("mine")
    (tmp_path / ".film.12.part").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        Run.open_or_create(tmp_path)
    assert names(tmp_path) == [".film.12.part", ".film.mp4.part"]


def test_the_environment_is_what_a_figure_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hardy", "train", "fast", "--out", "my runs"])
    found = environment("cpu", {"mnist/train": "ab"})
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == "hardy train fast --out 'my runs'"
    assert found["hardy"] == hardy.__version__
    assert found["device"] == "cpu"
    assert found["data"] == {"mnist/train": "ab"}
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]


def test_the_commit_is_that_of_hardys_own_checkout_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(hardy.__file__).parent
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    found = environment("cpu", {})
    assert found["git_commit"] == (asked.stdout.strip() if asked.returncode == 0 else None)
    assert (found["git_dirty"] is None) == (found["git_commit"] is None)


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = environment("cpu", {})
    assert (found["git_commit"], found["git_dirty"]) == (None, None)


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert describe(torch.device("cpu")).startswith("cpu (")


@pytest.mark.parametrize("name", ["", "gpu", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"device '{name}' cannot be used: .*; try auto or cpu"):
        choose_device(name)
