"""Run folders: what they may be, and what they say of how they came about."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import hardy
from hardy.errors import RunError, UsageError
from hardy.evaluation.evaluate import load_results
from hardy.models import build_model
from hardy.runs import LOCK, MANIFEST, SCHEMA, Run, environment, hold, holds_out, load_trained


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


def schema_1(tmp_path: Path) -> dict[str, Any]:
    """A run as hardy wrote it when run.json had schema 1, trained and evaluated."""
    with torch.random.fork_rng(devices=[]):
        weights = save(build_model("compact", width=2).state_dict())
    (tmp_path / "weights.safetensors").write_bytes(weights)
    hashes = {"mnist/train": "ab43", "mnist/held-out": "0902"}
    recipe = {"name": "small", "description": "keeps 'held-out' in its text", "model": "compact", "epochs": 1}
    manifest = {
        "schema": 1,
        "model": {"name": "compact", "arguments": {"classes": 10, "width": 2}},
        "classes": list("0123456789"),
        "input": [1, 28, 28],
        "training": {
            "recipe": recipe,
            "seed": 0,
            "data": "mnist",
            "hashes": hashes,
            "split_indices": {"train": "ee1e", "held-out": "6d44"},
            "status": "trained",
            "environment": {"hardy": "0.1.0", "data": hashes},
            "seconds_since_last_resume": 276.63,
            "parts": [
                {
                    "name": "small",
                    "held_out_accuracy": 0.99,
                    "history": [{"epoch": 1, "loss": 0.15, "held_out_accuracy": 0.99}],
                }
            ],
        },
        "weights_sha256": sha256(weights).hexdigest(),
        "evaluation": {"seed": 0, "plan": {"held_out": "mnist/held-out"}},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    return manifest


def test_a_run_that_an_older_hardy_trained_is_read_without_its_evaluation(tmp_path: Path) -> None:
    before = schema_1(tmp_path)
    run = Run.open(tmp_path)
    assert run.manifest.keys() == before.keys() - {"evaluation"}
    assert run.manifest["schema"] == SCHEMA
    hashes = {"mnist/train": "ab43", "mnist/validation": "0902"}
    assert run.manifest["training"] == {
        "recipe": before["training"]["recipe"],
        "seed": 0,
        "data": "mnist",
        "hashes": hashes,
        "split_indices": {"train": "ee1e", "validation": "6d44"},
        "status": "trained",
        "environment": {"hardy": "0.1.0", "data": hashes},
        "seconds_since_last_resume": 276.63,
        "networks": [
            {
                "name": "small",
                "validation_accuracy": 0.99,
                "history": [{"epoch": 1, "loss": 0.15, "validation_accuracy": 0.99}],
            }
        ],
    }
    classifier, _ = load_trained(str(tmp_path))
    assert classifier.eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    with pytest.raises(RunError, match="holds no evaluation; make one with 'hardy evaluate"):
        load_results(run)


def test_records_of_an_older_hardy_do_not_pass_for_new_ones(tmp_path: Path) -> None:
    schema_1(tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "clean.parquet").write_text("old")
    Run.open_or_create(tmp_path).save()
    assert names(tmp_path) == [MANIFEST, "weights.safetensors"]
    assert json.loads((tmp_path / MANIFEST).read_text())["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old: old.pop("training"), "was made by an older hardy; evaluate or study again into another --out"),
        (lambda old: old["training"].update(status="training"), "started by an older hardy; train again into another"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_remedy(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    manifest = schema_1(tmp_path)
    change(manifest)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=message):
        Run.open(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    manifest = schema_1(tmp_path)
    del manifest["weights_sha256"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"run\.json is damaged: 'weights_sha256' is missing; train the run again"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(model=[]), "model: "),
        (lambda it: it["model"].update(arguments=[]), r"model\.arguments: "),
        (lambda it: it.update(classes="0123456789"), "classes: "),
        (lambda it: it["training"].update(networks=[{"name": "small"}]), r"training\.networks\.0\.validation_accuracy"),
        (lambda it: it["training"].pop("hashes"), r"training\.hashes: "),
        (lambda it: it["training"].update(recipe="trades"), r"training\.recipe: "),
        (lambda it: it.pop("input"), "'input' is missing"),
        (lambda it: it["model"].update(arguments={"width": 9000}), "has shape"),
        (lambda it: it["model"].update(arguments={"width": 10**9}), "out of bounds"),
        (lambda it: it.update(model={"name": "ensemble", "arguments": {"members": [{"name": "cnn"}] * 200}}), "200"),
    ],
)
def test_an_edited_manifest_is_refused_at_its_place_without_taking_memory(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    schema_1(tmp_path)
    manifest = Run.open(tmp_path).manifest
    load_trained(tmp_path)
    change(manifest)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=message):
        load_trained(tmp_path)


def test_a_folder_is_held_by_one_writer_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with hold(folder):
        assert names(folder) == [LOCK]
        with pytest.raises(RunError, match="is being written by another process; wait until it is done, or choose"):
            hold(folder).__enter__()
    assert not names(tmp_path)
    with hold(folder):
        Run.create(folder).save()
    assert names(folder) == [MANIFEST]


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = f"import os\nfrom hardy.runs import hold\nwith hold({str(folder)!r}): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert names(folder) == [LOCK]
    with hold(folder):
        Run.create(folder).save()
    assert names(folder) == [MANIFEST]


def test_a_refused_call_leaves_no_folder(tmp_path: Path) -> None:
    @holds_out
    def work(out: Path | None = None) -> bool:
        return out is None or bool(Run.open(out))

    assert work()
    with pytest.raises(RunError, match="is no run of hardy"):
        work(tmp_path / "new" / "run")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file; a run needs a folder"):
        work(tmp_path / "file")
    assert names(tmp_path) == ["file"]
