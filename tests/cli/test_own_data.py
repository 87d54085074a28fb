"""One's own images and answers on the command line: from a folder to a scorecard, a bundle and an answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.bundles import measure_little
from helpers.cheap import make_budgets_tiny
from helpers.shapes import STRANGE, write_shapes

from hardy.cli.main import main
from hardy.evaluation.scorecard import Scorecard


class Called(NamedTuple):
    status: int
    out: str
    err: str


Hardy = Callable[..., Called]


@pytest.fixture
def hardy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hardy:
    """Call the command line in this process."""
    make_budgets_tiny(monkeypatch)
    measure_little(monkeypatch)

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["hardy", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Called(status, captured.out, captured.err)

    return call


SETTINGS = ('model_arguments={"width": 4}', "batch_size=16", "epochs=6", "learning_rate=0.03", "augmentation={}")


def test_a_folder_becomes_a_scorecard_a_bundle_and_an_answer(hardy: Hardy, tmp_path: Path) -> None:
    write_shapes(tmp_path, 60, side=16)
    run, photos, own = tmp_path / "run", tmp_path / "shapes", f"scribbles={tmp_path / STRANGE}"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    trained = hardy(
        "train", "compact", "--out", run, "--data", photos, "--resize", "16x16", "--test-share", "0.3", *settings
    )
    assert trained.status == 0, trained.err

    planned = hardy("evaluate", run, "--ood", own, "--dry-run", "--json", "--limit", 20)
    assert planned.status == 0, planned.err
    assert "scribbles" in json.loads(planned.out)["images"]
    assert "scorecard.json" not in {path.name for path in run.iterdir()}

    # Naming the folder means the images of it that were set apart.
    measured = hardy(
        "evaluate", run, "--data", photos, "--ood", own, "--limit", 20,
        *("--property", "accuracy", "--property", "conformal", "--property", "out_of_distribution"),
    )  # fmt: skip
    assert measured.status == 0, measured.err
    card = Scorecard.read(run / "scorecard.json")
    assert card["accuracy"].dataset == f"{photos}?resize=16x16&test=0.3/test"
    assert {it.dataset for it in card.estimates if it.metric == "auroc"} >= {"scribbles"}
    assert hardy("report", run).status == 0

    bundled = hardy("bundle", run, "--out", tmp_path / "bundle", "--ood", own)
    assert bundled.status == 0, bundled.err
    assert "scribbles: " in bundled.out
    answered = hardy("predict", tmp_path / "bundle", photos / "circle" / "000.png", "--json")
    assert json.loads(answered.out)["best"] in ("circle", "square", "triangle")


def test_answers_in_a_file_are_measured(hardy: Hardy, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    logits = rng.normal(size=(80, 2)) + 2 * np.eye(2)[labels]
    rows = [f"{('yes', 'no')[label]},{a},{b}" for label, (a, b) in zip(labels, logits, strict=True)]
    (tmp_path / "answers.csv").write_text("\n".join(["label,logit_yes,logit_no", *rows]) + "\n")
    called = hardy(
        "evaluate",
        "--logits",
        tmp_path / "answers.csv",
        "--validation-share",
        "0.5",
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert called.status == 0, called.err
    card = json.loads(called.out)
    assert card["properties"] == ["accuracy", "calibration", "conformal", "error_detection"]
    assert card["subject"]["classes"] == 2


WRONG = {
    "neither": (["evaluate"], "name a classifier, or with --logits"),
    "both": (["evaluate", "run", "--logits", "a.csv"], "and not both"),
    "images of answers": (["evaluate", "--logits", "a.csv", "--data", "photos"], "takes the place of"),
    "no such answers": (["evaluate", "--logits", "nowhere.csv", "--out", "run"], "nor is there a file or folder"),
    "no function": (["evaluate", "photos", "--probabilities", "--out", "run"], "package.module:function"),
    "size": (["train", "compact", "--out", "run", "--data", "photos", "--resize", "32"], "WIDTHxHEIGHT"),
    "share": (["train", "compact", "--out", "run", "--data", "photos", "--test-share", "20"], "between 0 and 1"),
    "mnist resized": (["train", "compact", "--out", "run", "--resize", "32x32"], "'mnist' is read as it is"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_call_is_explained_in_a_line(
    hardy: Hardy, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path, 2).joinpath("shapes").rename(tmp_path / "photos")
    before = {path.name for path in tmp_path.iterdir()}
    arguments, message = WRONG[kind]
    called = hardy(*arguments)
    assert (called.status, called.out) == (2, "")
    assert message in called.err
    assert len(called.err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before
