"""The networks of the study: how each is trained, and which parts of the study look at it.

An ensemble is not trained: its members are, once each, and several ensembles share them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from hardy.evaluation.budget import BudgetName
from hardy.studies.mlss.measured import Sizes
from hardy.training import Recipe
from hardy.training.objectives import Objective, Weight
from hardy.training.recipes import RECIPES

Part: TypeAlias = Literal["attacks", "calibration", "detection", "architecture", "augmentation", "hardened"]
PARTS: tuple[Part, ...] = ("attacks", "calibration", "detection", "architecture", "augmentation", "hardened")
OUTLIERS = "fashion-mnist/train"
"""What the study exposed its networks to."""

_GELU = ("kernel3", "kernel5", "kernel7")
_SHALLOW = ("kernel3-shallow", "kernel5-shallow")
_RELU = tuple(f"{name}-relu" for name in _GELU)
_ADVERSARIAL_EPS = 0.3
# The study: weight 0.1 for one epoch, 0.5 for three, 0.75 for three.
_THEIR_STEPS = ((1.0, 0.1), (3.0, 0.5), (3.0, 0.75))


class Effort(NamedTuple):
    """What a budget is spent on.

    Attributes:
        images: that are trained on.
        epochs: of the study's networks, which trained for one to five.
        hardened_epochs: of the recipes that are trained against attacks; None is as many as theirs.
        sizes: how many images are measured on.
    """

    images: int
    epochs: int
    hardened_epochs: int | None
    sizes: Sizes


EFFORTS: dict[BudgetName, Effort] = {
    "quick": Effort(20_000, 1, 4, Sizes(2000, 50, 500, 100, 500, 100)),
    "standard": Effort(55_000, 3, None, Sizes(10_000, 200, 2000, 500, 2000, 300)),
    "full": Effort(55_000, 5, None, Sizes(10_000, 1000, 10_000, 1000, 10_000, 1000)),
}


@dataclass(frozen=True)
class Network:
    """A column of the study's tables.

    Attributes:
        key: its name, also of its folder.
        parts: the parts of the study that measure it.
        recipe: how it is trained, without how long; None of an ensemble.
        members: keys of the networks that an ensemble is made of.
        epochs: how long, where that is not the study's one to five: a number, or ``hardened``.
        random: whether it answers differently each time.
    """

    key: str
    parts: frozenset[Part]
    recipe: Recipe | None = None
    members: tuple[str, ...] = ()
    epochs: int | Literal["study", "hardened"] = "study"
    random: bool = False


def _network(key: str, recipe: Recipe, *parts: Part, **more: object) -> Network:
    return Network(key, frozenset(parts), replace(recipe, name=key), **more)  # type: ignore[arg-type]


def _with_relu(recipe: Recipe) -> Recipe:
    return replace(recipe, model_arguments={"activation": "relu"})


def _exposed(name: str, ending: str, source: str) -> Network:
    recipe = RECIPES[name]
    exposure = Objective("exposure", {"source": source}, Weight(0.5))
    exposed = replace(recipe, objectives=(*recipe.objectives, exposure))
    return _network(f"{name}-{ending}", exposed, "detection", "architecture")


def _there(key: str, steps: int, step_size: float) -> Network:
    """An adversarial training as the study did it, on its small network."""
    search = {"eps": _ADVERSARIAL_EPS, "steps": steps, "step_size": step_size}
    objectives = (Objective("cross_entropy"), Objective("adversarial", search, Weight(steps=_THEIR_STEPS)))
    return _network(key, replace(RECIPES["cnn"], objectives=objectives), "attacks", epochs=7)


def _right(key: str, steps: int, step_size: float) -> Network:
    """The same on adversarial images alone, with a radius that grows over the first third, and twice as long."""
    search = {"eps": _ADVERSARIAL_EPS, "steps": steps, "step_size": step_size, "ramp": 0.3}
    return _network(key, replace(RECIPES["cnn"], objectives=(Objective("adversarial", search),)), "attacks", epochs=14)


def _sgd(key: str, **arguments: bool) -> Network:
    """The CNN as the tutorials of that time train it: plain steps of gradient descent, no averaging."""
    recipe = replace(
        RECIPES["cnn"],
        optimizer="sgd",
        learning_rate=2e-3,
        schedule="constant",
        weight_decay=0.0,
        averaging=0.0,
        batch_size=64,
        model_arguments=arguments,
    )
    return _network(key, recipe, "attacks", random=bool(arguments), epochs=1)


def _left_on() -> Network:
    recipe = replace(RECIPES["cnn"], model_arguments={"dropout_left_on": True})
    return _network("cnn-dropout-left-on", recipe, "attacks", random=True)


def _ensemble(key: str, members: tuple[str, ...], *parts: Part) -> Network:
    return Network(key, frozenset(parts), members=members)


_EVERYWHERE: tuple[Part, ...] = ("attacks", "calibration", "detection", "architecture", "augmentation")
_SINGLE: tuple[Part, ...] = ("calibration", "architecture", "augmentation")

NETWORKS: dict[str, Network] = {
    network.key: network
    for network in (
        _network("cnn", RECIPES["cnn"], *_EVERYWHERE),
        *(_network(name, RECIPES[name], *_SINGLE) for name in (*_GELU, *_SHALLOW)),
        *(_network(f"{name}-relu", _with_relu(RECIPES[name]), "architecture") for name in _GELU),
        _ensemble("ensemble", _GELU, *_EVERYWHERE),
        _ensemble("ensemble5", (*_GELU, *_SHALLOW), *_EVERYWHERE),
        _ensemble("ensemble-relu", _RELU, "attacks", "calibration", "architecture", "augmentation"),
        *(_exposed(name, "oe", OUTLIERS) for name in (*_GELU, *_SHALLOW)),
        _ensemble("ensemble-oe", tuple(f"{name}-oe" for name in _GELU), "detection", "architecture"),
        _ensemble("ensemble5-oe", tuple(f"{name}-oe" for name in (*_GELU, *_SHALLOW)), "detection", "architecture"),
        *(_exposed(name, "oe-synthetic", "synthetic") for name in _GELU),
        _ensemble(
            "ensemble-oe-synthetic", tuple(f"{name}-oe-synthetic" for name in _GELU), "detection", "architecture"
        ),
        _left_on(),
        _sgd("cnn-sgd"),
        _sgd("cnn-sgd-dropout-left-on", dropout_left_on=True),
        _there("cnn-fast-gradient-there", 1, _ADVERSARIAL_EPS),
        _right("cnn-fast-gradient-right", 1, 1.25 * _ADVERSARIAL_EPS),
        _there("cnn-pgd-there", 40, _ADVERSARIAL_EPS / 30),
        _right("cnn-pgd-right", 7, _ADVERSARIAL_EPS / 4),
        *(
            _network(name, RECIPES[name], "hardened", *_EVERYWHERE, epochs="hardened")
            for name in ("trades", "multi-norm")
        ),
    )
}


def chosen_networks(only: tuple[str, ...], outliers_at_hand: bool) -> list[Network]:
    """The networks that the parts named look at, all if none is named, with the members of their ensembles before them.

    Without the study's outliers those that were exposed to them are left out.
    """
    wanted = set(only or PARTS)
    keys: dict[str, None] = {}
    for network in NETWORKS.values():
        sources = {it.settings.get("source") for it in network.recipe.objectives} if network.recipe else set()
        lacks = OUTLIERS in sources or network.key.endswith("-oe")
        # A hardened network is a further column wherever the others are measured, if hardened networks are wanted.
        looked_at = network.parts & wanted if "hardened" not in network.parts else "hardened" in wanted
        if looked_at and (outliers_at_hand or not lacks):
            keys |= dict.fromkeys([*network.members, network.key])
    return [NETWORKS[key] for key in keys]


def recipe_of(network: Network, effort: Effort, epochs: int | None) -> Recipe:
    """The recipe of a network that is trained, as long as asked for."""
    assert network.recipe is not None
    if isinstance(network.epochs, int):
        length: int | None = network.epochs
    else:
        length = (epochs or effort.epochs) if network.epochs == "study" else effort.hardened_epochs
    return network.recipe if length is None else replace(network.recipe, epochs=length)
