"""The measurement of OOD scores: what is fitted, on what, and what the figures mean."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from helpers.classifiers import Linear, small_classifier, write_tiny_data
from helpers.evaluations import records_of
from torch import nn

from hardy.data import Dataset, load_dataset
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Memo, Results, Shard
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.ood.measure import detect_measurement, measure_detect, perturbed, unsuspicious
from hardy.evaluation.records import frame
from hardy.evaluation.subject import Subject
from hardy.models import Ensemble
from hardy.models.weights import weights_sha256
from hardy.ood import DETECTORS, extract, fit_detector
from hardy.synthetic.transforms import TRANSFORMS
from hardy.threats import ThreatModel

SIZES = {"mnist/test": 10_000, "mnist/validation": 5_000, "glyphs/test": 1_980, "digits/test": 1_797}


def context_of(budget: str = "quick", validation: str | None = "mnist/validation") -> EvaluationContext:
    # Fewer images to fit on than the quick budget takes.
    spent = replace(BUDGETS[budget], detector_training=600, detector_validation=60)
    known = ("glyphs/test",), {}, SIZES, 10
    train = "mnist/train" if validation else None
    return EvaluationContext("mnist/test", validation, *known, spent, 60, shift=("digits/test",), train=train)


def shard_of(
    measurement: Measurement, dataset: Callable[[str], Dataset] = load_dataset, memo: Memo | None = None
) -> Shard:
    source = load_dataset(measurement.dataset)
    chosen = source.measuring_order()[: measurement.examples]
    return Shard(source.floats(chosen), source.labels[chosen], chosen, dataset, memo or Memo())


def measured(
    model: torch.nn.Module, measurement: Measurement, shard: Shard | None = None, batch_size: int = 500
) -> Columns:
    return measure_detect(model.eval(), shard or shard_of(measurement), measurement, seed=0, batch_size=batch_size)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return small_classifier().eval()


@pytest.fixture(scope="module")
def seen() -> list[str]:
    return []


@pytest.fixture(scope="module")
def results(seen: list[str]) -> Results:
    model = small_classifier().eval()

    def watched(name: str) -> Dataset:
        seen.append(name)
        return load_dataset(name)

    context, memo = context_of(), Memo()
    records: dict[Measurement, pl.DataFrame] = {}
    for measurement in PROPERTIES["out_of_distribution"].plan(context).measurements:
        shard = shard_of(measurement, watched, memo)
        records[measurement] = frame(shard.indices.numpy(), shard.labels.numpy(), measured(model, measurement, shard))
    return Results(context, records, load_dataset, 0)


def test_every_score_that_the_classifier_allows_is_a_column(results: Results) -> None:
    single = {name for name, it in DETECTORS.items() if it.needs not in ("members", "gradients") and not it.of_mistakes}
    for records in results.records.values():
        assert set(records.columns) == {"index", "label", "logits"} | single


def test_fitting_sees_training_and_validation_images_alone(results: Results, seen: list[str]) -> None:
    assert len(results.records) > 5
    assert set(seen) == {"mnist/train", "mnist/validation"}


def test_fitting_happens_once_per_evaluation(results: Results, seen: list[str]) -> None:
    assert len(results.records) > 5
    assert len(seen) == 2


def test_detectors_are_those_of_the_weights_that_are_measured(tmp_path: Path) -> None:
    """Evaluated, trained further and evaluated again, a classifier gives what it gives a newcomer."""
    data = str(write_tiny_data(tmp_path))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3))

    def evaluated(name: str, subject: nn.Module) -> dict[str, pl.DataFrame]:
        evaluate(
            Subject("small", subject, "small", weights_sha256(subject)),
            data,
            out=tmp_path / name,
            device="cpu",
            budget="quick",
            properties=["out_of_distribution"],
        )
        return records_of(tmp_path / name)

    before = evaluated("before", classifier)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.linspace(-1.0, 1.0, parameter.numel()).reshape(parameter.shape))
    after, wanted = evaluated("after", classifier), evaluated("wanted", copy.deepcopy(classifier))
    for name, frame_ in wanted.items():
        assert after[name].equals(frame_), name
        assert not after[name]["mahalanobis"].equals(before[name]["mahalanobis"]), name

    alive = weakref.ref(classifier)
    del classifier
    gc.collect()
    assert alive() is None


def test_thresholds_are_not_set_on_images_that_something_was_fitted_on() -> None:
    validation = load_dataset("mnist/validation").measuring_order()
    full, train = BUDGETS["full"], "mnist/train"
    context = EvaluationContext("mnist/test", "mnist/validation", (), {}, SIZES, 10, full, train=train)
    (measurement,) = [
        it for it in PROPERTIES["out_of_distribution"].plan(context).measurements if it.dataset == "mnist/validation"
    ]
    fitted = validation[len(validation) // 2 :][-int(measurement.settings["fitting"]) :]
    assert not set(fitted.tolist()) & set(validation[: measurement.examples].tolist())


def test_columns_do_not_depend_on_the_batch_size_or_on_the_shard(model: torch.nn.Module) -> None:
    measurement = detect_measurement(context_of(), "mnist/test", 30, transform="half")
    whole, small = measured(model, measurement), measured(model, measurement, batch_size=7)
    shard = shard_of(measurement)
    part = measured(model, measurement, Shard(shard.images[10:20], shard.labels[10:20], shard.indices[10:20]))
    for name, values in whole.items():
        assert small[name] == pytest.approx(values, rel=1e-3, abs=1e-3), name
        assert part[name] == pytest.approx(values[10:20], rel=1e-3, abs=1e-3), name


def test_without_validation_images_nothing_is_fitted(model: torch.nn.Module) -> None:
    def nothing(name: str) -> Dataset:
        raise AssertionError(name)

    measurement = detect_measurement(context_of(validation=None), "mnist/test", 10)
    columns = measured(model, measurement, shard_of(measurement, nothing))
    assert "energy" in columns
    assert "vim" not in columns


def test_a_classifier_without_a_head_has_the_other_scores_and_a_warning() -> None:
    context, memo = context_of(), Memo()
    linear = Linear(torch.randn(10, 784, generator=torch.Generator().manual_seed(0)), torch.zeros(10))
    measurements = PROPERTIES["out_of_distribution"].plan(context).measurements
    records = {}
    for measurement in measurements:
        shard = shard_of(measurement, memo=memo)
        records[measurement] = frame(shard.indices.numpy(), shard.labels.numpy(), measured(linear, measurement, shard))
    columns = records[measurements[0]].columns
    assert "kl_matching" in columns
    assert "combination" in columns
    assert not {"vim", "layers", "mutual_information"} & set(columns)
    found = Results(context, records, load_dataset, 0)
    assert "penultimate" in PROPERTIES["out_of_distribution"].warnings(found)[0]
    assert any(it.headline for it in PROPERTIES["out_of_distribution"].metrics(found))


def test_an_ensemble_has_its_members_disagreement() -> None:
    ensemble = Ensemble([small_classifier(), small_classifier()]).eval()
    columns = measured(ensemble, detect_measurement(context_of(), "mnist/test", 10))
    assert columns["mutual_information"] == pytest.approx(np.zeros(10), abs=1e-6)
    assert {"vim", "vim_per_member"} <= columns.keys()


def figures(results: Results, metric: str, **setting: object) -> dict[str, float]:
    return {
        f"{it.dataset} {it.setting.get('transform', '')}".strip(): it.compute(np.ones(it.n))
        for it in PROPERTIES["out_of_distribution"].metrics(results)
        if it.kind.name == metric and setting.items() <= dict(it.setting).items()
    }


def test_ood_inputs_stand_out(results: Results) -> None:
    found = figures(results, "auroc", score="layers")
    assert found.keys() == {"glyphs/test", *(f"mnist/test {made}" for made in TRANSFORMS)}
    assert min(found[f"mnist/test {made}"] for made in ("uniform_noise", "gaussian_noise", "inverted")) > 0.99


def test_refusals_are_counted_above_the_validation_quantile(results: Results) -> None:
    records = {
        measurement.dataset: it for measurement, it in results.records.items() if not measurement.settings["transform"]
    }
    validation = np.sort(records["mnist/validation"]["energy"].to_numpy())
    found = figures(results, "refused_share", score="energy", accepted=0.95)
    assert found.keys() == {"mnist/test", "digits/test"}
    # 60 images, of which 57 are 95 %: of what is refused, the threshold is the largest that is not.
    assert found["mnist/test"] == (records["mnist/test"]["energy"].to_numpy() > validation[57]).mean()
    accepted = (records["mnist/test"]["energy"].to_numpy() <= validation[57]).mean()
    caught = (records["glyphs/test"]["energy"].to_numpy() > validation[57]).mean()
    accuracy = figures(results, "detection_accuracy", score="energy", accepted=0.95)["glyphs/test"]
    assert accuracy == pytest.approx((accepted + caught) / 2)


def test_perturbed_images_stay_in_the_ball_and_are_answered_with_more_confidence(model: torch.nn.Module) -> None:
    images = load_dataset("glyphs/test").floats(slice(0, 20))
    found = perturbed(model, images, 0.3)
    assert (found - images).abs().max() <= 0.3 + 1e-5
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    with torch.no_grad():
        before, after = (model(it).softmax(1).max(1).values for it in (images, found))
    assert (after >= before - 1e-6).all()
    assert after.mean() > before.mean()


def test_perturbed_images_and_odin_are_planned_beyond_the_quick_budget() -> None:
    budgets = {"quick": False, "standard": True, "full": True}
    for budget, expected in budgets.items():
        measurements = PROPERTIES["out_of_distribution"].plan(context_of(budget)).measurements
        assert any(measurement.settings["perturbed"] == 0.3 for measurement in measurements) is expected
        assert {measurement.settings["odin"] for measurement in measurements} == {expected}


def test_half_an_image_is_half_of_its_pixels() -> None:
    measurement = detect_measurement(context_of(), "mnist/test", 40)
    shard = shard_of(measurement)
    images = torch.ones_like(shard.images)
    halves = TRANSFORMS["half"](images, shard.rng(0, "made"))
    assert halves.mean((1, 2, 3)) == pytest.approx(np.full(40, 0.5))
    assert len(halves.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize("name", ["energy", "layers"])
def test_outliers_are_moved_against_the_score_that_is_named(model: torch.nn.Module, name: str) -> None:
    training, labels = shard_of(detect_measurement(context_of(), "mnist/validation", 60)), np.arange(60) % 10
    detector = fit_detector(name, extract(model, training.images), labels)
    images = shard_of(detect_measurement(context_of(), "glyphs/test", 8)).images
    before, sure = (detector.scores(extract(model, it)) for it in (images, perturbed(model, images, 0.3)))
    moved = unsuspicious(model, images, 0.3, detector)
    after = detector.scores(extract(model, moved))
    assert ThreatModel("linf", 0.3).contains(moved, images).all()
    assert (after <= np.minimum(before, sure)).all()
    assert (after < before).mean() > 0.8
