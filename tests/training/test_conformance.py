"""What every registered loss and recipe has to keep."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear
from torch import nn

from hardy.models import MODELS, Compact, build_model, parameter_count
from hardy.rng import Randomness
from hardy.training import LOSSES, RECIPES, Batch, Recipe
from hardy.training.loop import check_suits
from hardy.training.losses import cross_entropy
from hardy.validation import check_settings

SETTINGS: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "adversarial": {"eps": 0.2, "steps": 2, "step_size": 0.1},
    "free": {"eps": 0.2, "replays": 2},
    "trades": {"eps": 0.2, "steps": 4, "step_size": 0.1, "beta": 3.0, "ramp": 0.5},
    "mart": {"eps": 0.2, "steps": 2, "step_size": 0.1, "beta": 3.0},
    "interval": {"eps": 0.1, "ramp": 0.5},
    "guaranteed_exposure": {"source": "synthetic", "eps": 0.1, "ramp": 0.5},
    "randomized_smoothing": {"deviation": 0.25},
    "consistency": {},
    "views": {"augmentation": {"shift": {"pixels": 1}}},
    "exposure": {"source": "synthetic"},
    "energy_margin": {"source": "synthetic"},
    **{name: {"steps": 3} for name in ("eat", "worst_norm", "mean_norm", "msd")},
}
# With these the loss is the cross-entropy of images that do not depend on the labels, and something without labels.
STILL: dict[str, dict[str, Any]] = {
    "adversarial": {"eps": 0.0},
    "free": {"eps": 0.0},
    "randomized_smoothing": {"deviation": 0.0},
    "views": {"augmentation": {}},
    **{name: {"linf": 1e-9, "l2": 0.0, "l1": 0.0} for name in ("eat", "worst_norm", "mean_norm", "msd")},
}

UNLABELED = {"consistency", "exposure", "energy_margin", "guaranteed_exposure"}
losses = pytest.mark.parametrize("name", LOSSES)
labeled = pytest.mark.parametrize("name", [name for name in LOSSES if name not in UNLABELED])
recipes = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def batch(count: int = 6, side: int = 28) -> Batch:
    images = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))
    rng = Randomness(0, torch.arange(count), ("training", 0))
    return Batch(images, torch.arange(count) % 3, rng, 1.0, images.flip(2))


@losses
def test_a_loss_is_one_repeatable_number_that_trains_everything_and_leaves_modes_alone(name: str) -> None:
    def network_of_mixed_modes() -> Compact:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = Compact(width=4).train()
        made.features[2].eval()
        return made

    assert name in SETTINGS, "add settings for the new loss to SETTINGS"
    function = LOSSES[name].function
    model = network_of_mixed_modes()
    modes = [module.training for module in model.modules()]
    images = batch().images.clone()
    loss = function(model, batch(), **SETTINGS[name])
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert [key for key, it in model.named_parameters() if it.grad is None or not it.grad.isfinite().all()] == []
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(batch().images, images)
    assert torch.equal(function(network_of_mixed_modes(), batch(), **SETTINGS[name]), loss)


@losses
def test_a_loss_smooths_the_labels_that_it_takes_and_has_a_docstring(name: str) -> None:
    smoothing = {} if name in UNLABELED else {"label_smoothing": 0.1}
    check_settings(name, LOSSES[name].function, SETTINGS[name] | smoothing)
    assert LOSSES[name].function.__doc__


@pytest.mark.parametrize("name", [it for it, loss in LOSSES.items() if it not in UNLABELED and not loss.hard_labels])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_weigh_the_cross_entropy_of_each_class(name: str, smoothing: float) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    settings = SETTINGS[name] | STILL.get(name, {}) | {"label_smoothing": smoothing}
    loss = LOSSES[name].function(model, replace(given, targets=soft), **settings)
    # A loss is linear in its targets, so that of soft labels is the mean over the hard ones.
    hard = [
        cross_entropy(model, Batch(image[None], torch.tensor([label]), given.rng, 1.0), label_smoothing=smoothing)
        for image in given.images
        for label in range(3)
    ]
    rest = LOSSES[name].function(model, given, **settings) - cross_entropy(model, given, label_smoothing=smoothing)
    torch.testing.assert_close(loss - rest, (torch.stack(hard).reshape(6, 3) * soft).sum(1).mean())


@labeled
def test_one_hot_labels_are_labels(name: str) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    one_hot = nn.functional.one_hot(given.targets, 3).float()
    loss = LOSSES[name].function(model, replace(given, targets=one_hot), **SETTINGS[name])
    torch.testing.assert_close(loss, LOSSES[name].function(model, given, **SETTINGS[name]))


@recipes
def test_a_recipe_survives_json_and_builds_its_networks(recipe: Recipe) -> None:
    assert RECIPES[recipe.name] is recipe
    assert recipe.description
    stored = recipe.to_dict()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert Recipe.from_dict(stored) == recipe
    architecture = json.loads(json.dumps(recipe.architecture(10)))
    model = build_model(architecture["name"], **architecture["arguments"])
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    assert parameter_count(model) > 0
    assert {network.model for network in recipe.networks} <= MODELS.keys()
    assert len({network.name for network in recipe.networks}) == len(recipe.networks)


@recipes
def test_a_recipe_suits_digits(recipe: Recipe) -> None:
    digits = torch.zeros(55_000, 1, 28, 28, dtype=torch.uint8)
    for network in recipe.networks:
        check_suits(network, digits, 10)


def test_the_recipes_use_every_loss() -> None:
    used = {objective.loss for recipe in RECIPES.values() for it in recipe.networks for objective in it.objectives}
    assert used == LOSSES.keys()
