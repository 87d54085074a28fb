"""From files to answers, by the command line and from Python: the good ones are answered whatever the others are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.bundles import measure_little, write_small_bundle, write_small_run
from PIL import Image

from hardy.cli.main import main
from hardy.data import load_dataset
from hardy.data.image_files import read_gray_images
from hardy.deployment import load_bundle
from hardy.errors import DataError, UsageError
from hardy.training import Recipe


class Called(NamedTuple):
    status: int
    out: str
    err: str


Hardy = Callable[..., Called]


@pytest.fixture
def hardy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hardy:
    monkeypatch.setenv("COLUMNS", "400")

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick: Recipe) -> Path:
    return write_small_run(tmp_path_factory.mktemp("prediction"), quick)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("made"), run)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 (20, 28, 28), of mnist/test."""
    return load_dataset("mnist/test").images[:20, 0].numpy()


@pytest.fixture
def files(tmp_path: Path, digits: np.ndarray) -> list[Path]:
    """A digit as PNG, a broken file, two digits as NPY, a digit as JPEG, dark on light, and a blank page."""
    paths = [tmp_path / name for name in ("one.png", "broken.png", "two.npy", "[red]three.jpg", "blank.png")]
    Image.fromarray(digits[0]).save(paths[0])
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n")
    np.save(paths[2], digits[1:3])
    large = Image.fromarray(255 - digits[3]).resize((112, 112), Image.Resampling.BICUBIC)
    page = Image.new("L", (160, 200), 255)
    page.paste(large, (30, 60))
    page.save(paths[3], quality=95)
    Image.new("RGB", (64, 64), "white").save(paths[4])
    return paths


def test_every_picture_is_answered_in_its_place(made: Path, files: list[Path]) -> None:
    answers = load_bundle(made).predict(files)
    names = [str(files[0]), str(files[1]), f"{files[2]}[0]", f"{files[2]}[1]", str(files[3]), str(files[4])]
    assert [answer.image for answer in answers] == names
    assert [answer.error is not None for answer in answers] == [False, True, False, False, False, False]
    assert "broken.png" in str(answers[1].error)
    labels = load_dataset("mnist/test").labels[:3].tolist()
    assert [answers[place].best for place in (0, 2, 3)] == [str(label) for label in labels]
    assert answers[5].answer is None
    assert answers[5].rules[0] == "no_foreground"


def test_one_picture_gets_the_same_answer_in_any_file(made: Path, files: list[Path], tmp_path: Path) -> None:
    bundle = load_bundle(made)
    np.save(tmp_path / "again.npy", np.asarray(Image.open(files[0])))
    first, again = (bundle.predict([path])[0] for path in (files[0], tmp_path / "again.npy"))
    assert first.ood_score == pytest.approx(again.ood_score, rel=1e-5)
    assert (first.answer, first.prediction_set) == (again.answer, again.prediction_set)


def test_one_path_has_one_answer(made: Path, files: list[Path], tmp_path: Path) -> None:
    bundle = load_bundle(str(made))
    assert bundle.predict(str(files[0])) == bundle.predict([files[0]])[0]
    with pytest.raises(DataError, match=r"broken\.png"):
        bundle.predict(files[1])
    np.save(tmp_path / "two.npy", np.zeros((2, 28, 28), np.uint8))
    with pytest.raises(DataError, match=r"two\.npy holds several images; pass a list of paths"):
        bundle.predict(tmp_path / "two.npy")


def test_many_pictures_are_answered_a_few_at_a_time_in_order(
    hardy: Hardy, made: Path, tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "many.npz", images=digits)
    Image.fromarray(digits[0]).resize((40, 40)).save(tmp_path / "large.png")
    files = [tmp_path / "many.npz", tmp_path / "large.png", tmp_path / "absent.png"]
    bundle = load_bundle(made)
    at_once = bundle.predict(files)
    monkeypatch.setattr("hardy.deployment.predict.AT_ONCE", 3)
    assert [answer.image for answer in at_once] == [*(f"{files[0]}[{row}]" for row in range(20)), *map(str, files[1:])]
    for one, other in zip(bundle.predictions(files), at_once, strict=True):
        assert (one.image, one.best, one.rules, one.error) == (other.image, other.best, other.rules, other.error)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
    called = hardy("predict", made, files[0], "--limit", 19)
    assert (called.status, called.out) == (2, "")
    assert "holds 20 images; at most 19 are read of one file, as --limit says" in called.err


def test_what_the_network_saw_is_saved(made: Path, files: list[Path], tmp_path: Path, digits: np.ndarray) -> None:
    answers = load_bundle(made).predict(files, save_input=tmp_path / "seen")
    assert answers[1].saved is None
    for answer in answers:
        if not answer.error:
            assert answer.saved is not None
            assert next(read_gray_images(Path(answer.saved))).gray.shape == (28, 28)
    assert np.array_equal(np.asarray(Image.open(str(answers[0].saved))), digits[0])
    assert "two" in Path(str(answers[2].saved)).name


def test_the_polarity_can_be_named(made: Path, files: list[Path]) -> None:
    bundle = load_bundle(made)
    assert bundle.predict(files[3:4], polarity="light")[0].rules[0] == "no_foreground"
    assert "no_foreground" not in bundle.predict(files[3:4], polarity="dark")[0].rules
    with pytest.raises(UsageError, match="unknown polarity 'drak'; did you mean dark"):
        bundle.predict(files, polarity="drak")


def test_json_is_one_line_a_picture(hardy: Hardy, made: Path, files: list[Path]) -> None:
    called = hardy("predict", made, *files, "--json")
    assert called.status == 2
    lines = [json.loads(line) for line in called.out.splitlines()]
    assert len(lines) == 6
    assert set(lines[1]) == {"image", "error"}
    for line in [lines[0], *lines[2:]]:
        assert line["abstained"] == (line["answer"] is None) == bool(line["rules"])
        assert line["answer"] in (None, line["best"])
    for line in [lines[0], *lines[2:5]]:
        assert 0 < line["confidence"] <= 1
        assert 0 <= line["ood_score_percentile"] <= 100
        assert set(line["prediction_set"]) <= set("0123456789")
    assert lines[5]["rules"] == ["no_foreground"]
    assert [lines[5][key] for key in ("best", "confidence", "ood_score", "ood_score_percentile")] == 4 * [None]
    assert lines[5]["prediction_set"] == []


def test_the_table_shows_answers_and_reasons_and_the_errors_go_elsewhere(
    hardy: Hardy, made: Path, files: list[Path]
) -> None:
    called = hardy("predict", made, *files)
    assert called.status == 2
    assert "[red]three.jpg" in re.sub(r"\s", "", called.out)
    assert "nothing stands out from the background" in called.out
    assert "broken.png" not in called.out
    assert called.err.startswith(f"hardy: {files[1]} ")


def test_a_pipe_gets_whole_names(made: Path, files: list[Path], tmp_path: Path) -> None:
    long = tmp_path / ("a-long-name" * 15 + ".png")
    long.write_bytes(files[0].read_bytes())
    call = [sys.executable, "-m", "hardy", "predict", str(made), str(long)]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "60"})
    assert str(long) in done.stdout
    assert all(len(line) < len(str(long)) + 200 for line in done.stdout.splitlines())


def test_without_errors_the_status_is_0_also_where_it_abstains(hardy: Hardy, made: Path, files: list[Path]) -> None:
    called = hardy("predict", made, files[0], files[4], "--json")
    assert (called.status, called.err) == (0, "")


def test_only_broken_files_are_all_told_of(hardy: Hardy, made: Path, tmp_path: Path) -> None:
    called = hardy("predict", made, tmp_path / "a.png", tmp_path / "b.png")
    assert (called.status, called.out) == (2, "")
    assert called.err.count("No such file") == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("predict", "Missing argument"),
        ("predict nowhere a.png", "nowhere is no folder"),
        ("predict TMP a.png", "is no bundle"),
        ("bundle", "Missing argument"),
        ("bundle nowhere --out TMP/out", "nowhere is no run of hardy"),
        ("bundle RUN --out TMP/out --detector vimm", "unknown detector of a bundle 'vimm'; did you mean vim"),
        ("bundle RUN --out TMP/out --target-refusal 2", "target refusal 2"),
        ("bundle RUN --out RUN", "choose another --out"),
    ],
)
def test_a_wrong_call_ends_with_status_2_and_writes_nothing(
    hardy: Hardy, run: Path, tmp_path: Path, call: str, message: str
) -> None:
    called = hardy(*call.replace("TMP", str(tmp_path)).replace("RUN", str(run)).split())
    assert (called.status, called.out) == (2, "")
    assert message in re.sub(r"\s+", " ", called.err)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_bundle_that_predicts(
    hardy: Hardy, run: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    written = hardy("bundle", run, "--out", tmp_path / "new", "--alpha", 0.1)
    assert written.status == 0
    assert "photos of blank paper: 100.0% refused" in written.out
    assert hardy("predict", tmp_path / "new", files[0]).status == 0


def test_predicting_loads_nothing_that_it_does_not_need(made: Path, files: list[Path]) -> None:
    program = (
        "import sys; from hardy.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*{'matplotlib', 'sklearn', 'polars', 'scipy.optimize', 'scipy.stats', 'jinja2'} & set(sys.modules),"
        " file=sys.stderr)"
    )
    call = [sys.executable, "-c", program, "predict", str(made), str(files[0]), "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["best"]
    assert done.stderr.strip() == ""
