from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hardy.cli.data import app
from hardy.data import DATASETS
from hardy.errors import HardyError, UsageError

MNIST = DATASETS["mnist"].folders[0]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HARDY_DATA", raising=False)


def test_list_shows_every_dataset_and_where_it_is():
    result = CliRunner().invoke(app, ["list"], catch_exceptions=False)
    assert result.exit_code == 0
    for entry in DATASETS.values():
        assert entry.name in result.stdout
    assert "hardy data fetch kmnist" in " ".join(result.stdout.split())


def test_list_as_json(tmp_path: Path):
    (tmp_path / "mnist_c" / "fog").mkdir(parents=True)
    for name in ("test_images.npy", "test_labels.npy"):
        (tmp_path / "mnist_c" / "fog" / name).touch()
    result = CliRunner().invoke(app, ["list", "--json", "--data-dir", str(tmp_path)], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows.keys() == DATASETS.keys()
    assert rows["mnist"]["at_hand"] is True
    assert rows["mnist"]["where"] == [str(MNIST)]
    assert rows["mnist"]["splits"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert rows["kmnist"]["at_hand"] is False
    assert rows["mnist-c"]["at_hand"] is False
    assert rows["mnist-c"]["reason"].startswith("only fog; the rest is not at hand")


def test_verify_hashes_what_is_at_hand(tmp_path: Path):
    result = CliRunner().invoke(app, ["verify"], catch_exceptions=False)
    lines = [line.split() for line in result.stdout.splitlines() if str(MNIST) in line]
    assert [(state, sha256) for state, sha256, _ in lines] == [
        ("verified", file.sha256) for file in DATASETS["mnist"].files
    ]


def test_verify_reports_what_is_broken_and_fails(tmp_path: Path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in MNIST.glob("*.xz"):
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-1] if path.name.startswith("t10k-labels") else content)
    result = CliRunner().invoke(app, ["verify", "mnist", "--data-dir", str(tmp_path)])
    assert isinstance(result.exception, HardyError)
    assert result.exception.exit_status == 1
    assert result.stdout.count("verified") == 3
    assert f"broken    {folder / 't10k-labels-idx1-ubyte.xz'}" in result.stdout


def test_verify_of_what_is_not_at_hand_is_an_error():
    result = CliRunner().invoke(app, ["verify", "kmnist"])
    assert isinstance(result.exception, UsageError)


def test_fetch_of_what_is_at_hand_or_generated_needs_no_network():
    result = CliRunner().invoke(app, ["fetch", "mnist", "glyphs"], catch_exceptions=False)
    assert result.stdout.splitlines() == ["mnist: already at hand", "glyphs: generated, nothing to download"]


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_mistyped_name_is_answered_with_the_nearest(command: str):
    result = CliRunner().invoke(app, [command, "kmnits"])
    assert isinstance(result.exception, UsageError)
    assert "did you mean kmnist" in str(result.exception)
