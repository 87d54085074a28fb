"""Evaluation: the same records whatever the batch size or the order of work, and a classifier left as it was."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch
from helpers.classifiers import seeded_linear, small_classifier, write_tiny_data
from helpers.evaluations import LIMIT, assert_same_records, figures_of, make_evaluations_small, measure, records_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hardy
from hardy.data import load_dataset
from hardy.errors import ContractError, RunError, UsageError
from hardy.evaluation.evaluate import Progress, estimate, load_results
from hardy.evaluation.framework import Metric, MetricKind
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.scorecard import Scorecard, json_schema
from hardy.evaluation.subject import PROBES, load_subject
from hardy.report.run import write_run_report
from hardy.runs import Run


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_evaluations_small(patch)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed evaluation of all properties."""
    out = tmp_path_factory.mktemp("evaluation") / "whole"
    measure(out)
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_data(tmp_path_factory.mktemp("data")))


def test_every_property_is_measured(whole: Path) -> None:
    scorecard = Scorecard.read(whole / "scorecard.json")
    assert scorecard.properties == list(PROPERTIES)
    assert {metric.property for metric in scorecard.estimates} == set(PROPERTIES) - {"system"}
    assert len(figures_of(scorecard)) == len(scorecard.estimates)
    assert scorecard.limit == LIMIT
    assert scorecard.seed == 0
    jsonschema.validate(json.loads((whole / "scorecard.json").read_text()), json_schema())


def test_robust_accuracy_never_rises_with_the_radius(whole: Path) -> None:
    sweeps: dict[str, list[tuple[float, float]]] = {}
    for metric in Scorecard.read(whole / "scorecard.json").estimates:
        setting = dict(metric.setting)
        if metric.metric == "robust_accuracy" and "eps" in setting:
            eps = float(setting.pop("eps"))
            sweeps.setdefault(json.dumps(setting), []).append((eps, metric.value))
    assert max(map(len, sweeps.values())) > 1
    for sweep in sweeps.values():
        accuracies = [accuracy for _, accuracy in sorted(sweep)]
        assert accuracies == sorted(accuracies, reverse=True)


def test_the_accuracy_of_the_scorecard_is_the_classifiers_own(whole: Path) -> None:
    test = load_dataset("mnist/test")
    chosen = test.measuring_order()[:LIMIT]
    with torch.no_grad():
        right = small_classifier().eval()(test.floats(chosen)).argmax(1) == test.labels[chosen]
    metric = Scorecard.read(whole / "scorecard.json").find("accuracy", "accuracy")
    assert metric.value == pytest.approx(right.double().mean().item())
    assert metric.n == LIMIT


def test_records_are_one_row_an_example_in_order(whole: Path) -> None:
    records = records_of(whole)
    assert records
    for name, frame in records.items():
        index = frame["index"].to_numpy()
        assert len(index) == LIMIT, name
        assert (np.diff(index) > 0).all(), name
        assert frame.columns[:2] == ["index", "label"]
        assert frame["index"].dtype == frame["label"].dtype == pl.Int64
        assert not any(frame.null_count().row(0))
    run = Run.open(whole)
    _, results = load_results(run)
    for measurement, frame in results.records.items():
        source = load_dataset(measurement.dataset)
        assert np.array_equal(frame["label"].to_numpy(), source.labels.numpy()[frame["index"].to_numpy()])


def test_a_larger_limit_takes_the_examples_of_a_smaller_one_and_more(whole: Path, tmp_path: Path) -> None:
    measure(tmp_path / "fewer", limit=17, properties=["accuracy"])
    (fewer,) = records_of(tmp_path / "fewer").values()
    (more,) = (frame for name, frame in records_of(whole).items() if name.startswith("predict_mnist_test"))
    both = fewer.join(more, on="index", suffix="_more")
    assert len(both) == 17
    assert np.allclose(both["logits"].to_numpy(), both["logits_more"].to_numpy(), atol=1e-4)


def test_the_batch_size_does_not_matter(whole: Path, tmp_path: Path) -> None:
    measure(tmp_path / "other", batch_size=1)
    records, expected = records_of(tmp_path / "other"), records_of(whole)
    assert records.keys() == expected.keys()
    verdicts = []
    for name, frame in expected.items():
        assert frame["index"].equals(records[name]["index"])
        if "logits" in frame.columns:
            assert np.allclose(frame["logits"].to_numpy(), records[name]["logits"].to_numpy(), atol=1e-4), name
        if "norm" in frame.columns:
            norm, other = frame["norm"].to_numpy(), records[name]["norm"].to_numpy()
            verdicts += [(norm > eps) == (other > eps) for eps in (0.0, 0.1, 0.2, 0.3)]
    assert np.concatenate(verdicts).mean() >= 0.995


def test_the_order_of_work_does_not_matter(whole: Path, tmp_path: Path) -> None:
    def backwards(tasks, measure_one):
        done = [(task, measure_one(task)) for task in reversed(tasks)]
        return done[::2] + done[1::2]

    scorecard = measure(tmp_path / "other", executor=backwards)
    assert_same_records(tmp_path / "other", whole)
    assert scorecard.estimates == Scorecard.read(whole / "scorecard.json").estimates


def test_another_seed_gives_other_attacks_and_the_same_predictions(whole: Path, tmp_path: Path) -> None:
    measure(tmp_path / "other", seed=1, properties=["accuracy", "adversarial"])
    records, expected = records_of(tmp_path / "other"), records_of(whole)
    same = {name for name, frame in records.items() if frame.equals(expected[name])}
    assert any(name.startswith("predict_mnist_test") for name in same)
    assert any(name.startswith("attack_mnist_test_pgd") for name in records.keys() - same)


def test_paths_may_be_strings(tiny: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    settings = {"data": tiny, "data_dir": str(tmp_path), "properties": ["accuracy"]}
    scorecard = measure(out, classifier=seeded_linear(side=8), **settings)  # type: ignore[arg-type]
    assert Scorecard.read(f"{out}/scorecard.json") == scorecard
    assert load_subject(Path("helpers.classifiers:small_classifier")).name == "helpers.classifiers:small_classifier"


def color_classifier() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3))


def color_images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)), torch.arange(count) % 3


def in_memory(model: nn.Module, data: Any, **settings: Any) -> Scorecard:
    return hardy.evaluate(model, data, device="cpu", progress=False, **settings)


def test_what_is_measured_in_memory_is_what_is_measured_on_disk(whole: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    card = in_memory(small_classifier(), load_dataset("mnist/test"), validation="mnist", train="mnist", limit=LIMIT,
                     budget="standard")  # fmt: skip
    written = Scorecard.read(whole / "scorecard.json")
    assert card.estimates == written.estimates
    assert (card.warnings, card.skipped) == (written.warnings, written.skipped)
    assert not list(tmp_path.iterdir())


def test_a_color_classifier_is_measured_on_what_is_handed_in() -> None:
    model, (images, labels) = color_classifier().train(), color_images(40)
    before = copy.deepcopy(model.state_dict())
    card = in_memory(model, (images, labels), validation=color_images(30, seed=1), train=color_images(50, seed=2))
    with torch.no_grad():
        right = (copy.deepcopy(model).eval()(images).argmax(1) == labels).double().mean()
    assert float(card["accuracy"]) == pytest.approx(float(right))
    assert card["adversarial/robust_accuracy"].dataset == "data/test"
    assert card.properties == list(PROPERTIES)
    assert {name for name in card.environment.data if name.startswith("data/")} == {
        "data/test",
        "data/validation",
        "data/train",
    }
    assert {"mahalanobis", "energy", "combination"} <= scores_of(card)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def scores_of(card: Scorecard) -> set[object]:
    return {it.setting.get("score") for it in card.estimates if it.property == "out_of_distribution"}


def test_what_is_not_handed_in_is_skipped_with_the_reason() -> None:
    model, data, ood = color_classifier(), color_images(40), ["out-of-distribution"]
    alone = in_memory(model, data)
    reasons = "\n".join(skip.reason for skip in alone.skipped)
    assert "there are no training images" in reasons
    assert "there are no validation images" in reasons
    assert "energy" in scores_of(alone)
    assert not {"mahalanobis", "combination"} & scores_of(alone)
    with_train = in_memory(model, data, train=color_images(50, seed=2), properties=ood)
    assert "mahalanobis" in scores_of(with_train)
    assert "combination" not in scores_of(with_train)
    with_validation = in_memory(model, data, validation=color_images(30, seed=1), properties=ood)
    assert "combination" in scores_of(with_validation)
    assert "mahalanobis" not in scores_of(with_validation)


def test_a_loader_is_what_it_loads() -> None:
    model, (images, labels) = color_classifier(), color_images(40)
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    cards = [in_memory(model, data, properties=["accuracy"]) for data in (loader, (images.numpy(), labels.numpy()))]
    assert cards[0].estimates == cards[1].estimates
    assert cards[0].environment.data == cards[1].environment.data


def test_out_of_distribution_images_may_be_handed_in() -> None:
    ood = {"noise": color_images(20, seed=5)[0], "labelled": color_images(20, seed=6), "gray": torch.rand(9, 1, 16, 16)}
    card = in_memory(color_classifier(), color_images(30), ood=ood, properties=["out-of-distribution"])
    found = {it.dataset for it in card.estimates if it.metric == "auroc"}
    assert found == {"data/test", "data/noise", "data/labelled"}
    assert any("data/gray: its images are (1, 16, 16)" in skip.reason for skip in card.skipped)


def test_classes_may_be_named() -> None:
    card = in_memory(color_classifier(), color_images(30), classes=["red", "green", "blue"], properties=["accuracy"])
    assert [it.setting["class"] for it in card.estimates if it.metric == "class_accuracy"] == ["red", "green", "blue"]


def test_an_evaluation_of_images_in_memory_goes_on_with_the_same_images_only(tmp_path: Path) -> None:
    model, out = color_classifier(), tmp_path / "run"
    in_memory(model, color_images(30), properties=["accuracy"], out=out)
    seen: list[Progress] = []
    in_memory(model, color_images(30), resume=True, out=out, report=seen.append)
    assert not seen
    with pytest.raises(RunError, match="another data"):
        in_memory(model, color_images(30, seed=9), resume=True, out=out)
    _, results = load_results(Run.open(out))
    with pytest.raises(UsageError, match=r"'data/test' is not at hand: .* hand them to evaluate again"):
        results.dataset("data/test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": (torch.rand(4, 3, 16, 16), torch.arange(5))}, "4 images and 5 labels"),
        ({"data": (255 * torch.rand(6, 3, 16, 16), torch.arange(6) % 3)}, "lie in"),
        ({"data": color_images(6), "classes": ["one", "two"]}, "the label 2"),
        ({"data": color_images(6), "validation": color_images(6)}, "must not be what it is measured on"),
        ({"data": color_images(6), "ood": {"test": color_images(6)}}, "two datasets are called 'data/test'"),
        ({"data": color_images(6), "validation": 7}, "int"),
    ],
)
def test_what_cannot_be_measured_on_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        in_memory(color_classifier(), settings.pop("data"), **settings)


def test_progress_is_told_on_standard_error_unless_told_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    hardy.evaluate(color_classifier(), color_images(30), properties=["accuracy"], device="cpu")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"measuring .*3/3 predict on data/test", captured.err)
    in_memory(color_classifier(), color_images(30), properties=["accuracy"])
    assert capsys.readouterr() == ("", "")


def test_progress_counts_up_to_the_number_of_tasks(tmp_path: Path) -> None:
    seen: list[Progress] = []
    measure(tmp_path / "run", properties=["accuracy"], report=seen.append)
    assert [(progress.done, progress.tasks) for progress in seen] == [(1, 3), (2, 3), (3, 3)]


def test_a_property_named_twice_is_measured_once(tmp_path: Path) -> None:
    scorecard = measure(tmp_path / "run", properties=["error-detection", "accuracy", "error_detection", "accuracy"])
    assert scorecard.properties == ["accuracy", "error_detection"]
    assert len(figures_of(scorecard)) == len(scorecard.estimates)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"properties": ["accurracy"]}, "unknown property 'accurracy'; did you mean accuracy"),
        ({"budget": "lavish"}, "unknown budget 'lavish'; known: full, quick, standard"),
        ({"limit": 0}, "limit 0"),
        ({"batch_size": 0}, "batch size 0"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"data": "mnits"}, "unknown dataset.*mnist"),
        ({"data_dir": Path("nowhere-at-all")}, "nowhere-at-all"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_written(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_classifier_that_breaks_the_contract_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="probabilities"):
        measure(tmp_path / "run", classifier=nn.Sequential(small_classifier(), nn.Softmax(1)))
    assert not (tmp_path / "run").exists()


def test_the_evidence_is_found_again(whole: Path) -> None:
    run = Run.open(whole)
    chosen, results = load_results(run)
    assert [prop.name for prop in chosen] == list(PROPERTIES)
    expected = {key: value[0] for key, value in figures_of(Scorecard.read(whole / "scorecard.json")).items()}
    found = {}
    for prop in chosen:
        for statistic in prop.metrics(results):
            key = json.dumps([prop.name, statistic.kind.name, statistic.dataset, dict(statistic.setting)])
            found[key] = statistic.compute(np.ones(statistic.n))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("training", [True, False])
def test_the_classifier_is_left_as_it_was(tmp_path: Path, training: bool) -> None:
    classifier = small_classifier().train(training)
    classifier.norm.train(not training)
    classifier.head.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    measure(tmp_path / "run", classifier=classifier, limit=10)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    modes = {name: module.training for name, module in classifier.named_modules()}
    assert modes == {"": training, "convolution": training, "norm": not training, "head": training}
    flags = {name for name, parameter in classifier.named_parameters() if not parameter.requires_grad}
    assert flags == {"head.bias"}
    assert all(parameter.grad is None for parameter in classifier.parameters())


class BlindTo(nn.Module):
    """Fails on one image that the door does not see."""

    image: Tensor

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.inner = small_classifier()
        self.register_buffer("image", image)

    def forward(self, images: Tensor) -> Tensor:
        seen = (images == self.image).flatten(1).all(1)
        return torch.where(seen[:, None], torch.nan, self.inner(images))


def test_an_answer_that_is_not_finite_is_found_behind_the_door_too(tmp_path: Path) -> None:
    test = load_dataset("mnist/test")
    index = int(test.measuring_order()[PROBES + 10])
    with pytest.raises(ContractError, match=f"1 of .* images of mnist/test, the first at index {index}"):
        measure(tmp_path / "run", classifier=BlindTo(test.floats(slice(index, index + 1))), limit=100)


def test_a_classifier_with_more_classes_than_the_data_is_measured_and_reported(tiny: str, tmp_path: Path) -> None:
    classifier = seeded_linear(classes=5, side=8, seed=1)
    scorecard = measure(tmp_path / "run", classifier=classifier, data=tiny)
    _, results = load_results(Run.open(tmp_path / "run"))
    attacked = [frame for measurement, frame in results.records.items() if measurement.function == "attack"]
    assert any((frame["adversarial_prediction"] >= 3).any() for frame in attacked)
    assert "the classifier knows 5 classes, the data has 3" in scorecard.warnings
    assert write_run_report(tmp_path / "run").exists()


def test_data_of_another_shape_leaves_out_the_datasets_that_do_not_fit(tiny: str, tmp_path: Path) -> None:
    scorecard = measure(tmp_path / "run", classifier=seeded_linear(side=8), data=tiny)
    assert {metric.dataset for metric in scorecard.estimates if metric.property == "out_of_distribution"} == {
        f"{tiny}/test"
    }
    reasons = [skip.reason for skip in scorecard.skipped if skip.property == "out_of_distribution"]
    assert any("glyphs/test: its images are (1, 28, 28)" in reason for reason in reasons)
    assert any(reason.startswith("no out-of-distribution dataset is at hand") for reason in reasons)


def test_a_figure_that_is_not_defined_is_skipped_with_its_reason(tiny: str, tmp_path: Path) -> None:
    """A classifier without a mistake has no mistakes to detect."""

    class Perfect(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, images: Tensor) -> Tensor:
            return self.scale * torch.stack(
                [images[:, :, 3 * row : 3 * row + 2].mean((1, 2, 3)) for row in range(3)], 1
            )

    scorecard = measure(tmp_path / "run", classifier=Perfect(), data=tiny, properties=["accuracy", "error_detection"])
    assert scorecard.find("accuracy", "accuracy").value == 1.0
    reasons = {skip.reason for skip in scorecard.skipped if skip.property == "error_detection"}
    assert any(reason.startswith("auroc (score max_softmax)") and "not defined" in reason for reason in reasons)
    assert not [metric for metric in scorecard.estimates if metric.metric == "auroc"]


def statistic_of(compute, **settings: Any) -> Metric:
    kind = MetricKind("metric", "Metric", higher_is_better=True)
    return Metric(kind, compute, (("data", np.arange(40)),), **settings)


def test_the_interval_of_a_figure_is_wilsons_a_known_one_or_a_bootstraps() -> None:
    hits = np.arange(40) < 30

    def share(weights: np.ndarray) -> float:
        return float(np.average(hits, weights=weights))

    wilson = estimate("property", statistic_of(share, successes=hits), 0)
    known = estimate("property", statistic_of(share, interval=(0.25, 0.5)), 0)
    bootstrapped = estimate("property", statistic_of(share), 0)
    assert wilson is not None
    assert known is not None
    assert bootstrapped is not None
    assert (wilson.low, wilson.high) == pytest.approx((0.59806, 0.85810), abs=1e-4)
    assert (known.low, known.high) == (0.25, 0.5)
    assert bootstrapped.value == 0.75
    # The standard error of a share of 0.75 over 40 is 0.0685.
    low, high = bootstrapped.interval() or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * 0.0685, rel=0.3)
    assert estimate("property", statistic_of(share), 0) == bootstrapped


def test_a_figure_without_value_or_interval_is_none() -> None:
    assert estimate("property", statistic_of(lambda _: np.nan), 0) is None
    assert estimate("property", statistic_of(lambda weights: 1.0 if (weights == 1).all() else np.nan), 0) is None
