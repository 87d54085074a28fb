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
import polars as pl
import pytest
import torch

from hardy.augmentations import augment
from hardy.errors import RunError, UsageError
from hardy.metrics import auroc, ece
from hardy.models import Compact
from hardy.rng import Randomness
from hardy.studies import STUDIES, Options, Page, Study, get_study, run_study
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
from hardy.studies.augmentation_page import judge, make_page
from hardy.studies.conditions import FIGURES, Condition, Sizes, try_on
from hardy.studies.framework import Prepared
from hardy.studies.paired import RESAMPLES, Spread, gain, spreads
from hardy.training import Split, Stopped

IMAGES = 200
FIGURE = {figure.name: figure for figure in FIGURES}


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


def share_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda weights: float(values @ weights / weights.sum())


def test_a_constant_gain_has_no_width_however_much_seeds_and_examples_vary() -> None:
    rng = np.random.default_rng(0)
    trainings = [rng.normal(seed, 1.0, 50) for seed in range(3)]
    found = spreads(
        {"a": [share_of(it) for it in trainings], "b": [share_of(it + 0.25) for it in trainings]}, strata=[50]
    )
    assert found["a"].value == pytest.approx(np.mean(trainings))
    difference = gain(found["b"], found["a"])
    assert difference == pytest.approx((0.25, 0.25, 0.25))
    assert difference.direction == 1
    assert gain(found["a"], found["b"]).direction == -1
    assert gain(found["a"], found["a"]).direction == 0
    assert float(found["a"].resampled.std()) > 0.2


def test_the_interval_covers_both_kinds_of_chance() -> None:
    """Examples alone, seeds alone, and both: the standard errors of theory, and their variances add up."""
    rng = np.random.default_rng(1)
    examples, seeds = rng.normal(0.0, 1.0, 400), rng.normal(0.0, 0.1, 8)
    found = spreads(
        {
            "examples": [share_of(examples) for _ in seeds],
            "seeds": [share_of(np.full(400, seed)) for seed in seeds],
            "both": [share_of(examples + seed) for seed in seeds],
        },
        strata=[400],
    )
    error = {name: float(spread.resampled.std()) for name, spread in found.items()}
    assert error["examples"] == pytest.approx(examples.std() / 400**0.5, rel=0.15)
    assert error["seeds"] == pytest.approx(seeds.std() / 8**0.5, rel=0.15)
    assert error["both"] == pytest.approx(np.hypot(error["examples"], error["seeds"]), rel=0.15)


def test_arms_of_different_seeds_do_not_pair() -> None:
    with pytest.raises(ValueError, match="do not pair"):
        spreads({"a": [share_of(np.ones(3))], "b": [share_of(np.ones(3))] * 2}, strata=[3])


def spread(value: float) -> Spread:
    return Spread(value, np.full(RESAMPLES, value) + np.linspace(-0.01, 0.01, RESAMPLES))


@pytest.mark.parametrize(
    ("arm", "duplicated", "steps", "survives"),
    [(0.9, 0.8, 0.7, 1), (0.9, 0.8, 0.9, 0), (0.8, 0.7, 0.9, 0), (0.6, 0.7, 0.8, -1), (0.7, 0.7, 0.7, 0)],
)
def test_a_gain_survives_if_it_is_above_both_controls(
    arm: float, duplicated: float, steps: float, survives: int
) -> None:
    means = {("rotate", 10): spread(arm), ("duplicated", 10): spread(duplicated), ("steps", 10): spread(steps)}
    assert judge(FIGURE["clean"], means, ("rotate", 10)).survives == survives
    assert judge(FIGURE["ece"], means, ("rotate", 10)).survives == -survives


def records(seed: int, better: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    conditions = ["clean", "rotated", "noisy", "mnist-c/fog", "mnist-c/scale", "attacked", "foreign/a", "foreign/b"]
    parts = []
    for name in conditions:
        known = not name.startswith("foreign")
        parts.append(
            pl.DataFrame(
                {
                    "condition": name,
                    "index": np.arange(60),
                    "correct": rng.uniform(size=60) < 0.6 + better if known else None,
                    "score": rng.exponential(0.4 if known else 1.0, 60) if name != "attacked" else None,
                },
                schema={"condition": pl.String, "index": pl.Int64, "correct": pl.Boolean, "score": pl.Float64},
            )
        )
    return pl.concat(parts)


def test_figures_are_those_of_the_records() -> None:
    found, ones = records(0), np.ones(60)
    of = {name: rows for (name,), rows in found.group_by("condition")}
    correct = {name: rows["correct"].to_numpy() for name, rows in of.items()}
    score = {name: rows["score"].to_numpy() for name, rows in of.items()}
    for name in ("clean", "rotated", "noisy", "attacked"):
        assert FIGURE[name].compute(found)(ones) == pytest.approx(correct[name].mean())
    both = (correct["mnist-c/fog"].mean() + correct["mnist-c/scale"].mean()) / 2
    assert FIGURE["mnist_c"].compute(found)(ones) == pytest.approx(both)
    confidence = np.exp(-score["clean"])
    assert FIGURE["ece"].compute(found)(ones) == pytest.approx(ece(confidence, correct["clean"].astype(bool)))
    expected = np.mean([auroc(score["clean"], score[name]) for name in ("foreign/a", "foreign/b")])
    assert FIGURE["ood_auroc"].strata(found) == [60, 60, 60]
    assert FIGURE["ood_auroc"].compute(found)(np.ones(180)) == pytest.approx(expected)
    weights = np.random.default_rng(1).integers(0, 4, 180).astype(float)
    parts = np.split(weights, 3)
    expected = np.mean(
        [
            auroc(score["clean"], score[name], weights=np.concatenate([parts[0], part]))
            for name, part in (("foreign/a", parts[1]), ("foreign/b", parts[2]))
        ]
    )
    assert FIGURE["ood_auroc"].compute(found)(weights) == pytest.approx(expected)


def test_what_a_network_is_tried_on_becomes_records(digit_classifier: Compact, validation_digits: Split) -> None:
    indices = torch.arange(30)
    images = validation_digits.images[:30].float() / 255
    conditions = [
        Condition("clean", images, validation_digits.labels[:30], indices),
        Condition("foreign/a", 1 - images, None, indices),
    ]
    found = try_on(digit_classifier, conditions, 12, 0)
    assert found["condition"].to_list() == ["clean"] * 30 + ["foreign/a"] * 30 + ["attacked"] * 12
    with torch.no_grad():
        probabilities = digit_classifier(images).softmax(1)
    right = (probabilities.argmax(1) == validation_digits.labels[:30]).tolist()
    assert found["correct"].to_list()[:30] == right
    np.testing.assert_allclose(np.exp(-found["score"].to_numpy()[:30]), probabilities.amax(1), atol=1e-5)
    assert found["correct"].to_list()[30:60] == [None] * 30
    under_attack = found["correct"].to_list()[60:]
    assert all(right[place] or not stands for place, stands in enumerate(under_attack))


def page_of(better: float) -> Page:
    options = Options("fast", seeds=2)
    arms = [(arm.added, arm.share, arm.key) for arm in arms_of(replace(options, only=("rotate",)))]
    measured = {key: records(number, better * (added == "rotate")) for number, (added, _, key) in enumerate(arms)}
    return make_page(options, arms, measured)


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
    assert "| rotate | 100 % | 100.00% ▲ |" in page.markdown
    assert all(sentence.split(":")[0] in page.markdown for sentence in page.figures["sentences"])
    assert "clean: no gain survives both controls" in "\n".join(page_of(better=0.0).figures["sentences"])


class Counting:
    """A study of three arms that counts what it measures, and may be stopped while it does."""

    def __init__(self, stop_at: str = "", data: str = "a") -> None:
        self.measured: list[str] = []
        self.stop_at = stop_at
        self.data = data
        self.study = Study("counting", "for tests", "fast", ("some", "more"), self.prepare, self.summarise)

    def prepare(self, _options: Options) -> Prepared:
        return Prepared(["one", "two", "three"], {"data": {"mnist/test": self.data}}, self.measure)

    def measure(self, arm: str, stop: Callable[[], bool]) -> pl.DataFrame:
        if arm == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            raise Stopped("stopped")
        self.measured.append(arm)
        return pl.DataFrame({"arm": [arm], "value": [len(arm)]})

    def summarise(self, _options: Options, found: Mapping[str, pl.DataFrame]) -> Page:
        return Page({arm: it["value"][0] for arm, it in found.items()}, "a page\n")


OPTIONS = Options("fast", seeds=1)


def test_a_stopped_study_goes_on_at_the_arm_that_is_missing(tmp_path: Path) -> None:
    stopped = Counting(stop_at="two")
    with pytest.raises(Stopped):
        run_study(stopped.study, tmp_path / "run", OPTIONS)
    assert stopped.measured == ["one"]
    resumed = Counting()
    seen: list[Any] = []
    page = run_study(resumed.study, tmp_path / "run", OPTIONS, resume=True, report=seen.append)
    assert resumed.measured == ["two", "three"]
    assert [(it.done, it.arms, it.arm) for it in seen] == [(0, 2, "two"), (1, 2, "three"), (2, 2, "")]
    whole = Counting()
    assert run_study(whole.study, tmp_path / "whole", OPTIONS) == page
    for name in ("study.json", "study.md"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    again = Counting()
    assert run_study(again.study, tmp_path / "run", OPTIONS, resume=True) == page
    assert again.measured == []


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


def test_a_damaged_arm_is_named(tmp_path: Path) -> None:
    run_study(Counting().study, tmp_path / "run", OPTIONS)
    (tmp_path / "run" / "arms" / "two.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"two\.parquet cannot be read"):
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
        assert get_study(name) is study
        assert study.name == name
        assert study.description
    with pytest.raises(UsageError, match="unknown study 'augmentatio'; did you mean augmentation"):
        get_study("augmentatio")


def test_an_ensemble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an ensemble"):
        run_study(get_study("augmentation"), tmp_path / "run", Options("ensemble3"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_augmentation_study_trains_stops_resumes_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORTS, "quick", Effort(2560, 1, Sizes(60, 40, 10, 10, 40)))
    options = Options("fast", seeds=1, budget="quick", only=("mixup",))
    study = get_study("augmentation")
    run_study(study, tmp_path / "whole", options)

    def stopping(options: Options) -> Prepared:
        prepared = study.prepare(options)

        def measure(arm: str, stop: Callable[[], bool]) -> pl.DataFrame:
            if arm == prepared.arms[3]:
                os.kill(os.getpid(), signal.SIGINT)
            return prepared.measure(arm, stop)

        return prepared._replace(measure=measure)

    with pytest.raises(Stopped):
        run_study(replace(study, prepare=stopping), tmp_path / "run", options)
    assert len(list((tmp_path / "run" / "arms").iterdir())) == 3
    run_study(study, tmp_path / "run", options, resume=True)
    whole, resumed = ((tmp_path / name / "study.json").read_text() for name in ("whole", "run"))
    assert resumed == whole
