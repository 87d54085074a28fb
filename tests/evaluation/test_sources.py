"""One's own images in an evaluation: what is measured on, fitted on, and told from the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cheap import make_budgets_tiny
from helpers.shapes import STRANGE, write_shapes
from torch import nn

from hardy.errors import DataError, UsageError
from hardy.evaluation.evaluate import evaluate, load_results
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.sources import sources_of
from hardy.evaluation.subject import Subject
from hardy.runs import Run

SHAPE = (3, 12, 10)


def classifier(classes: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), classes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("own"), 20)


def measured(folder: Path, out: Path, **settings: object) -> Scorecard:
    with pytest.MonkeyPatch.context() as patch:
        make_budgets_tiny(patch)
        return evaluate(classifier(), out=out, progress=False, device="cpu", **settings)  # type: ignore[arg-type]


PROPERTIES = ("calibration", "conformal", "error_detection", "out_of_distribution")


def test_a_test_only_folder_is_fitted_on_a_share_and_told_from_named_sets(folder: Path, tmp_path: Path) -> None:
    data = f"{folder / 'shapes'}?resize=10x12&validation=0.4"
    ood = [f"far:scribbles={folder / STRANGE}", str(folder / "unseen.npy")]
    card = measured(folder, tmp_path / "run", data=data, ood=ood, properties=PROPERTIES)
    assert card.find("calibration", "ece", calibrator="temperature").n == 36
    assert card.find("conformal", "coverage").dataset == f"{data}/test"
    for name in ("scribbles", "unseen"):
        found = card.find("out_of_distribution", "auroc", dataset=name, score="max_softmax")
        assert found.n > 36
        card.find("out_of_distribution", "detection_accuracy", dataset=name, score="max_softmax", accepted=0.95)
        assert name in card.environment.data
    far = card.find("out_of_distribution", "mean_auroc", distance="far", score="max_softmax")
    assert far.value == card.find("out_of_distribution", "auroc", dataset="scribbles", score="max_softmax").value
    assert any("notes.txt" in warning for warning in card.warnings)
    # And a report can be made again from what is stored.
    _, results = load_results(Run.open(tmp_path / "run"))
    assert len(results.dataset("scribbles")) == 8
    assert results.dataset(results.context.dataset).classes == ("circle", "square", "triangle")


def test_a_folder_for_validation_is_taken_whole_and_counted_by_name(folder: Path) -> None:
    few = write_shapes(folder / "few", 4, kinds=("triangle",), seed=3) / "shapes"
    sources = sources_of(folder / "shapes", validation=few, resize="10x12")
    assert sources.validation == f"{few}?resize=10x12/test"
    from dataclasses import replace

    named = replace(sources, classes=("circle", "square", "triangle"), known={})
    assert named(named.validation or "").labels.tolist() == [2] * 4
    with pytest.raises(DataError, match="has the class 'triangle', which the classifier does not know; it knows a, b"):
        replace(sources, classes=("a", "b"), known={})(named.validation or "")


def test_a_run_is_measured_on_the_images_set_apart_of_its_own(folder: Path) -> None:
    data = f"{folder / 'shapes'}?resize=10x12&test=0.2"
    trained = Subject("it", classifier(), "", "", {"data": data})
    assert trained.data() == trained.data(str(folder / "shapes")) == trained.data(folder / "shapes") == data
    assert trained.data("mnist") == "mnist"
    assert Subject("it", classifier(), "", "").data() == "mnist"


def test_images_of_another_size_are_named_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.zeros((5, 4, 4, 3), np.uint8))
    one_size = tmp_path / "one.npz"
    np.savez(one_size, images=np.zeros((9, *SHAPE), np.uint8), labels=np.arange(9) % 3)
    with pytest.raises(DataError, match=r"small \(.*small\.npy.*--resize 10x12"):
        measured(folder, tmp_path / "run", data=one_size, ood=[str(tmp_path / "small.npy")], properties=["accuracy"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "mnist", "resize": "8x8"}, "'mnist' is read as it is; resize"),
        ({"data": "mnits"}, "did you mean mnist"),
        ({"data": "mnist", "ood": ["nowhere/at/all"]}, "nor is there a file or folder 'nowhere/at/all'"),
        ({"data": (torch.rand(4, 1, 4, 4), torch.arange(4)), "validation_share": "0.2"}, "hand in validation images"),
    ],
)
def test_what_is_wrong_is_named(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        sources_of(**settings)  # type: ignore[arg-type]


def test_two_sets_of_one_name_are_refused(folder: Path) -> None:
    twice = [str(folder / STRANGE), str(folder / STRANGE)]
    with pytest.raises(UsageError, match="two datasets are called 'strange'; name one of them"):
        sources_of(folder / "shapes", ood=twice, resize="10x12")


@pytest.mark.parametrize("count", [1, 3])
def test_tiny_folders_are_measured(folder: Path, count: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3 * count, *SHAPE), dtype=np.uint8)
    np.savez(tmp_path / "tiny.npz", images=images, labels=np.arange(3 * count) % 3)
    data = f"{tmp_path / 'tiny.npz'}?validation=0.4"
    card = measured(folder, tmp_path / "run", data=data, properties=("accuracy", *PROPERTIES))
    assert card["accuracy"].n == {1: 2, 3: 5}[count]
