"""Distribution shift: what is planned, the measures, and the figures against direct computation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.classifiers import Linear, small_classifier, some_digits
from helpers.results import chart
from pydantic import TypeAdapter
from torch import Tensor, nn

from hardy.corruptions import CORRUPTIONS, PUBLISHED, corrupt_with
from hardy.data import load_dataset
from hardy.errors import DataError
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import Gallery, LineChart, Table
from hardy.evaluation.context import make_context
from hardy.evaluation.framework import EvaluationContext, Measurement, Metric, Results, Shard
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.shift.measure import (
    FRAMES,
    MOVES,
    conditions,
    measure_consistency,
    measure_corrupted,
    moved,
)
from hardy.evaluation.properties.shift.metrics import refusal_threshold
from hardy.evaluation.properties.shift.reference import CLEAN, ERRORS
from hardy.evaluation.records import frame
from hardy.evaluation.sources import sources_of
from hardy.ood import SCORES
from hardy.rng import Randomness

PROPERTY = PROPERTIES["distribution_shift"]
SIZES = {"mnist/test": 10_000, "mnist/validation": 5_000, "digits/test": 1_797, "mnist-c/fog": 10_000}


def context_of(budget: str = "quick", *, published: bool = False, limit: int | None = None) -> EvaluationContext:
    shift = ("digits/test", *(("mnist-c/fog",) if published else ()))
    return EvaluationContext("mnist/test", "mnist/validation", (), {}, SIZES, 10, BUDGETS[budget], limit, shift=shift)


def results_of(context: EvaluationContext) -> Results:
    """Random logits that are right on some two thirds, in every measurement."""
    rng = np.random.default_rng(0)
    records = {}
    for measurement in PROPERTY.plan(context).measurements:
        labels = rng.integers(0, 10, measurement.examples)
        columns = {"flips": rng.integers(0, FRAMES, measurement.examples)}
        if measurement.function != "consistency":
            noise = rng.normal(size=(measurement.examples, 10))
            columns = {"logits": (2 * noise + 5 * np.eye(10)[labels]).astype(np.float32)}
        indices = np.sort(load_order(measurement)[: measurement.examples])
        records[measurement] = frame(indices, labels, columns)
    return Results(context, records, load_dataset, 0)


def load_order(measurement: Measurement) -> np.ndarray:
    return np.random.default_rng(len(measurement.dataset)).permutation(SIZES[measurement.dataset])


def found(results: Results, name: str, **setting: object) -> Metric:
    (metric,) = [
        it
        for it in PROPERTY.metrics(results)
        if it.kind.name == name and setting.items() <= {**it.setting, "dataset": it.dataset}.items()
    ]
    return metric


def value(metric: Metric) -> float:
    return metric.compute(np.ones(metric.n))


def accuracy(results: Results, measurement: Measurement) -> float:
    records = results.records[measurement]
    return float((records["logits"].to_numpy().argmax(1) == records["label"].to_numpy()).mean())


def test_each_budget_measures_more() -> None:
    assert [it.corruption for it in conditions(context_of("quick"))] == list(PUBLISHED)
    standard = conditions(context_of("standard"))
    assert [it.corruption for it in standard] == list(CORRUPTIONS)
    assert all(it.severity == CORRUPTIONS[it.corruption].default for it in standard)
    full = conditions(context_of("full"))
    assert len(full) == sum(len(it.severities) for it in CORRUPTIONS.values()) == 116
    assert {it.measurement.examples for it in conditions(context_of("quick"))} == {500}
    assert {it.measurement.examples for it in full} == {10_000}


def test_corruptions_of_the_same_images_are_drawn_together_published_files_too() -> None:
    results = results_of(context_of(published=True))
    metric = found(results, "mean_accuracy", families="MNIST-C")
    ((dataset, indices),) = metric.examples
    assert dataset == "mnist/test"
    answered = [it for it in results.records if it.function == "corrupted" or it.dataset == "mnist-c/fog"]
    assert set(indices) == {index for it in answered for index in results.column(it, "index")}
    # One image alone counts in every family that it was measured in.
    (place,) = np.flatnonzero(indices == results.column(answered[0], "index")[0])
    weights = np.ones(metric.n)
    weights[place] += 1
    assert metric.compute(weights) != metric.compute(np.ones(metric.n))


def test_what_is_measured_on_published_files_is_not_divided_by_a_reference_of_other_images() -> None:
    results = results_of(context_of(published=True))
    assert found(results, "mean_corruption_error").setting["corruptions"] == 14
    reasons = [skip.reason for skip in PROPERTY.plan(results.context).skipped]
    assert any("relative to the reference network" in reason and "fog" in reason for reason in reasons)


def test_published_images_are_measured_where_they_are_at_hand() -> None:
    planned = PROPERTY.plan(context_of(published=True))
    measurements = {it.corruption: it.measurement for it in conditions(context_of(published=True))}
    assert (measurements["fog"].function, measurements["fog"].dataset, measurements["fog"].examples) == (
        "predict",
        "mnist-c/fog",
        500,
    )
    assert measurements["stripe"].function == "corrupted"
    reasons = [skip.reason for skip in planned.skipped]
    assert any(reason.startswith("mnist-c/stripe: not at hand, though others") for reason in reasons)
    assert not any("mnist-c" in skip.reason for skip in PROPERTY.plan(context_of()).skipped)
    metric = found(results_of(context_of(published=True)), "accuracy", corruption="fog")
    assert metric.dataset == "mnist-c/fog"


def test_corruptions_that_are_not_defined_are_left_out_and_named() -> None:
    context = replace(context_of("standard"), shape=(3, 32, 32))
    assert not {"canny_edges", "saturate"} & {it.corruption for it in conditions(context)}
    reasons = [skip.reason for skip in PROPERTY.plan(context).skipped]
    assert "canny_edges: it is defined for images of one channel, not of 3" in reasons
    tiny = replace(context_of("standard"), shape=(1, 1, 1))
    assert PROPERTY.metrics(results_of(replace(tiny, shift=())))


def test_the_plan_knows_what_is_at_hand() -> None:
    context = make_context(sources_of(), 10, BUDGETS["quick"])
    assert "digits/test" in context.shift
    assert context.sizes["digits/test"] == 1_797
    assert context.shape == (1, 28, 28)
    adapter = TypeAdapter(EvaluationContext)
    assert adapter.validate_json(adapter.dump_json(context)) == context
    # They are a shift of MNIST, not of anything else.
    digits = load_dataset("digits/test")
    assert make_context(sources_of(digits), 10, BUDGETS["quick"]).shift == ()


def test_a_published_file_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mnist-c" / "mnist_c" / "fog"
    folder.mkdir(parents=True)
    np.save(folder / "test_images.npy", np.zeros((10_000, 28), np.uint8))
    np.save(folder / "test_labels.npy", np.zeros(10_000, np.int64))
    with pytest.raises(DataError, match=r"test_images.npy holds uint8 \(10000, 28\); mnist-c/fog has 10,000 images"):
        make_context(sources_of(data_dir=tmp_path), 10, BUDGETS["quick"])


def test_files_without_a_published_hash_are_warned_of() -> None:
    test = load_dataset("mnist/test")
    published = results_of(context_of(published=True))
    unverified = replace(test, name="mnist-c/fog", unverified="there is no published hash")
    (warning,) = PROPERTY.warnings(replace(published, dataset=lambda _: unverified))
    assert warning.startswith(
        "distribution_shift: mnist-c/fog: there is no published hash; the labels are those of mnist/test"
    )
    assert not PROPERTY.warnings(results_of(context_of()))


def shard_of(count: int = 20) -> Shard:
    images, labels, indices = some_digits(24)
    return Shard(images[:count], labels[:count], indices[:count])


def test_what_is_measured_is_the_answer_to_the_corrupted_image() -> None:
    classifier, shard = small_classifier().eval(), shard_of()
    measurement = Measurement.of("corrupted", "mnist/test", 20, corruption="fog", severity=2)
    logits = measure_corrupted(classifier, shard, measurement, seed=3, batch_size=7)["logits"]
    with torch.no_grad():
        wanted = classifier(corrupt_with(shard.images, "fog", 2, Randomness(3, shard.indices)))
    assert np.allclose(logits, wanted.numpy(), atol=1e-4)
    part = Shard(shard.images[5:9], shard.labels[5:9], shard.indices[5:9])
    again = measure_corrupted(classifier, part, measurement, seed=3, batch_size=100)["logits"]
    assert np.allclose(again, logits[5:9], atol=1e-4)


@pytest.mark.parametrize("move", MOVES)
def test_a_sequence_goes_through_the_image(move: str) -> None:
    shard = shard_of()
    rng = shard.rng(0)
    assert torch.allclose(moved(shard.images, rng, move, 0.0), shard.images, atol=1e-4)
    steps = [float((moved(shard.images, rng, move, place) - shard.images).abs().mean()) for place in (0.3, 0.6, 1.0)]
    assert 0 < steps[0] < steps[1] < steps[2]
    never = Linear(torch.zeros(3, 784), torch.tensor([0.0, 1.0, 0.0]))
    measurement = Measurement.of("consistency", "mnist/test", 20, move=move)
    assert (measure_consistency(never, shard, measurement, seed=0, batch_size=8)["flips"] == 0).all()


class Halves(nn.Module):
    """Class 1 where more light falls on the right half than on the left."""

    def forward(self, images: Tensor) -> Tensor:
        columns = images.sum((1, 2))
        return torch.stack([columns[:, :14].sum(1), columns[:, 14:].sum(1)], dim=1)


def test_a_point_that_crosses_a_border_flips_once() -> None:
    images = torch.zeros(50, 1, 28, 28)
    images[:, :, 14, 13:15] = 0.5
    images[:, :, 14, 14] = 0.501
    shard = Shard(images, torch.zeros(50, dtype=torch.int64), torch.arange(50))
    measurement = Measurement.of("consistency", "mnist/test", 50, move="translation")
    flips = measure_consistency(Halves(), shard, measurement, seed=0, batch_size=50)["flips"]
    assert set(flips.tolist()) <= {0, 1}
    assert flips.mean() > 0.9


def test_the_means_are_those_of_the_families() -> None:
    for published in (False, True):
        results = results_of(context_of("standard", published=published, limit=60))
        measured = [it for it in conditions(results.context) if CORRUPTIONS[it.corruption].published]
        errors = np.array([1 - accuracy(results, it.measurement) for it in measured])
        mean = found(results, "mean_accuracy", families="MNIST-C")
        assert value(mean) == pytest.approx(1 - errors.mean())
        assert mean.dataset == ("mnist-c, mnist/test" if published else "mnist/test")
        assert mean.n == (120 if published else 60)
        # The reference was measured on corruptions of hardy's own making, so published files are left out.
        own = np.array([it.measurement.dataset == "mnist/test" for it in measured])
        errors, reference = errors[own], np.array([ERRORS[it.corruption] for it in measured])[own]
        assert value(found(results, "mean_corruption_error")) == pytest.approx((errors / reference).mean())
        (clean_measurement,) = [it for it in results.records if it.function == "predict" and it.dataset == "mnist/test"]
        rise = (errors - (1 - accuracy(results, clean_measurement))) / (reference - CLEAN)
        assert value(found(results, "relative_mean_corruption_error")) == pytest.approx(rise.mean())
        validation = [it.measurement for it in conditions(results.context) if not CORRUPTIONS[it.corruption].published]
        wanted = np.mean([accuracy(results, measurement) for measurement in validation])
        assert value(found(results, "mean_accuracy", families="held out")) == pytest.approx(wanted)


def test_a_mean_counts_an_example_as_often_as_its_weight_says() -> None:
    results = results_of(context_of("quick", published=True, limit=40))
    mean = found(results, "mean_accuracy", families="MNIST-C")
    weights = np.random.default_rng(0).integers(1, 4, mean.n).astype(float)
    # One weight per image, however many corruptions show it.
    ((_, images),) = mean.examples
    by_image = dict(zip(images.tolist(), weights, strict=True))
    shares = []
    for it in conditions(results.context):
        records = results.records[it.measurement]
        right = records["logits"].to_numpy().argmax(1) == records["label"].to_numpy()
        shares.append(np.average(right, weights=[by_image[index] for index in records["index"]]))
    assert mean.compute(weights) == pytest.approx(np.mean(shares))


def test_the_threshold_refuses_one_validation_image_in_a_hundred() -> None:
    results = results_of(context_of("quick"))
    threshold = refusal_threshold(results)
    assert threshold is not None
    (validation,) = [it for it in results.records if it.dataset == "mnist/validation"]
    scores = SCORES["max_softmax"](results.records[validation]["logits"].to_numpy())
    assert 0.005 < (scores > threshold).mean() <= 0.01
    for name, setting in (("stripe", {"corruption": "stripe"}), ("digits", {"dataset": "digits/test"})):
        metric = found(results, "refusal_rate", **setting)
        (measurement,) = [it for it in results.records if name in it.key]
        refused = SCORES["max_softmax"](results.records[measurement]["logits"].to_numpy()) > threshold
        assert value(metric) == pytest.approx(refused.mean())
    bare = context_of("quick")
    bare = replace(bare, validation=None)
    metrics = {it.kind.name for it in PROPERTY.metrics(results_of(bare))}
    assert "refusal_rate" not in metrics
    assert any("no validation images" in skip.reason for skip in PROPERTY.plan(bare).skipped)


def test_a_flip_rate_is_flips_per_step() -> None:
    results = results_of(context_of("quick"))
    for move in MOVES:
        (measurement,) = [it for it in results.records if it.settings.get("move") == move]
        flips = results.records[measurement]["flips"].to_numpy()
        assert value(found(results, "flip_rate", move=move)) == pytest.approx(flips.mean() / 14)


def test_the_reference_has_an_error_for_each_published_family() -> None:
    assert tuple(ERRORS) == PUBLISHED
    assert 0 < CLEAN < min(ERRORS.values())
    assert max(ERRORS.values()) < 0.95


def test_pictures_show_every_corruption_at_every_severity() -> None:
    charts = PROPERTY.draw(results_of(context_of("full", limit=30)))
    bars = chart(charts, "Accuracy under each")
    assert isinstance(bars, LineChart)
    assert len(bars.x_names) == len(CORRUPTIONS)
    table = chart(charts, "Under each corruption")
    assert isinstance(table, Table)
    assert len(table.rows) == 1 + len(CORRUPTIONS)
    curves = chart(charts, "Accuracy over the severity, MNIST-C")
    assert isinstance(curves, LineChart)
    assert {len(series.x) for series in curves.series} == {6}
    several, single = chart(charts, "Corruptions at every"), chart(charts, "Corruptions without")
    assert isinstance(several, Gallery)
    assert isinstance(single, Gallery)
    assert sum(map(len, several.rows)) + sum(map(len, single.rows)) - 1 == 116
    assert math.isclose(sum("*" in picture.caption for row in several.rows for picture in row), len(several.rows))
