"""Comparisons: paired where two runs measured the same examples, and silent where there is no difference to tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.classifiers import Linear, write_tiny_data
from torch import Tensor, nn

from hardy.data import load_dataset
from hardy.errors import RunError
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.compare import compare_runs
from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.subject import Subject
from hardy.models.weights import weights_sha256
from hardy.report import comparison_markdown, comparison_rows, write_comparison_html
from hardy.report.compare import Comparison, Entry

BUDGET = replace(BUDGETS["standard"], resamples=200)


def thirds(*, confused: float, sharpness: float = 12.0) -> Linear:
    """Takes the brightest third of a tiny image, but leans towards the first class by ``confused``."""
    weight = torch.zeros(3, 8, 8)
    for label in range(3):
        weight[label, 3 * label : 3 * label + 2] = 1 / 16
    return Linear(sharpness * weight.reshape(3, 64), sharpness * torch.tensor([confused, 0.0, 0.0]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of evaluations on the tiny data: of two classifiers, one of them twice, and once with fewer examples."""
    folder = tmp_path_factory.mktemp("comparison")
    data = str(write_tiny_data(folder))

    def measure(name: str, classifier: nn.Module, limit: int | None = None) -> None:
        subject = Subject(name, classifier, "linear", weights_sha256(classifier))
        evaluate(subject, data, out=folder / name, budget=BUDGET, limit=limit, device="cpu", properties=PROPERTIES)

    measure("first", thirds(confused=0.25))
    measure("again", thirds(confused=0.25))
    measure("worse", thirds(confused=0.32))
    measure("fewer", thirds(confused=0.25), limit=40)
    return folder


PROPERTIES = ["accuracy", "calibration", "error_detection"]


def entry(comparison: Comparison, metric: str, run: int = 1) -> Entry:
    rows = [row for row in comparison_rows(comparison) if row.figure.estimate.metric == metric]
    found = rows[0].entries[run]
    assert found is not None
    return found


def test_a_run_is_no_different_from_itself(runs: Path) -> None:
    comparison = compare_runs([runs / "first", runs / "again"])
    assert comparison.names == ("first", "again")
    compared = [row.entries[1] for row in comparison_rows(comparison) if row.entries[1] and row.entries[1].difference]
    assert len(compared) > 10
    for found in compared:
        assert found.paired
        assert found.verdict == ""
        if found.difference_interval != "no interval":
            low, high = interval(found)
            assert low <= 0 <= high
    # That two runs agree on these examples does not mean that they agree on all: the interval has a width.
    low, high = interval(entry(comparison, "accuracy"))
    assert low < 0 < high


def test_the_first_run_is_compared_with_nothing(runs: Path) -> None:
    comparison = compare_runs([runs / "first", runs / "worse"])
    assert {row.entries[0].difference for row in comparison_rows(comparison) if row.entries[0]} == {""}


def interval(found: Entry) -> tuple[float, float]:
    low, high = (float(end.replace("−", "-")) for end in found.difference_interval.split(" to "))
    return low, high


def test_the_difference_of_two_accuracies_is_that_of_their_hits(runs: Path) -> None:
    test = load_dataset(str(runs / "tiny.npz"))
    with torch.no_grad():
        hits = [
            (thirds(confused=confused)(test.floats()).argmax(1) == test.labels).double() for confused in (0.25, 0.32)
        ]
    change = (hits[1] - hits[0]).numpy()
    assert change.any()
    found = entry(compare_runs([runs / "first", runs / "worse"]), "accuracy")
    assert float(found.difference.removesuffix(" points").replace("−", "-")) == pytest.approx(
        100 * change.mean(), abs=1
    )
    low, high = interval(found)
    # Pairing leaves only the spread of the examples whose verdict differs.
    half = 100 * 1.96 * change.std() / np.sqrt(len(change))
    assert (high - low) / 2 == pytest.approx(half, rel=0.3)
    assert found.verdict == "worse"


def test_runs_over_other_examples_are_not_paired(runs: Path) -> None:
    comparison = compare_runs([runs / "first", runs / "again", runs / "fewer"])
    paired, unpaired = entry(comparison, "accuracy", 1), entry(comparison, "accuracy", 2)
    assert paired.paired
    assert not unpaired.paired
    low, high = interval(unpaired)
    assert low < 0 < high
    assert unpaired.verdict == ""
    assert "†" in comparison_markdown(comparison)


def test_other_images_under_the_same_name_are_not_paired(runs: Path, tmp_path: Path) -> None:
    manifest = json.loads((runs / "again" / "run.json").read_text())
    data = manifest["evaluation"]["data"]
    manifest["evaluation"]["data"] = dict.fromkeys(data, "0" * 64)
    other = tmp_path / "other"
    other.mkdir()
    for file in (runs / "again").iterdir():
        (other / file.name).symlink_to(file)
    (other / "run.json").unlink()
    (other / "run.json").write_text(json.dumps(manifest))
    assert not entry(compare_runs([runs / "first", other]), "accuracy").paired


@pytest.mark.parametrize("metric", ["ece", "max_calibration_error", "calibration_p_value"])
def test_a_figure_without_an_interval_is_not_said_to_differ(runs: Path, metric: str) -> None:
    found = entry(compare_runs([runs / "first", runs / "worse"]), metric)
    assert (found.difference_interval, found.verdict) == ("no interval", "")


class WrongOnce(nn.Module):
    """Right on every tiny image but one of them."""

    image: Tensor

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.inner = thirds(confused=0.0)
        self.register_buffer("image", image)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.inner(images)
        seen = (images == self.image).flatten(1).all(1)
        return torch.where(seen[:, None], -0.1 * logits, logits)


def test_a_difference_that_most_resamples_do_not_have_is_left_out(runs: Path, tmp_path: Path) -> None:
    """One mistake each, on different images: each has an AUROC on 63 % of the resamples, both on 40 %."""
    data = str(runs / "tiny.npz")
    test = load_dataset(data)
    for number in range(2):
        classifier = WrongOnce(test.floats(slice(number, number + 1)))
        subject = Subject("wrong", classifier, "wrong", weights_sha256(classifier))
        settings = {"device": "cpu", "budget": "standard", "properties": ["error_detection"]}
        scorecard = evaluate(subject, data, out=tmp_path / f"{number}", **settings)
        assert scorecard.find("error_detection", "auroc").value > 0.5
    comparison = compare_runs([tmp_path / "0", tmp_path / "1"])
    assert entry(comparison, "auroc").difference == ""
    assert entry(comparison, "aurc").difference != ""
    assert "nan" not in comparison_markdown(comparison)


def test_runs_of_one_name_are_told_apart_by_their_paths(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(runs / "again")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "again").symlink_to(runs / "again")
    paths = [runs / "again", tmp_path / "elsewhere" / "again"]
    assert compare_runs(paths).names == tuple(map(str, paths))


def test_the_page_is_written(runs: Path, tmp_path: Path) -> None:
    write_comparison_html(tmp_path / "compare.html", compare_runs([runs / "first", runs / "worse", runs / "fewer"]))
    assert "worse" in (tmp_path / "compare.html").read_text()


def test_a_run_without_an_evaluation_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is no run"):
        compare_runs([runs / "first", tmp_path / "nowhere"])
    (tmp_path / "run.json").write_text('{"schema": 2}')
    with pytest.raises(RunError, match="no scorecard at"):
        compare_runs([runs / "first", tmp_path])
    (tmp_path / "scorecard.json").write_bytes((runs / "first" / "scorecard.json").read_bytes())
    with pytest.raises(RunError, match="holds no evaluation"):
        compare_runs([runs / "first", tmp_path])
