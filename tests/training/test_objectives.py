"""Objectives: how their weights run, how they add up, and what is refused before training."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear

from hardy.errors import UsageError
from hardy.rng import Randomness
from hardy.training import LOSSES, RECIPES, Batch, Objective, Recipe, Split, Weight, fit, register_loss
from hardy.training.losses import cross_entropy
from hardy.training.objectives import Term

PLAIN = Recipe("plain", "")
TRADES = {"eps": 0.3, "steps": 5, "step_size": 0.1, "beta": 2.0, "ramp": 0.3}
STUDY = Weight(steps=((1, 0.1), (3, 0.5), (3, 0.75)))


@pytest.mark.parametrize(
    ("weight", "values"),
    [
        (Weight(), [1, 1, 1, 1]),
        (Weight(2.0, ramp=0.5), [0, 1, 2, 2]),
        # The study's: 0.1 for an epoch, 0.5 for three, 0.75 for three; here asked in the middle of four of its seven.
        (STUDY, [0.1, 0.5, 0.5, 0.75]),
    ],
)
def test_a_weight_is_constant_or_grows_or_steps(weight: Weight, values: list[float]) -> None:
    epochs = 7
    places = [0.0, 0.25, 0.5, 1.0] if not weight.steps else [0.5 / 7, 1.0 / 7, 3.9 / 7, 6.5 / 7]
    assert [weight.at(place, epochs) for place in places] == pytest.approx(values)
    assert weight.at(1.0, epochs) == values[-1]


def test_objectives_add_up_by_their_weights_and_one_of_weight_zero_is_not_computed(
    some_digits: Split, validation_digits: Split, quick: Recipe
) -> None:
    model = seeded_linear(3, 6)
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(4) % 3, Randomness(0, torch.arange(4)), 0.25)
    found = Term(Objective("cross_entropy", {}, Weight(3.0, ramp=0.5)), 4, 0.0)(model, batch)
    torch.testing.assert_close(found, 1.5 * cross_entropy(model, batch))

    calls = []

    @register_loss("spy")
    def spy(model, batch):
        calls.append(batch.progress)
        return cross_entropy(model, batch)

    try:
        some_digits, validation_digits = (
            Split(it.images[:200], it.labels[:200]) for it in (some_digits, validation_digits)
        )
        once = replace(
            quick, batch_size=50, epochs=2, model_arguments={"width": 2}, objectives=(Objective("cross_entropy"),)
        )
        half = Weight(steps=((1, 0.0), (1, 1.0)))
        both = replace(once, objectives=(Objective("cross_entropy", {}, Weight(0.5)), Objective("spy", {}, half)))
        fit(both, some_digits, validation_digits, 10, seed=0)
        assert calls == [0.5, 0.625, 0.75, 0.875]
        # Two halves of a loss are that loss.
        halves = tuple(Objective(name, {}, Weight(0.5)) for name in ("cross_entropy", "spy"))
        whole, parts = (
            fit(it, some_digits, validation_digits, 10, seed=0).history
            for it in (once, replace(once, objectives=halves))
        )
        assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
    finally:
        LOSSES.remove("spy")


def test_objectives_are_typed_in() -> None:
    text = json.dumps(["cross_entropy", {"loss": "trades", "settings": TRADES, "weight": 0.5}])
    recipe = PLAIN.with_settings({"objectives": text})
    assert recipe.objectives == (Objective("cross_entropy"), Objective("trades", TRADES, Weight(0.5)))
    changed = recipe.with_settings(
        {"trades.eps": "0.2", "trades.norm": "l2", "trades.weight": '{"steps": [[1, 0.1], [3, 0.5], [3, 0.75]]}'}
    )
    assert changed.objectives[1] == Objective("trades", TRADES | {"eps": 0.2, "norm": "l2"}, STUDY)
    assert Recipe.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_recipes_stored_with_a_single_loss_are_read() -> None:
    old = RECIPES["trades"].to_dict()
    del old["objectives"], old["joint"]
    stored = old | {"loss": "trades", "loss_settings": TRADES}
    assert Recipe.from_dict(stored) == RECIPES["trades"]
    pair = {**stored, "members": [stored, stored]}
    assert Recipe.from_dict(pair).members == (RECIPES["trades"],) * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": "cross_entropy"}, "objectives is a JSON list"),
        ({"objectives": "[1]"}, "objective 1: it is a loss's name, or a mapping"),
        ({"objectives": '[{"loss": "trades", "wieght": 1}]'}, "it is a loss's name, or a mapping"),
        ({"objectives": '[{"loss": "trades", "weight": "much"}]'}, "its weight is 'much'; it is a number, or"),
        ({"objectives": '[{"loss": "trades", "weight": {"steps": [1]}}]'}, "with steps, pairs of epochs and weight"),
        ({"trads.eps": "1"}, "unknown objective 'trads'"),
    ],
)
def test_what_is_no_objective_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PLAIN.with_settings(settings)


def of(loss: str, settings: dict[str, Any], **weight: Any) -> Objective:
    return Objective(loss, settings, Weight(**weight))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ()}, "the recipe has no objectives"),
        (
            {"objectives": (of("trades", TRADES | {"steps": 0}),)},
            "loss 'trades': steps is 0, so that there would",
        ),
        ({"objectives": (of("eat", {"steps": 0}),)}, "loss 'eat': steps is 0"),
        ({"objectives": (of("free", {"eps": 0.3, "replays": 0}),)}, "loss 'free': replays is 0"),
        ({"objectives": (of("trades", TRADES | {"ramp": 1.5}),)}, "ramp is 1.5: eps would still be growing at the end"),
        ({"objectives": (of("trades", TRADES | {"eps": 8}),)}, "linf radius is above 1; .* if you mean 8/255"),
        ({"objectives": (of("trades", TRADES | {"norm": "l3"}),)}, "unknown norm 'l3'"),
        ({"objectives": (of("trades", TRADES | {"norm": "l0", "eps": 5}),)}, "loss 'trades' has no step in l0"),
        ({"objectives": (of("eat", {"linf": 0.0, "l2": 0.0, "l1": 0.0}),)}, "every radius is 0"),
        ({"objectives": (of("cross_entropy", {}, value=0.0),)}, "all objectives have weight 0"),
        ({"objectives": (of("cross_entropy", {}, value=-1.0),)}, "a weight is a finite number from 0 up"),
        ({"objectives": (of("cross_entropy", {}, ramp=2.0),)}, "the ramp of its weight is 2; it is a share"),
        (
            {"objectives": (of("cross_entropy", {}, steps=((9, 0.1), (1, 0.5))),)},
            "training ends after 2 epochs",
        ),
        (
            {"objectives": (of("cross_entropy", {}), of("free", {"eps": 0.3, "replays": 4}))},
            r"\[1, 4\] times in a row; give all the same replays",
        ),
        (
            {"objectives": (of("mart", TRADES),), "augmentation": {"mixup": {"alpha": 1.0}}},
            "loss 'mart' needs one label per image, and augmentation mixes them; leave out mixup",
        ),
    ],
)
def test_objectives_that_cannot_be_trained_by_are_refused_with_the_reason(
    quick: Recipe, some_digits: Split, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit(replace(quick, **changes), some_digits, some_digits, 10, seed=0)
