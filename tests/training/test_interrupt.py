"""Interrupting a training: signals stop it at a checkpoint, kills anywhere, and neither changes what comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.classifiers import write_tiny_data

from hardy.files import sha256_of
from hardy.runs import MANIFEST, Run
from hardy.training import train
from hardy.training.interrupt import stop_on_signal
from hardy.training.recipes import RECIPES

# Some seconds of training, in epochs of some 50 ms.
LONG = {
    "epochs": "24",
    "batch_size": "16",
    "learning_rate": "0.01",
    "model_arguments": '{"width": 8, "size": 8}',
    "augmentation": "{}",
}
LONG_RECIPE = RECIPES["compact"].with_settings(LONG)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_data(tmp_path_factory.mktemp("data")))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def usual_interrupt() -> Iterator[None]:
    """As in a terminal: where the tests run in the background of a script, the shell has interruptions ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupt")
def test_signals_become_a_question_and_then_do_as_usual() -> None:
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with stop_on_signal() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with stop_on_signal() as stop:
        assert not stop()
    assert {number: signal.getsignal(number) for number in usual} == usual


def start(out: Path, data: str, *more: str) -> subprocess.Popen[str]:
    settings = [text for key, value in LONG.items() for text in ("--set", f"{key}={value}")]
    command = [str(Path(sys.executable).with_name("hardy")), "train", "compact", "--out", str(out), "--data", data]
    return subprocess.Popen(
        [*command, *settings, *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_change(path: Path, process: subprocess.Popen[str], before: float = 0.0) -> float:
    """Until a file is written anew; returns when that was."""
    for _ in range(6000):
        assert process.poll() is None, process.communicate()
        if path.exists() and (changed := path.stat().st_mtime) > before:
            return changed
        time.sleep(0.01)
    raise AssertionError(f"{path} has not changed in a minute")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: str) -> Run:
    return train(LONG_RECIPE, tmp_path_factory.mktemp("undisturbed"), data=data)


def check_resumes_as_if_undisturbed(out: Path, data: str, undisturbed: Run) -> None:
    resumed = train(LONG_RECIPE, out, data=data, resume=True)
    assert resumed.weights.read_bytes() == undisturbed.weights.read_bytes()
    assert resumed.manifest["weights_sha256"] == sha256_of(resumed.weights)
    assert resumed.manifest["training"]["networks"] == undisturbed.manifest["training"]["networks"]
    assert names(out) == [MANIFEST, "weights.safetensors"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_stops_the_command_at_a_checkpoint(
    tmp_path: Path, data: str, undisturbed: Run, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    process = start(out, data)
    wait_for_change(out / "checkpoints" / "0.safetensors", process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert "stopped at step" in errors
    assert "go on with --resume" in errors
    assert names(out) == ["checkpoints", MANIFEST]
    assert names(out / "checkpoints") == ["0.safetensors"]
    check_resumes_as_if_undisturbed(out, data, undisturbed)


def test_who_asks_twice_or_early_gets_one_line_and_no_trace(tmp_path: Path, data: str) -> None:
    """Twice while it trains, and once before it has loaded its data."""
    for name, place, signals in (
        ("twice", "checkpoints/0.safetensors", (signal.SIGINT, signal.SIGINT, signal.SIGTERM)),
        ("early", ".lock", (signal.SIGTERM,)),
    ):
        out = tmp_path / name
        process = start(out, data)
        wait_for_change(out / place, process)
        for number in signals:
            process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (1, "")
        assert errors.splitlines()[-1].startswith("hardy: stopped")
        assert "Traceback" not in errors
        assert ".lock" not in names(out) if out.exists() else True


@pytest.mark.slow
def test_kills_change_nothing(tmp_path: Path, data: str, undisturbed: Run) -> None:
    out, changed = tmp_path / "run", 0.0
    for attempt in range(3):
        process = start(out, data, *(["--resume"] if attempt else []))
        changed = wait_for_change(out / "checkpoints" / "0.safetensors", process, changed)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    check_resumes_as_if_undisturbed(out, data, undisturbed)
