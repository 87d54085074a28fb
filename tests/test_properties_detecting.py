"""The measure of detection: what it fits, what it does not see, and what its figures mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest
import torch
from classifiers import Linear, small_classifier

from hardy.datasets import Dataset, load_dataset
from hardy.detection import DETECTORS
from hardy.models import Ensemble
from hardy.properties import PROPERTIES, Cell, Evidence, Plan, Shard, detecting
from hardy.properties.detecting import MADE, _moved, detect_cell, measure_detect
from hardy.properties.framework import Columns
from hardy.records import frame

SIZES = {"mnist/test": 10_000, "mnist/held-out": 5_000, "glyphs/test": 1_980, "digits/test": 1_797}


def plan_of(budget: str = "quick", held_out: str | None = "mnist/held-out") -> Plan:
    return Plan("mnist/test", held_out, ("glyphs/test",), {}, SIZES, 10, budget, 60, shift=("digits/test",))  # type: ignore[arg-type]


def shard_of(cell: Cell, dataset: Callable[[str], Dataset] = load_dataset) -> Shard:
    source = load_dataset(cell.dataset)
    chosen = source.measuring_order()[: cell.examples]
    return Shard(source.floats(chosen), source.labels[chosen], chosen, dataset)


def measured(model: torch.nn.Module, cell: Cell, shard: Shard | None = None, batch_size: int = 500) -> Columns:
    return measure_detect(model.eval(), shard or shard_of(cell), cell, seed=0, batch_size=batch_size)


@pytest.fixture(scope="module", autouse=True)
def fewer() -> Iterator[None]:
    """Fewer images to fit on than the quick budget takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(detecting.SIZES, "quick", detecting.SIZES["quick"]._replace(training=600, fitting=60))
        yield


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return small_classifier().eval()


@pytest.fixture(scope="module")
def seen() -> list[str]:
    return []


@pytest.fixture(scope="module")
def evidence(seen: list[str]) -> Evidence:
    model = small_classifier().eval()

    def watched(name: str) -> Dataset:
        seen.append(name)
        return load_dataset(name)

    plan = plan_of()
    records: dict[Cell, pl.DataFrame] = {}
    for cell in PROPERTIES["out_of_distribution"].plan(plan).cells:
        shard = shard_of(cell, watched)
        records[cell] = frame(shard.indices.numpy(), shard.labels.numpy(), measured(model, cell, shard))
    return Evidence(plan, records, load_dataset, 0)


def test_every_score_that_the_classifier_allows_is_a_column(evidence: Evidence) -> None:
    single = {name for name, method in DETECTORS.items() if method.needs != "members"}
    for records in evidence.records.values():
        assert set(records.columns) == {"index", "label", "logits"} | single


def test_fitting_sees_training_and_held_out_images_alone(evidence: Evidence, seen: list[str]) -> None:
    assert len(evidence.records) > 5
    assert set(seen) == {"mnist/train", "mnist/held-out"}


def test_fitting_happens_once_a_classifier(evidence: Evidence, seen: list[str]) -> None:
    assert len(evidence.records) > 5
    assert len(seen) == 2


def test_thresholds_are_not_set_on_images_that_something_was_fitted_on() -> None:
    held_out = load_dataset("mnist/held-out").measuring_order()
    plan = Plan("mnist/test", "mnist/held-out", (), {}, SIZES, 10, "full")
    (cell,) = [it for it in PROPERTIES["out_of_distribution"].plan(plan).cells if it.dataset == "mnist/held-out"]
    fitted = held_out[len(held_out) // 2 :][-int(cell.settings["fitting"]) :]
    assert not set(fitted.tolist()) & set(held_out[: cell.examples].tolist())


def test_columns_do_not_depend_on_the_batch_size_or_on_the_shard(model: torch.nn.Module) -> None:
    cell = detect_cell(plan_of(), "mnist/test", 30, made="half")
    whole, small = measured(model, cell), measured(model, cell, batch_size=7)
    shard = shard_of(cell)
    part = measured(model, cell, Shard(shard.images[10:20], shard.labels[10:20], shard.indices[10:20]))
    for name, values in whole.items():
        assert small[name] == pytest.approx(values, rel=1e-3, abs=1e-3), name
        assert part[name] == pytest.approx(values[10:20], rel=1e-3, abs=1e-3), name


def test_without_held_out_images_nothing_is_fitted(model: torch.nn.Module) -> None:
    def nothing(name: str) -> Dataset:
        raise AssertionError(name)

    cell = detect_cell(plan_of(held_out=None), "mnist/test", 10)
    columns = measured(model, cell, shard_of(cell, nothing))
    assert "energy" in columns
    assert "vim" not in columns


def test_a_classifier_without_a_head_has_the_other_scores_and_a_warning() -> None:
    plan = plan_of()
    linear = Linear(torch.randn(10, 784, generator=torch.Generator().manual_seed(0)), torch.zeros(10))
    cells = PROPERTIES["out_of_distribution"].plan(plan).cells
    records = {}
    for cell in cells:
        shard = shard_of(cell)
        records[cell] = frame(shard.indices.numpy(), shard.labels.numpy(), measured(linear, cell, shard))
    columns = records[cells[0]].columns
    assert "kl_matching" in columns
    assert "combination" in columns
    assert not {"vim", "layers", "mutual_information"} & set(columns)
    found = Evidence(plan, records, load_dataset, 0)
    assert "penultimate" in PROPERTIES["out_of_distribution"].warnings(found)[0]
    assert any(it.headline for it in PROPERTIES["out_of_distribution"].statistics(found))


def test_an_ensemble_has_its_members_disagreement() -> None:
    ensemble = Ensemble([small_classifier(), small_classifier()]).eval()
    columns = measured(ensemble, detect_cell(plan_of(), "mnist/test", 10))
    assert columns["mutual_information"] == pytest.approx(np.zeros(10), abs=1e-6)
    assert {"vim", "vim_per_member"} <= columns.keys()


def figures(evidence: Evidence, metric: str, **setting: object) -> dict[str, float]:
    return {
        f"{it.dataset} {it.setting.get('made', '')}".strip(): it.compute(np.ones(it.n))
        for it in PROPERTIES["out_of_distribution"].statistics(evidence)
        if it.metric == metric and setting.items() <= dict(it.setting).items()
    }


def test_foreign_inputs_stand_out(evidence: Evidence) -> None:
    found = figures(evidence, "auroc", score="layers")
    assert found.keys() == {"glyphs/test", *(f"mnist/test {made}" for made in MADE)}
    assert min(found[f"mnist/test {made}"] for made in ("uniform_noise", "gaussian_noise", "inverted")) > 0.99


def test_refusals_are_counted_above_the_held_out_quantile(evidence: Evidence) -> None:
    records = {cell.dataset: it for cell, it in evidence.records.items() if not cell.settings["made"]}
    held_out = np.sort(records["mnist/held-out"]["energy"].to_numpy())
    found = figures(evidence, "refused_share", score="energy", accepted=0.95)
    assert found.keys() == {"mnist/test", "digits/test"}
    # 60 images, of which 57 are 95 %: of what is refused, the threshold is the largest that is not.
    assert found["mnist/test"] == (records["mnist/test"]["energy"].to_numpy() > held_out[57]).mean()
    accepted = (records["mnist/test"]["energy"].to_numpy() <= held_out[57]).mean()
    caught = (records["glyphs/test"]["energy"].to_numpy() > held_out[57]).mean()
    accuracy = figures(evidence, "detection_accuracy", score="energy", accepted=0.95)["glyphs/test"]
    assert accuracy == pytest.approx((accepted + caught) / 2)


def test_moved_images_stay_in_the_ball_and_are_answered_more_surely(model: torch.nn.Module) -> None:
    images = load_dataset("glyphs/test").floats(slice(0, 20))
    moved = _moved(model, images, 0.3)
    assert (moved - images).abs().max() <= 0.3 + 1e-5
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    with torch.no_grad():
        before, after = (model(it).softmax(1).max(1).values for it in (images, moved))
    assert (after >= before - 1e-6).all()
    assert after.mean() > before.mean()


def test_moved_images_and_odin_are_planned_beyond_the_quick_budget() -> None:
    for budget, expected in (("quick", False), ("standard", True), ("full", True)):
        cells = PROPERTIES["out_of_distribution"].plan(plan_of(budget)).cells
        assert any(cell.settings["moved"] == 0.3 for cell in cells) is expected
        assert {cell.settings["odin"] for cell in cells} == {expected}


def test_half_an_image_is_half_of_its_pixels() -> None:
    cell = detect_cell(plan_of(), "mnist/test", 40)
    shard = shard_of(cell)
    images = torch.ones_like(shard.images)
    halves = MADE["half"](images, shard.rng(0, "made"))
    assert halves.mean((1, 2, 3)) == pytest.approx(np.full(40, 0.5))
    assert len(halves.flatten(1).unique(dim=0)) == 4
