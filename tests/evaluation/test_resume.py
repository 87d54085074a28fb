"""An evaluation that was stopped goes on where it was, and never mixes with another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from helpers.classifiers import SmallNet
from helpers.evaluations import (
    LIMIT,
    SHARD,
    assert_same_records,
    figures_of,
    make_evaluations_small,
    measure,
    records_of,
)

from hardy.errors import RunError
from hardy.evaluation.evaluate import Progress, load_results
from hardy.evaluation.scorecard import Scorecard
from hardy.runs import Run

# Several cells that cost next to nothing.
CHEAP = ["accuracy", "out_of_distribution"]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_evaluations_small(patch)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed evaluation."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    measure(out, properties=CHEAP)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


class Killed(Exception):
    pass


@pytest.mark.parametrize("survived", [0, 1, 5])
def test_a_killed_evaluation_goes_on_where_it_was(whole: Path, tmp_path: Path, survived: int) -> None:
    out, measured = tmp_path / "run", []

    def killed(tasks, measure_one):
        for number, task in enumerate(tasks):
            if number == survived:
                raise Killed
            yield task, measure_one(task)

    def counting(tasks, measure_one):
        for task in tasks:
            measured.append(task)
            yield task, measure_one(task)

    with pytest.raises(Killed):
        measure(out, properties=CHEAP, executor=killed)
    assert not (out / "scorecard.json").exists()
    scorecard = measure(out, resume=True, executor=counting)
    assert_same_records(out, whole)
    assert scorecard.estimates == Scorecard.read(whole / "scorecard.json").estimates
    shards = -(-LIMIT // SHARD) * len(records_of(whole))
    assert len(measured) == shards - survived


def test_a_kill_while_a_shard_is_written_leaves_no_half_of_it(whole: Path, tmp_path: Path, monkeypatch) -> None:
    out, write, written = tmp_path / "run", Path.write_bytes, []

    def half_written(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            write(path, content[: len(content) // 2])
            raise Killed
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half_written)
        with pytest.raises(Killed):
            measure(out, properties=CHEAP)
    measure(out, resume=True)
    assert_same_records(out, whole)


def test_records_that_are_gone_are_measured_again(whole: Path, copied: Path) -> None:
    lost = sorted((copied / "records").iterdir())[::2]
    for path in lost:
        path.unlink()
    tasks = []
    measure(copied, resume=True, report=lambda progress: tasks.append(progress))
    assert_same_records(copied, whole)
    assert len(tasks) == tasks[-1].tasks == 3 * len(lost)


def test_resuming_what_is_finished_measures_nothing(whole: Path, copied: Path) -> None:
    tasks: list[Progress] = []
    scorecard = measure(copied, resume=True, report=tasks.append)
    assert tasks == []
    assert scorecard.estimates == Scorecard.read(whole / "scorecard.json").estimates


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, "another seed"),
        ({"limit": 30}, "another plan .*limit"),
        ({"budget": "quick"}, "another plan .*budget"),
        ({"classifier": SmallNet()}, "another classifier"),
    ],
)
def test_another_evaluation_is_not_mixed_into_this_one(copied: Path, settings: dict, message: str) -> None:
    before = (copied / "run.json").read_text()
    with pytest.raises(RunError, match=message):
        measure(copied, resume=True, **settings)
    assert (copied / "run.json").read_text() == before


def test_a_property_can_be_added_later(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert measure(out, properties=["accuracy"]).properties == ["accuracy"]
    tasks: list[Progress] = []
    scorecard = measure(out, properties=["out-of-distribution"], resume=True, report=tasks.append)
    assert scorecard.properties == ["accuracy", "out_of_distribution"]
    assert tasks
    assert ("predict", "mnist/test") not in {
        (progress.measurement.function, progress.measurement.dataset) for progress in tasks
    }
    assert_same_records(out, whole)
    figures = figures_of(scorecard)
    assert figures_of(Scorecard.read(whole / "scorecard.json")).items() <= figures.items()


def test_going_on_adds_no_property_that_nobody_named(copied: Path) -> None:
    assert measure(copied, resume=True).properties == CHEAP


def test_an_evaluation_is_not_overwritten(copied: Path) -> None:
    with pytest.raises(RunError, match="already holds a run; go on with it by --resume"):
        measure(copied)


def test_nothing_is_written_where_somebody_else_keeps_things(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("")
    for out, message in (("mine", "not empty and is no run"), ("file", "is a file; a run needs a folder")):
        for resume in (False, True):
            with pytest.raises(RunError, match=message):
                measure(tmp_path / out, resume=resume)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_run_of_another_classifier_is_not_evaluated_into(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    facts = {"recipe": {"name": "compact"}, "seed": 0, "data": "mnist", "hashes": {}, "status": "trained"}
    run.manifest |= {"model": {"name": "compact", "arguments": {}}, "training": facts}
    run.save()
    with pytest.raises(RunError, match="the run of another classifier"):
        measure(tmp_path / "run", resume=True)


def test_a_run_of_a_newer_schema_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(RunError, match=r"schema 99.*upgrade"):
        measure(copied, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": None}, r"run\.json is damaged: evaluation\.schema"),
        ({"schema": 1}, "holds an evaluation by an older hardy; evaluate again into another folder with --out"),
        ({"schema": 3}, "holds an evaluation by a newer hardy"),
        ({"seed": "zero"}, r"run\.json is damaged: evaluation\.seed"),
        ({"unheard_of": 1}, r"run\.json is damaged: evaluation\.unheard_of"),
    ],
)
def test_an_evaluation_that_cannot_be_read_is_refused(copied: Path, change: dict, message: str) -> None:
    manifest = json.loads((copied / "run.json").read_text())
    manifest["evaluation"] |= change
    (copied / "run.json").write_text(json.dumps(manifest))
    for use in (lambda: load_results(Run.open(copied)), lambda: measure(copied, resume=True)):
        with pytest.raises(RunError, match=message):
            use()


def test_an_evaluation_of_before_it_named_a_schema_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "run.json").read_text())
    del manifest["evaluation"]["schema"]
    (copied / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="older hardy"):
        measure(copied, resume=True)


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_damaged_records_are_named_with_the_way_out(whole: Path, copied: Path, kept: float) -> None:
    path = sorted((copied / "records").iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for use in (lambda: load_results(Run.open(copied)), lambda: measure(copied, resume=True)):
        with pytest.raises(RunError, match="--resume") as caught:
            use()
        assert str(path) in str(caught.value)
    path.unlink()
    measure(copied, resume=True)
    assert_same_records(copied, whole)


def test_records_that_lack_rows_are_named(copied: Path) -> None:
    path = sorted((copied / "records").iterdir())[0]
    pl.read_parquet(path).head(LIMIT - 1).write_parquet(path)
    with pytest.raises(RunError, match=f"holds {LIMIT - 1} rows .* where {LIMIT}"):
        load_results(Run.open(copied))


def test_missing_records_are_named(copied: Path) -> None:
    path = sorted((copied / "records").iterdir())[0]
    path.unlink()
    with pytest.raises(RunError, match="are missing; go on with") as caught:
        load_results(Run.open(copied))
    assert str(path) in str(caught.value)


def test_a_run_without_an_evaluation_is_named(tmp_path: Path) -> None:
    Run.create(tmp_path / "run").save()
    with pytest.raises(RunError, match="holds no evaluation"):
        load_results(Run.open(tmp_path / "run"))
