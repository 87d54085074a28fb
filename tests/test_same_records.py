"""The script that compares two evaluations: it pairs what was renamed, and sees what differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "same_records.py"
SCORED = {"low": 0.1, "high": 0.9, "n": 4, "higher_is_better": True, "headline": False}


def write_run(folder: Path, frames: dict[str, pl.DataFrame], estimates: list[dict[str, Any]], key: str) -> Path:
    (folder / "records").mkdir(parents=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / "records" / f"{name}.parquet")
    (folder / "run.json").write_text("{}")
    (folder / "scorecard.json").write_text(json.dumps({key: [SCORED | it for it in estimates]}))
    return folder


def old(folder: Path) -> Path:
    attack = pl.DataFrame({"index": [0, 1, 2, 3], "norm": [0.0, 0.2, np.inf, np.nan]})
    predict = pl.DataFrame({"index": [3, 1, 2, 0], "logits": np.arange(8, dtype=np.float32).reshape(4, 2)})
    estimates = [
        {"property": "accuracy", "metric": "accuracy", "dataset": "mnist/held-out", "setting": {}, "value": 0.5},
        {
            "property": "adversarial",
            "metric": "robust_accuracy",
            "dataset": "mnist/test",
            "setting": {"held_out": "mnist/held-out"},
            "value": 0.25,
        },
    ]
    frames = {"attack_0.3-0123456789": attack, "predict_mnist_held_out-0123456789": predict}
    return write_run(folder, frames, estimates, "metrics")


def new(folder: Path, *, norm: float = 0.2, value: float = 0.25, column: str = "min_norm") -> Path:
    attack = pl.DataFrame({"index": [0, 1, 2, 3], column: [0.0, norm, np.inf, -np.nan]})
    logits = np.arange(8, dtype=np.float32).reshape(4, 2)[[3, 1, 2, 0]]
    predict = pl.DataFrame({"index": [0, 1, 2, 3], "logits": logits})
    estimates = [
        {"property": "accuracy", "metric": "accuracy", "dataset": "mnist/validation", "setting": {}, "value": 0.5},
        {
            "property": "adversarial",
            "metric": "robust_accuracy",
            "dataset": "mnist/test",
            "setting": {"fitted_on": "mnist/validation"},
            "value": value,
        },
    ]
    frames = {"attack_0.3-9876543210": attack, "predict_mnist_validation-0123456789": predict}
    return write_run(folder, frames, estimates, "estimates")


def compare(before: Path, after: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(before), str(after)], capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("column", ["min_norm", "distance"])
def test_what_was_only_renamed_is_equal(tmp_path: Path, column: str) -> None:
    status, said = compare(old(tmp_path / "old"), new(tmp_path / "new", column=column))
    assert status == 0, said
    assert "measurements: 2 of 2 equal" in said
    assert "estimates: 2 of 2 equal" in said
    assert ("min_norm -> distance" in said) == (column == "distance")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": 0.20000001}, "attack_0.3: min_norm differ"),
        ({"value": 0.26}, "value 0.25 -> 0.26"),
    ],
)
def test_what_differs_is_shown(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    status, printed = compare(old(tmp_path / "old"), new(tmp_path / "new", **changes))
    assert status == 1
    assert said in printed
    assert "1 differ" in printed


def test_what_is_missing_is_a_difference_and_what_is_new_is_none(tmp_path: Path) -> None:
    more = old(tmp_path / "more")
    less = old(tmp_path / "less")
    next((less / "records").glob("predict*")).unlink()
    assert compare(more, less)[0] == 1
    assert compare(less, more)[0] == 0
