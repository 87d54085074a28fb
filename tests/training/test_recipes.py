"""Recipes: every named one can be trained and stored, and what is typed in is checked."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, get_args, get_type_hints

import pytest

from hardy.corruptions import CORRUPTIONS, PUBLISHED
from hardy.errors import UsageError
from hardy.models import build_model, parameter_count
from hardy.training import Recipe
from hardy.training.recipes import RECIPES, register_recipe

PLAIN = Recipe("plain", "for tests")
PAIR = Recipe("pair", "for tests", members=(PLAIN, dataclasses.replace(PLAIN, name="other", epochs=7)))


def test_the_studys_ensembles_have_its_size_and_training() -> None:
    for name in ("ensemble3", "ensemble3-relu", "ensemble3-an"):
        architecture = RECIPES.find(name).architecture(10)
        assert parameter_count(build_model(architecture["name"], **architecture["arguments"])) == 4_546_332
    assert [network.model for network in RECIPES["ensemble5"].networks[:3]] == ["kernel3", "kernel5", "kernel7"]
    assert all(1 <= network.epochs <= 5 for network in RECIPES["ensemble5"].networks)
    assert {network.model_arguments["activation"] for network in RECIPES["ensemble3-relu"].networks} == {"relu"}
    assert {network.model_arguments["activation"] for network in RECIPES["ensemble3"].networks} == {"gelu"}


def test_an_et_al_are_followed() -> None:
    for network in RECIPES["ensemble3-an"].networks:
        assert (network.optimizer, network.learning_rate, network.schedule, network.decay) == (
            "adam",
            1e-3,
            "exponential",
            0.98,
        )
        assert (network.epochs, network.batch_size, network.averaging) == (150, 120, 0.999)
        assert network.augmentation == {"rotate": {"degrees": 20}, "translate": {"fraction": 0.2}}


def test_augmented_trains_on_none_of_the_corruptions_it_is_measured_on() -> None:
    steps = RECIPES["augmented"].augmentation
    inner = {name for key, settings in steps.items() if key.startswith("one_of") for name in settings}
    used = {*steps, *inner}
    assert used & {"impulse_noise", "rotate", "translate", "scale", "shear", "augmix"} == set()
    geometry = steps["affine"]
    default = {name: CORRUPTIONS[name].settings[CORRUPTIONS[name].default - 1] for name in PUBLISHED}
    assert math.radians(geometry["degrees"]) < default["rotate"]["radians"]
    assert math.radians(geometry["shear"]) < default["shear"]["radians"]
    assert 28 * geometry["fraction"] < default["translate"]["pixels"]
    assert 1 - geometry["scale"] > 1 / default["scale"]["factor"]


def test_an_unknown_recipe_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'compct'; did you mean compact"):
        RECIPES.find("compct")


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "3", 3),
        ("learning_rate", "1e-2", 0.01),
        ("weight_decay", "0", 0.0),
        ("optimizer", "sgd", "sgd"),
        ("schedule", "cosine", "cosine"),
        ("precision", "float32", "float32"),
        ("model", "cnn", "cnn"),
        ("model_arguments", '{"width": 8}', {"width": 8}),
        ("augmentation", '{"shift": {"pixels": 2}}', {"shift": {"pixels": 2}}),
        ("augmentation", "{}", {}),
    ],
)
def test_typed_in_settings_replace_fields_by_values_of_their_type(key: str, text: str, value: Any) -> None:
    changed = PLAIN.with_settings({key: text})
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(PLAIN, key)}) == PLAIN


def test_every_field_but_name_description_and_members_can_be_set() -> None:
    hints = get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        value = getattr(PLAIN, field.name)
        text = value if isinstance(value, str) else json.dumps(PLAIN.to_dict()[field.name])
        if field.name in ("name", "description", "members", "joint"):
            with pytest.raises(UsageError, match=f"unknown setting '{field.name}'"):
                PLAIN.with_settings({field.name: text})
        else:
            assert PLAIN.with_settings({field.name: text}) == PLAIN
            for choice in get_args(hints[field.name]) if isinstance(value, str) else ():
                assert getattr(PLAIN.with_settings({field.name: choice}), field.name) == choice


def test_settings_of_an_ensemble_go_to_every_member() -> None:
    changed = PAIR.with_settings({"batch_size": "64", "epochs": "2"})
    assert [(network.name, network.batch_size, network.epochs) for network in changed.networks] == [
        ("plain", 64, 2),
        ("other", 64, 2),
    ]
    assert changed.name == "pair"
    assert PAIR.with_settings({}) is PAIR
    with pytest.raises(UsageError, match="epochs is 0"):
        PAIR.with_settings({"epochs": "0"})


def test_an_ensembles_architecture_is_that_of_its_members() -> None:
    member = {"name": "compact", "arguments": {"classes": 4}}
    assert PAIR.architecture(4) == {"name": "ensemble", "arguments": {"members": [member, member]}}
    assert PLAIN.architecture(4) == member
    assert PLAIN.networks == (PLAIN,)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("epoch", "3", "unknown setting 'epoch'; did you mean epochs"),
        ("epochs", "3.5", "--set epochs=3.5: epochs is a whole number"),
        ("epochs", "", "epochs is a whole number"),
        ("learning_rate", "fast", "--set learning_rate=fast: learning_rate is a number"),
        ("optimizer", "adma", "unknown value of optimizer 'adma'; did you mean adam"),
        ("model_arguments", "[1]", "model_arguments is a JSON object"),
        ("model_arguments", "{width: 3}", "model_arguments is a JSON object"),
        ("augmentation", '{"shift": {}}', "'shift': missing a required argument: 'pixels'"),
        ("augmentation", '{"shift": 1}', "augmentation 'shift': "),
        ("epochs", "0", "epochs is 0; it lies from 1 to 10000"),
        ("batch_size", "1", "batch_size is 1; it lies from 2"),
        ("learning_rate", "-0.1", "learning_rate is -0.1; it lies from 0 to 100"),
        ("learning_rate", "nan", "learning_rate is nan"),
        ("gradient_clip", "inf", "gradient_clip is inf"),
        ("warm_up", "1.5", "warm_up is 1.5; it lies from 0 to 1"),
        ("averaging", "1", "averaging is 1;"),
        ("label_smoothing", "1", "label_smoothing is 1;"),
    ],
)
def test_typed_in_settings_that_make_no_sense_are_refused(key: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PLAIN.with_settings({key: text})


def test_bounds_hold_for_recipes_in_python_too() -> None:
    with pytest.raises(UsageError, match="recipe 'mine': epochs is 0"):
        Recipe("mine", "", epochs=0)


def test_a_users_recipe_is_known_by_its_name() -> None:
    mine = dataclasses.replace(PLAIN, name="mine")
    try:
        assert register_recipe(mine) is mine
        assert RECIPES.find("mine") is mine
        with pytest.raises(UsageError, match="there is a recipe 'mine' already; choose another name"):
            register_recipe(mine)
    finally:
        RECIPES.remove("mine")
