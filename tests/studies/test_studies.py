"""Studies: what an arm trains on, the maths of the table, and that a study goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.classifiers import small_classifier
from scipy.stats import ttest_1samp
from torch import nn

from hardy.augmentations import augment
from hardy.data import load_dataset
from hardy.errors import RunError, UsageError
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.framework import (
    EvaluationContext,
    Measurement,
    Metric,
    Plan,
    Property,
    Results,
    Shard,
    mean_of,
)
from hardy.evaluation.predictions import measure_predictions, predictions_of
from hardy.evaluation.records import frame
from hardy.evaluation.scorecard import Scorecard
from hardy.metrics import auroc, ece
from hardy.rng import Randomness
from hardy.studies import STUDIES, Options, Page, Study, run_study
from hardy.studies.augmentation import (
    EFFORTS,
    SHARES,
    STUDIED,
    Arm,
    Effort,
    arms_of,
    augment_once,
    training_list,
)
from hardy.studies.augmentation_metrics import (
    CALIBRATION_ERROR,
    CHANGES,
    CLEAN,
    KINDS,
    Sizes,
    augmentation_property,
    measure_attacked,
    measure_changed,
)
from hardy.studies.augmentation_page import judge, make_page
from hardy.studies.framework import Measured, Prepared
from hardy.studies.paired import RESAMPLES, Spread, gain, spreads
from hardy.training import Split, Stopped

IMAGES = 200
SIZES = Sizes(clean=60, changed=40, corrupted=30, attacked=20, ood=50)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_controls_see_as_many_examples_as_the_arm(share: int, passes: int) -> None:
    added = IMAGES * share // 100
    _, augmented = training_list(Arm("rotate", share, 0), IMAGES, passes)
    no_change, duplicated = training_list(Arm("duplicated", share, 0), IMAGES, passes)
    nothing, steps = training_list(Arm("steps", share, 0), IMAGES, passes)
    assert len(augmented) == len(duplicated) == len(steps) == passes * (IMAGES + added)
    assert len(no_change) == len(nothing) == 0
    assert augmented.bincount().tolist() == [passes] * (IMAGES + added)
    # The same images are repeated that are augmented, and equally often.
    chosen = training_list(Arm("rotate", share, 0), IMAGES, passes)[0]
    expected = torch.full((IMAGES,), passes)
    expected[chosen] += passes
    assert torch.equal(duplicated.bincount(minlength=IMAGES), expected)
    # More steps go round all images evenly, and begin with images of their own choice.
    assert passes > 1 or share == 100 or not torch.equal(steps.bincount(minlength=IMAGES), expected)
    counts = steps.bincount(minlength=IMAGES)
    assert int(counts.max() - counts.min()) <= 1


def test_smaller_shares_are_part_of_larger_ones_and_seeds_choose_others() -> None:
    chosen = [training_list(Arm("rotate", share, 0), IMAGES, 1)[0] for share in SHARES]
    for fewer, more in pairwise(chosen):
        assert torch.equal(more[: len(fewer)], fewer)
    assert sorted(chosen[-1].tolist()) == list(range(IMAGES))
    assert not torch.equal(training_list(Arm("rotate", 10, 1), IMAGES, 1)[0], chosen[0])
    assert len(training_list(Arm("none", 0, 0), IMAGES, 3)[1]) == 3 * IMAGES


def test_the_arms_are_all_shares_of_all_augmentations_and_controls_for_every_seed() -> None:
    arms = arms_of(Options("fast", seeds=2, seed=5))
    assert len({arm.key for arm in arms}) == len(arms) == 2 * (1 + len(SHARES) * (2 + len(STUDIED)))
    assert {arm.seed for arm in arms} == {5, 6}
    few = arms_of(Options("fast", seeds=1, only=("mixup",)))
    assert {arm.added for arm in few} == {"none", "duplicated", "steps", "mixup"}


@pytest.mark.parametrize("name", ["rotate", "cutmix"])
def test_added_images_are_augmented_once_and_stored_in_eight_bits(name: str, some_digits: Split) -> None:
    indices = torch.arange(20, 50)
    images, labels = some_digits.images[indices], some_digits.labels[indices]
    added, targets = augment_once(images, labels, indices, name, 3, 10)
    assert added.dtype == torch.uint8
    hard = torch.nn.functional.one_hot(labels, 10).float()
    rng = Randomness(3, indices, ("study", "added"))
    expected, soft = augment(images.float() / 255, hard, rng, {name: STUDIED[name]})
    torch.testing.assert_close(added.float() / 255, expected, rtol=0, atol=0.5 / 255 + 1e-6)
    assert torch.equal(targets, soft if name == "cutmix" else labels)


def mean_metric(values: np.ndarray, first: int = 0) -> Metric:
    return mean_of(CLEAN, values, (("some/test", np.arange(first, first + len(values))),))


def test_a_constant_gain_has_no_width_however_much_seeds_and_examples_vary() -> None:
    rng = np.random.default_rng(0)
    trainings = [rng.normal(seed, 1.0, 50) for seed in range(3)]
    found = spreads({"a": [mean_metric(it) for it in trainings], "b": [mean_metric(it + 0.25) for it in trainings]})
    assert found["a"].value == pytest.approx(np.mean(trainings))
    assert found["a"].deviation == pytest.approx(np.std(np.mean(trainings, axis=1), ddof=1))
    difference = gain(found["b"], found["a"])
    assert difference == pytest.approx((0.25, 0.25, 0.25, 0.0))
    assert difference.direction == 1
    assert gain(found["a"], found["b"]).direction == -1
    assert gain(found["a"], found["a"]) == (0.0, 0.0, 0.0, 1.0)


def test_where_seeds_alone_vary_the_interval_is_students() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.3, 0.1, 5)
    found = spreads({"arm": [mean_metric(np.full(400, it)) for it in values], "none": [mean_metric(np.zeros(400))] * 5})
    expected: Any = ttest_1samp(values, 0.0)
    interval = expected.confidence_interval(0.95)
    difference = gain(found["arm"], found["none"])
    assert difference[1:] == pytest.approx((interval.low, interval.high, expected.pvalue), rel=1e-4)


def test_where_examples_alone_vary_the_interval_is_theirs_and_one_seed_finds_nothing() -> None:
    examples = np.random.default_rng(1).normal(0.2, 1.0, 400)
    for seeds in (1, 5):
        found = spreads({"arm": [mean_metric(examples)] * seeds, "none": [mean_metric(np.zeros(400))] * seeds})
        difference = gain(found["arm"], found["none"])
        assert (difference.high - difference.low) / 2 == pytest.approx(1.96 * examples.std() / 20, rel=0.15)
        assert (difference.p_value == 1.0) == (seeds == 1)


def test_seeds_that_vary_give_no_more_false_alarms_than_they_may() -> None:
    """Three seeds, resampled with replacement, gave 15 to 23 %."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(80):
        arms = {arm: [mean_metric(rng.normal(rng.normal(0.0, 0.2), 1.0, 60)) for _ in range(3)] for arm in ("a", "b")}
        found = spreads(arms)
        alarms += gain(found["a"], found["b"]).p_value <= 0.05
    assert alarms / 80 <= 0.09


@pytest.mark.parametrize("other", [[mean_metric(np.ones(3))] * 2, [mean_metric(np.ones(3), first=1)]])
def test_arms_of_different_seeds_or_examples_do_not_pair(other: list[Metric]) -> None:
    with pytest.raises(ValueError, match="do not pair"):
        spreads({"a": [mean_metric(np.ones(3))], "b": other})


def spread(value: float) -> Spread:
    return Spread(
        value + np.linspace(-0.001, 0.001, 5), np.full(RESAMPLES, value) + np.linspace(-1e-3, 1e-3, RESAMPLES)
    )


@pytest.mark.parametrize(
    ("arm", "duplicated", "steps", "direction"),
    [(0.9, 0.8, 0.7, 1), (0.9, 0.8, 0.9, 0), (0.8, 0.7, 0.9, 0), (0.6, 0.7, 0.8, -1), (0.7, 0.7, 0.7, 0)],
)
def test_a_gain_points_where_it_lies_beside_both_controls(
    arm: float, duplicated: float, steps: float, direction: int
) -> None:
    means = {("rotate", 10): spread(arm), ("duplicated", 10): spread(duplicated), ("steps", 10): spread(steps)}
    controls = [("duplicated", 10), ("steps", 10)]
    found = judge(CLEAN, means, ("rotate", 10), controls)
    assert found.direction == direction
    assert (found.p_value < 0.01) == (direction != 0)
    assert judge(CALIBRATION_ERROR, means, ("rotate", 10), controls).direction == -direction


def results_of(seed: int, better: float = 0.0) -> Results:
    """Records of random answers, right 60 % of the time and ``better`` more often."""
    rng = np.random.default_rng(seed)
    sets = {name: load_dataset(name) for name in ("mnist/test", "glyphs/test", "digits/test")}
    context = EvaluationContext(
        dataset="mnist/test",
        validation=None,
        out_of_distribution=("glyphs/test", "digits/test"),
        missing={},
        sizes={name: len(dataset) for name, dataset in sets.items()},
        classes=10,
        budget=BUDGETS["quick"],
    )
    records = {}
    for measurement in augmentation_property(SIZES).plan(context).measurements:
        order = sets[measurement.dataset].measuring_order()[: measurement.examples].sort().values
        labels = sets[measurement.dataset].labels[order].numpy()
        right = rng.uniform(size=len(order)) < 0.6 + better
        if measurement.function == "attacked":
            columns = {"min_norm": np.where(right, np.inf, 0.05)}
        else:
            logits = rng.normal(size=(len(order), 10)).astype(np.float32)
            logits[np.arange(len(order)), np.where(right, labels, (labels + 1) % 10)] += 9
            columns = {"logits": logits}
        records[measurement] = frame(order.numpy(), labels, columns)
    return Results(context, records, sets.__getitem__, 0)


def test_figures_are_those_of_the_records() -> None:
    results = results_of(0)
    metrics = {metric.kind.name: metric for metric in augmentation_property(SIZES).metrics(results)}
    assert tuple(metrics) == tuple(kind.name for kind in KINDS)
    found = {name: metric.compute(np.ones(metric.n)) for name, metric in metrics.items()}
    by_change = {it.settings.get("change", f"{it.function} {it.dataset}"): it for it in results.records}
    correct = {
        name: predictions_of(results, it).correct.mean() for name, it in by_change.items() if it.function != "attacked"
    }
    clean = predictions_of(results, by_change["predict mnist/test"])
    assert found["clean"] == pytest.approx(correct["predict mnist/test"])
    assert (found["rotated"], found["noisy"]) == pytest.approx((correct["rotated"], correct["noisy"]))
    corrupted = [share for name, share in correct.items() if str(name).startswith("mnist-c/")]
    assert len(corrupted) == 15
    assert found["mnist_c"] == pytest.approx(np.mean(corrupted))
    norms = results.column(by_change["attacked mnist/test"], "min_norm")
    assert found["attacked"] == pytest.approx(np.isinf(norms).mean())
    assert found["ece"] == pytest.approx(ece(clean.confidence, clean.correct))
    others = [predictions_of(results, by_change[f"predict {name}/test"]) for name in ("glyphs", "digits")]
    areas = [auroc(-clean.confidence, -it.confidence) for it in others]
    assert found["ood_auroc"] == pytest.approx(np.mean(areas))


def test_weights_belong_to_examples_in_the_measuring_order() -> None:
    results = results_of(1)
    metrics = {metric.kind.name: metric for metric in augmentation_property(SIZES).metrics(results)}
    order = load_dataset("mnist/test").measuring_order()[: SIZES.clean].numpy()
    ((dataset, indices),) = metrics["clean"].examples
    assert dataset == "mnist/test"
    np.testing.assert_array_equal(indices, order)
    clean = predictions_of(results, next(it for it in results.records if it.function == "predict"))
    for place in (0, 17, 59):
        only = np.eye(len(order))[place]
        assert metrics["clean"].compute(only) == clean.correct[clean.indices == order[place]]


def test_an_area_takes_the_weights_of_each_of_its_datasets() -> None:
    results = results_of(2)
    metric = next(it for it in augmentation_property(SIZES).metrics(results) if it.kind.name == "ood_auroc")
    assert [(name, len(indices)) for name, indices in metric.examples] == [
        ("mnist/test", 60),
        ("glyphs/test", 50),
        ("digits/test", 50),
    ]
    parts = np.split(np.random.default_rng(1).integers(0, 4, metric.n).astype(float), [60, 110])
    scores = {}
    for measurement in (it for it in results.records if it.function == "predict"):
        answers = predictions_of(results, measurement)
        place = {int(index): row for row, index in enumerate(answers.indices)}
        order = dict(metric.examples)[measurement.dataset]
        scores[measurement.dataset] = -answers.log_probabilities.max(1)[[place[int(index)] for index in order]]
    inside, *outside = scores.values()
    expected = np.mean(
        [
            auroc(inside, other, weights=np.concatenate([parts[0], part]))
            for other, part in zip(outside, parts[1:], strict=True)
        ]
    )
    assert metric.compute(np.concatenate(parts)) == pytest.approx(expected)


def shard_of(count: int) -> Shard:
    dataset = load_dataset("mnist/test")
    indices = dataset.measuring_order()[:count]
    return Shard(dataset.floats(indices), dataset.labels[indices], indices)


@pytest.mark.parametrize("change", ["rotated", "noisy", "mnist-c/fog"])
def test_changed_images_are_changed_by_the_seed_and_the_image_alone(change: str) -> None:
    classifier, shard = small_classifier().eval(), shard_of(20)
    measurement = Measurement.of("changed", "mnist/test", 20, change=change)
    found = measure_changed(classifier, shard, measurement, seed=3, batch_size=7)["logits"]
    images = CHANGES[change](shard.images, Randomness(3, shard.indices, ("study", change)))
    with torch.no_grad():
        np.testing.assert_allclose(found, classifier(images).numpy(), atol=1e-4)
        assert not np.allclose(found, classifier(shard.images).numpy(), atol=1e-2)


def test_what_was_wrong_stays_wrong_under_attack() -> None:
    classifier, shard = small_classifier().eval(), shard_of(60)
    measurement = Measurement.of("attacked", "mnist/test", 60)
    norms = measure_attacked(classifier, shard, measurement, seed=0, batch_size=60)["min_norm"]
    with torch.no_grad():
        right = (classifier(shard.images).argmax(1) == shard.labels).numpy()
    np.testing.assert_array_equal(norms == 0, ~right)
    assert ((norms == 0) | (norms <= 0.1 + 1e-6) | np.isinf(norms)).all()
    assert np.isfinite(norms[right]).any()


def page_of(better: float) -> Page:
    options = Options("fast", seeds=3)
    arms = [(arm.added, arm.share, arm.key) for arm in arms_of(replace(options, only=("rotate",)))]
    metrics = augmentation_property(SIZES).metrics
    measured = {key: results_of(number, better * (added == "rotate")) for number, (added, _, key) in enumerate(arms)}
    return make_page(options, arms, {key: metrics(results) for key, results in measured.items()})


def test_the_page_says_what_the_figures_say() -> None:
    page = page_of(better=0.4)
    json.dumps(page.figures, allow_nan=False)
    by_arm = {(arm["added"], arm["share"]): arm["figures"] for arm in page.figures["arms"]}
    assert by_arm["rotate", 100]["clean"]["value"] == 1.0
    assert by_arm["rotate", 100]["clean"]["survives"] == 1
    assert "survives" not in by_arm["duplicated", 100]["clean"]
    sentences = "\n".join(page.figures["sentences"])
    assert "clean: the gain over both controls survives for rotate (10, 20, 30, 100 %)." in sentences
    assert "At least 99 % on rotated images: 4 of 13 arms (rotate (10, 20, 30, 100 %))." in sentences
    assert "| rotate | 100 % | 100.00% ±0.00% ▲ |" in page.markdown
    assert by_arm["rotate", 100]["clean"]["deviation_over_seeds"] == 0.0
    assert by_arm["rotate", 100]["ece"]["survives"] == 0
    low, high = by_arm["duplicated", 10]["clean"]["interval_over_examples"]
    assert low < by_arm["duplicated", 10]["clean"]["value"] < high
    assert all(sentence.split(":")[0] in page.markdown for sentence in page.figures["sentences"])
    assert "clean: no gain survives both controls" in "\n".join(page_of(better=0.0).figures["sentences"])


def few_predictions(context: EvaluationContext) -> list[Measurement]:
    return [Measurement.of("predict", context.dataset, context.examples(context.dataset, 20))]


def right_answers(results: Results) -> list[Metric]:
    answers = predictions_of(results, few_predictions(results.context)[0])
    return [mean_of(CLEAN, answers.correct.astype(float), answers.examples)]


RIGHT = Property(
    name="right",
    title="Right answers",
    description="For tests.",
    plan=lambda context: Plan(few_predictions(context)),
    metrics=right_answers,
    functions={"predict": measure_predictions},
)


class Counting:
    """A study of three arms that counts what it trains, and may be stopped while it does."""

    def __init__(self, stop_at: str = "", data: str = "a") -> None:
        self.trained: list[str] = []
        self.stop_at = stop_at
        self.data = data
        self.study = Study("counting", "for tests", "fast", ("some", "more"), self.prepare, self.summarize)

    def prepare(self, _options: Options, _out: Path) -> Prepared:
        return Prepared(["one", "two", "three"], {"data": {"mnist/test": self.data}}, self.train, [RIGHT])

    def train(self, arm: str, stop: Callable[[], bool]) -> nn.Module:
        if arm == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            raise Stopped("stopped")
        self.trained.append(arm)
        return small_classifier()

    def summarize(self, _options: Options, found: Mapping[str, Measured], _study: Mapping[str, Any]) -> Page:
        figures = {arm: metric.compute(np.ones(metric.n)) for arm, ((metric,), _) in found.items()}
        return Page(figures, "a page\n")


OPTIONS = Options("fast", seeds=1)


def test_a_stopped_study_goes_on_at_the_arm_that_is_missing(tmp_path: Path) -> None:
    stopped = Counting(stop_at="two")
    with pytest.raises(Stopped):
        run_study(stopped.study, tmp_path / "run", OPTIONS)
    assert stopped.trained == ["one"]
    resumed = Counting()
    seen: list[Any] = []
    page = run_study(resumed.study, tmp_path / "run", OPTIONS, resume=True, report=seen.append)
    assert resumed.trained == ["two", "three"]
    assert [(it.done, it.arms, it.arm) for it in seen] == [(0, 2, "two"), (1, 2, "three"), (2, 2, "")]
    whole = Counting()
    assert run_study(whole.study, tmp_path / "whole", OPTIONS) == page
    for name in ("study.json", "study.md"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    card = Scorecard.read(tmp_path / "run" / "arms" / "two" / "scorecard.json")
    assert card.subject.name == "two"
    assert [(it.metric, it.value, it.n) for it in card.estimates] == [("clean", page.figures["two"], 20)]
    again = Counting()
    assert run_study(again.study, tmp_path / "run", OPTIONS, resume=True) == page
    assert again.trained == []


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        (replace(OPTIONS, seeds=2), "a", "a study with other options"),
        (replace(OPTIONS, budget="quick"), "a", "a study with other options"),
        (OPTIONS, "b", "a study with other datasets"),
    ],
)
def test_a_study_goes_on_with_the_same_options_and_data_only(
    tmp_path: Path, options: Options, data: str, message: str
) -> None:
    run_study(Counting().study, tmp_path / "run", OPTIONS)
    with pytest.raises(RunError, match=message):
        run_study(Counting(data=data).study, tmp_path / "run", options, resume=True)
    with pytest.raises(RunError, match="already holds a run"):
        run_study(Counting().study, tmp_path / "run", OPTIONS)


def test_damaged_records_are_named(tmp_path: Path) -> None:
    run_study(Counting().study, tmp_path / "run", OPTIONS)
    (records,) = (tmp_path / "run" / "arms" / "two" / "records").iterdir()
    records.write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"arms/two/records/.*\.parquet cannot be read"):
        run_study(Counting().study, tmp_path / "run", OPTIONS, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": ("mroe",)}, "unknown part of the study 'counting' 'mroe'; did you mean more"),
        ({"budget": "huge"}, "unknown budget 'huge'"),
        ({"seeds": 0}, "seeds 0"),
        ({"limit": 0}, "limit 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_study(Counting().study, tmp_path / "run", replace(OPTIONS, **changes))
    assert not (tmp_path / "run").exists()


def test_studies_are_known_by_their_names() -> None:
    for name, study in STUDIES.items():
        assert STUDIES.find(name) is study
        assert study.name == name
        assert study.description
    with pytest.raises(UsageError, match="unknown study 'augmentatio'; did you mean augmentation"):
        STUDIES.find("augmentatio")


def test_an_ensemble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an ensemble"):
        run_study(STUDIES.find("augmentation"), tmp_path / "run", Options("ensemble3"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_augmentation_study_trains_stops_resumes_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORTS, "quick", Effort(2560, 1, Sizes(60, 40, 10, 10, 40)))
    options = Options("fast", seeds=1, budget="quick", only=("mixup",))
    study = STUDIES.find("augmentation")
    run_study(study, tmp_path / "whole", options)

    def stopping(options: Options, out: Path) -> Prepared:
        prepared = study.prepare(options, out)

        def train(arm: str, stop: Callable[[], bool]) -> nn.Module:
            if arm == prepared.arms[3]:
                os.kill(os.getpid(), signal.SIGINT)
            return prepared.train(arm, stop)

        return prepared._replace(train=train)

    with pytest.raises(Stopped):
        run_study(replace(study, prepare=stopping), tmp_path / "run", options)
    assert len(list((tmp_path / "run" / "arms").iterdir())) == 3
    run_study(study, tmp_path / "run", options, resume=True)
    whole, resumed = ((tmp_path / name / "study.json").read_text() for name in ("whole", "run"))
    assert resumed == whole
