"""Distrust in an evaluation: masks are warned of beside their figures, and the worst of all that was tried is shown."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cheap import tiny
from helpers.classifiers import rounded_classifier, seeded_linear, small_classifier, some_digits
from torch import Tensor, nn

import hardy
from hardy.attacks.masking import Signs
from hardy.data import load_dataset
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import EvaluationContext, Measurement, Memo, Results, Shard
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.adversarial.masking import masking_of, masking_warnings, measure_masking
from hardy.evaluation.properties.adversarial.measure import (
    masking_measurements,
    radii,
    simple_measurements,
    standard_measurements,
)
from hardy.evaluation.records import frame
from hardy.evaluation.scorecard import Estimate, Scorecard

COUNT = 16
_SETTINGS = {**tiny("quick").attack_settings, "pgd": {"steps": 20, "rel_step_size": 0.1}}
QUICK = replace(tiny("quick"), name="here", attack_settings=_SETTINGS, around_queries=50)


def evaluated(classifier: nn.Module) -> Scorecard:
    images, labels, _ = some_digits(COUNT)
    return hardy.evaluate(classifier, (images, labels), properties=["adversarial"], budget=QUICK, progress=False)


def test_a_mask_is_marked_beside_each_figure_and_the_worst_case_leads() -> None:
    card = evaluated(rounded_classifier())
    assert any("gradient is exactly zero" in warning for warning in card.warnings)
    worst = card["adversarial/robust_accuracy"]
    assert worst.setting["attack"] == "worst of all"
    alone = card.find("adversarial", "robust_accuracy", attack="standard", eps=worst.setting["eps"], norm="linf")
    assert float(worst) <= 0.1 < 0.5 < float(alone)
    assert not alone.headline
    assert any("standard alone leaves" in words for words in worst.warnings)
    for it in card.estimates:
        suspect = it.value > 0 and it.setting["attack"] not in ("noise", "salt-and-pepper")
        assert bool(it.warnings) == suspect or it is worst, it


def test_an_honest_classifier_is_not_suspected() -> None:
    for classifier in (small_classifier(), nn.Sequential(small_classifier(), Scale(20.0))):
        card = evaluated(classifier)
        assert not [warning for warning in card.warnings if "adversarial" in warning]
        assert not any(it.warnings for it in card.estimates)
        assert card["adversarial/robust_accuracy"].setting["attack"] == "standard"


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: Tensor) -> Tensor:
        return self.by * logits


def test_norm_and_radii_are_those_that_were_asked_for_else_the_usual_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20, 3, 4, 4, generator=generator)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    labels = classifier(images).argmax(1)

    def asked(**settings: object) -> list[Estimate]:
        card = hardy.evaluate(
            classifier,
            (images, labels),
            properties=["adversarial"],
            budget=replace(tiny("quick"), standard_norms=("linf", "l2")),
            progress=False,
            **settings,  # type: ignore[arg-type]
        )
        return card.estimates

    usual = {(it.setting["norm"], it.setting["eps"]) for it in asked() if it.headline}
    assert usual == {("linf", 8 / 255), ("l2", 0.0625)}
    given = asked(norm="l2", eps=["1/4", 0.1])
    assert {it.setting["norm"] for it in given} == {"l2"}
    assert {it.setting["eps"] for it in given if it.headline} == {0.1, 0.25}
    assert {it.setting["attack"] for it in given} >= {"pgd", "fast-gradient", "deepfool", "standard"}
    assert {it.setting["eps"] for it in asked(eps="8/255") if it.headline} == {8 / 255}


def test_the_surrogate_belongs_to_one_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of one evaluation share it, another evaluation trains its own, and none outlives its evaluation."""
    alive: list[weakref.ref[nn.Module]] = []

    def trained(*_: object) -> nn.Module:
        surrogate = small_classifier().eval()
        alive.append(weakref.ref(surrogate))
        return surrogate

    monkeypatch.setattr("hardy.evaluation.properties.adversarial.measure._surrogate", trained)
    images, labels, indices = some_digits(4)
    classifier = small_classifier().eval()
    sizes, budget = {"mnist/test": 4}, replace(tiny("standard"), surrogate=True)
    (measurement,) = masking_measurements(EvaluationContext("mnist/test", None, (), {}, sizes, 10, budget))
    for expected in (1, 2):
        memo = Memo()
        for half in (slice(0, 2), slice(2, 4)):
            shard = Shard(images[half], labels[half], indices[half], memo=memo)
            measure_masking(classifier, shard, measurement, seed=0, batch_size=4)
        assert len(alive) == expected
    del memo, shard
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


class TestOnRecords:
    """Records made by hand: every image falls to PGD and to the suite at a twentieth of the first radius."""

    context = EvaluationContext("mnist/test", None, (), {}, {"mnist/test": 100}, 10, BUDGETS["standard"], limit=100)
    labels = np.arange(100) % 10

    def results(
        self, changed: dict[Measurement, dict[str, np.ndarray]] | None = None, labels: np.ndarray | None = None
    ) -> Results:
        labels = self.labels if labels is None else labels
        records = {}
        for it in [*simple_measurements(self.context), *standard_measurements(self.context)]:
            columns = {"norm": np.full(100, radii(it)[0] / 20)}
            if it.settings["attack"] == "standard":
                columns |= {name: np.zeros(100, bool) for name in Signs._fields} | {"around": np.full(100, np.inf)}
                columns["right"] = np.ones(100, bool)
            records[it] = frame(np.arange(100), labels, columns | (changed or {}).get(it, {}))
        for it in masking_measurements(self.context):
            falls = ("many_steps", "one_step", "smoothed", "black_box", "transfer")
            columns = {name: np.full(100, name == "many_steps") for name in falls}
            records[it] = frame(np.arange(100), labels, columns | (changed or {}).get(it, {}))
        return Results(self.context, records, load_dataset, 0)

    def of(self, attack: str, norm: str) -> Measurement:
        measured = [*simple_measurements(self.context), *standard_measurements(self.context)]
        return next(it for it in measured if (it.settings["attack"], it.settings["norm"]) == (attack, norm))

    def test_nothing_is_suspected_where_everything_falls(self) -> None:
        assert masking_warnings(self.results()) == []

    @pytest.mark.parametrize(
        ("name", "words"),
        [("one_step", "one step"), ("smoothed", "smoothed"), ("black_box", "Square"), ("transfer", "another network")],
    )
    def test_what_forty_steps_miss_is_a_sign(self, name: str, words: str) -> None:
        (measurement,) = masking_measurements(self.context)
        columns = {"many_steps": np.zeros(100, bool), name: np.ones(100, bool)}
        (warning,) = masking_warnings(self.results({measurement: columns}))
        assert words in warning

    def test_to_stand_where_every_image_can_be_made_gray_is_a_sign_but_of_the_largest_class(self) -> None:
        standing = {self.of("pgd", "linf"): {"norm": np.where(np.arange(100) < 80, np.inf, 0.1)}}
        words = " ".join(masking_warnings(self.results(standing)))
        assert "80 of 100 images stand at 0.5, where every image can be made gray; the largest class has 10" in words
        one_class = np.where(np.arange(100) < 80, 0, 1)
        weaker = {it: {"norm": np.full(100, np.inf)} for it in self.results().records if "norm" in it.settings}
        alone = standing | {it: columns for it, columns in weaker.items() if it.settings.get("attack") != "pgd"}
        alone = {it: columns for it, columns in alone.items() if it.function == "attack"}
        assert "stand at" not in " ".join(masking_warnings(self.results(alone, one_class)))

    def test_what_a_weaker_attack_or_one_in_a_smaller_ball_breaks_must_not_stand(self) -> None:
        robust = {"norm": np.full(100, np.inf)}
        suite = self.of("standard", "linf")
        found = masking_of(self.results({suite: robust})).of
        assert list(found) == [suite]
        assert "standard in linf at 0.3 leaves 100 of 100 images standing that" in found[suite][0]
        # In linf a ball of 0.3 holds that of 0.015 in l2, but in l2 one of 2 does not hold that of 0.3 in linf.
        others = {self.of(*names): robust for names in (("pgd", "linf"), ("fast-gradient", "linf"))}
        (*_, said) = masking_of(self.results({suite: robust} | others)).of[suite]
        assert "in l2 broke inside that ball" in said
        l2 = [it for it in self.results().records if it.settings["norm"] in ("l2", "l1") and it.function == "attack"]
        far = {it: {"norm": np.full(100, 1.5)} for it in l2}
        assert masking_of(self.results(far)).of == {}

    def test_the_worst_of_all_is_taken_image_by_image(self) -> None:
        suite, place = self.of("standard", "linf"), np.arange(100)
        signs = {
            "norm": np.where(place < 10, 0.01, np.inf),
            "around": np.where(place < 40, 0.2, np.inf),
            "zero_gradient": place >= 10,
        }
        other = {"norm": np.where(place < 60, 0.25, np.inf)}
        quiet = {it: {"norm": np.full(100, np.inf)} for it in self.results().records if it.function == "attack"}
        (masking,) = masking_measurements(self.context)
        few = {"many_steps": place == 99}
        measured = quiet | {suite: signs, self.of("pgd", "linf"): other, masking: few}
        shown = [
            estimate("adversarial", metric, 0)
            for metric in PROPERTIES["adversarial"].metrics(self.results(measured))
            if metric.setting["norm"] == "linf" and metric.setting["eps"] == 0.3
        ]
        by_attack = {it.setting["attack"]: it for it in shown if it is not None}
        assert by_attack["worst of all"].value == 0.39
        assert by_attack["standard"].value == 0.9
        assert by_attack["pgd"].value == 0.4
        assert by_attack["worst of all"].headline
        assert not by_attack["standard"].headline
        assert all("gradients seem to be masked" in by_attack[name].warnings[0] for name in by_attack)


def test_a_classifier_without_any_gradient_is_measured_all_the_same() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = seeded_linear(3, 6)

        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return self.inner((4 * images).long() / 4.0)

    images = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = Sorted()(images).argmax(1)
    card = hardy.evaluate(
        Sorted(), (images, labels), properties=["adversarial"], budget=QUICK, progress=False, eps=0.05
    )
    assert any("gradient is exactly zero" in warning for warning in card.warnings)
    assert card["adversarial/robust_accuracy"].warnings
