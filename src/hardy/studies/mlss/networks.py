"""The networks of the study: how each is trained, and which parts of the study look at it.

An ensemble is not trained: its members are, once each, and several ensembles share them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from hardy.deployment import located, shipped
from hardy.errors import UsageError
from hardy.evaluation.budget import BudgetName
from hardy.studies.mlss.measured import Sizes
from hardy.training import Recipe
from hardy.training.objectives import Objective, Weight
from hardy.training.recipes import RECIPES

Part: TypeAlias = Literal["attacks", "mistakes", "calibration", "detection", "architecture", "augmentation", "hardened"]
PARTS: tuple[Part, ...] = get_args(Part)
OUTLIERS = "fashion-mnist/train"
"""What the study exposed its networks to."""

_GELU = ("kernel3", "kernel5", "kernel7")
_SHALLOW = ("kernel3-shallow", "kernel5-shallow")
_RELU = tuple(f"{name}-relu" for name in _GELU)
_ADVERSARIAL_EPS = 0.3
ALL_IMAGES = 55_000
_FEW_STEPS = (30, 40, 50)
# Mean and deviation of MNIST's pixels, by which its tutorials normalize.
_MEAN, _DEVIATION = 0.1307, 0.3081
_TRAINED_AGAINST = ("attacks", "architecture")
# The study: weight 0.1 for one epoch, 0.5 for three, 0.75 for three.
_THEIR_STEPS = ((1.0, 0.1), (3.0, 0.5), (3.0, 0.75))


class Effort(NamedTuple):
    """What a budget is spent on.

    Attributes:
        images: that large networks are trained on, and those that are trained against attacks.
        batch: of these; None is as the recipe says.
        validation: how many validation images choose the best epoch.
        epochs: of the study's networks, which trained for one to five.
        hardened_epochs: of the recipes that are trained against attacks; None is as many as theirs.
        sizes: how many images are measured on.
    """

    images: int
    batch: int | None
    validation: int
    epochs: int
    hardened_epochs: int | None
    sizes: Sizes


EFFORTS: dict[BudgetName, Effort] = {
    "quick": Effort(4_000, 64, 500, 1, 4, Sizes(1000, 20, 100, 300, 40, 300, 500, 60)),
    "standard": Effort(ALL_IMAGES, None, 5000, 3, None, Sizes(10_000, 200, 1000, 2000, 500, 2000, 5000, 300)),
    "full": Effort(ALL_IMAGES, None, 5000, 5, None, Sizes(10_000, 1000, 1000, 10_000, 1000, 10_000, 5000, 1000)),
}


@dataclass(frozen=True)
class Network:
    """A column of the study's tables.

    Attributes:
        key: its name, also of its folder.
        parts: the parts of the study that measure it.
        recipe: how it is trained, without how long; None of one that is made of others.
        members: keys of the networks that it is made of: an ensemble's, or the one that ``shown`` is about.
        epochs: how long, where that is not the study's one to five: a number, or ``hardened``.
        images: how many it is trained on, where that is not the budget's.
        shown: its member sees every pixel times the first plus the second.
        random: whether it answers differently each time.
        taken: the run, bundle or classifier that it is, where it is not trained here.
    """

    key: str
    parts: frozenset[str]
    recipe: Recipe | None = None
    members: tuple[str, ...] = ()
    epochs: int | Literal["study", "hardened"] = "study"
    images: int | None = None
    shown: tuple[float, float] | None = None
    random: bool = False
    taken: str = ""


def _network(key: str, recipe: Recipe, *parts: str, **more: Any) -> Network:
    return Network(key, frozenset(parts), replace(recipe, name=key), **more)


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
    return _network(key, replace(RECIPES["cnn"], objectives=objectives), *_TRAINED_AGAINST, epochs=7)


def _right(key: str, steps: int, step_size: float) -> Network:
    """The same on adversarial images alone, with a radius that grows over the first third, and twice as long."""
    search = {"eps": _ADVERSARIAL_EPS, "steps": steps, "step_size": step_size, "ramp": 0.3}
    objectives = (Objective("adversarial", search),)
    return _network(key, replace(RECIPES["cnn"], objectives=objectives), *_TRAINED_AGAINST, epochs=14)


_MISTAKEN = ("mistakes", "calibration", "architecture")


def _mistaken(key: str, recipe: Recipe, **more: Any) -> Network:
    """The CNN with a mistake that could explain its 81 % under slight noise."""
    left_on = bool(recipe.model_arguments)
    return _network(key, recipe, *_MISTAKEN, random=left_on, **more)


def _mistakes() -> list[Network]:
    cnn, left_on = RECIPES["cnn"], {"dropout_left_on": True}
    # As the tutorials of that time train it: plain steps of gradient descent, no averaging.
    sgd = replace(
        cnn,
        optimizer="sgd",
        learning_rate=2e-3,
        schedule="constant",
        weight_decay=0.0,
        averaging=0.0,
        batch_size=64,
    )
    few = {steps: {"images": steps * cnn.batch_size, "epochs": 1} for steps in _FEW_STEPS}
    shown = {
        # It learned on normalized images and is attacked on others, or the other way round.
        "cnn-not-normalized": (_DEVIATION, _MEAN),
        "cnn-normalized-twice": (1 / _DEVIATION, -_MEAN / _DEVIATION),
    }
    return [
        _mistaken("cnn-dropout-left-on", replace(cnn, model_arguments=left_on), images=ALL_IMAGES),
        _mistaken("cnn-sgd", sgd, images=ALL_IMAGES, epochs=1),
        _mistaken("cnn-sgd-dropout-left-on", replace(sgd, model_arguments=left_on), images=ALL_IMAGES, epochs=1),
        *(_mistaken(f"cnn-{steps}-steps", cnn, **few[steps]) for steps in _FEW_STEPS),
        _mistaken("cnn-50-steps-dropout-left-on", replace(cnn, model_arguments=left_on), **few[50]),
        *(Network(key, frozenset(_MISTAKEN), members=("cnn",), shown=it) for key, it in shown.items()),
    ]


def _ensemble(key: str, members: tuple[str, ...], *parts: str) -> Network:
    return Network(key, frozenset(parts), members=members)


_EVERYWHERE = ("attacks", "calibration", "detection", "architecture", "augmentation")
_SINGLE = ("calibration", "architecture", "augmentation")
# In the order in which they are trained: what says most comes first.
NETWORKS: dict[str, Network] = {
    network.key: network
    for network in (
        _network("cnn", RECIPES["cnn"], *_EVERYWHERE, "example", "mistakes", images=ALL_IMAGES),
        *_mistakes(),
        *(_network(name, RECIPES[name], *_SINGLE) for name in _GELU),
        _ensemble("ensemble", _GELU, *_EVERYWHERE, "example", "odin_grid"),
        _there("cnn-fast-gradient-there", 1, _ADVERSARIAL_EPS),
        _right("cnn-fast-gradient-right", 1, 1.25 * _ADVERSARIAL_EPS),
        *(_network(f"{name}-relu", _with_relu(RECIPES[name]), *_SINGLE) for name in _GELU),
        _ensemble("ensemble-relu", _RELU, "attacks", "calibration", "architecture", "augmentation"),
        *(_network(name, RECIPES[name], *_SINGLE) for name in _SHALLOW),
        _ensemble("ensemble5", (*_GELU, *_SHALLOW), *_EVERYWHERE),
        _there("cnn-pgd-there", 40, _ADVERSARIAL_EPS / 30),
        _right("cnn-pgd-right", 7, _ADVERSARIAL_EPS / 4),
        *(_exposed(name, "oe", OUTLIERS) for name in (*_GELU, *_SHALLOW)),
        _ensemble("ensemble-oe", tuple(f"{name}-oe" for name in _GELU), "detection", "architecture"),
        _ensemble("ensemble5-oe", tuple(f"{name}-oe" for name in (*_GELU, *_SHALLOW)), "detection", "architecture"),
        *(_exposed(name, "oe-synthetic", "synthetic") for name in _GELU),
        _ensemble(
            "ensemble-oe-synthetic", tuple(f"{name}-oe-synthetic" for name in _GELU), "detection", "architecture"
        ),
    )
}
MISTAKES = tuple(key for key, it in NETWORKS.items() if "mistakes" in it.parts and key != "cnn")
HARDENED = ("trades", "multi-norm")
"""The hardened columns, unless others are asked for."""


def hardened_networks(names: Sequence[str]) -> list[Network]:
    """The further columns: runs, bundles (those that come with hardy by name) and classifiers to import, which are
    taken; and recipes, which are trained. By default two recipes, and what comes with hardy.

    Raises:
        UsageError: two of the same name, or the name of a network of the study.
    """
    networks: dict[str, Network] = {}
    for name in names or (*HARDENED, *shipped()):
        trained = name in RECIPES and not RECIPES[name].members and not located(name).exists()
        recipe = RECIPES[name] if trained else None
        key = name if recipe else re.sub(r"[^\w.-]+", "-", Path(name).name)
        if key in NETWORKS or key in networks:
            raise UsageError(f"hardened '{name}' would be the column {key}, which there is already; name another")
        networks[key] = Network(
            key,
            frozenset(_EVERYWHERE),
            None if recipe is None else replace(recipe, name=key),
            epochs="hardened",
            taken="" if recipe else name,
        )
    return list(networks.values())


def chosen_networks(only: Sequence[str], outliers_at_hand: bool, hardened: Sequence[str] = ()) -> list[Network]:
    """The networks that the parts named look at, all if none is named, each with those of its parts.

    The networks that one is made of come before it. Accuracy is measured of each. Without the study's outliers those
    that were exposed to them are left out.
    """
    wanted = set(only or PARTS)
    if "detection" in wanted:
        wanted.add("odin_grid")
    if "attacks" in wanted:
        wanted.add("example")
    keys: dict[str, None] = {}
    for network in NETWORKS.values():
        sources = {it.settings.get("source") for it in network.recipe.objectives} if network.recipe else set()
        lacks = OUTLIERS in sources or network.key.endswith("-oe")
        if network.parts & wanted and (outliers_at_hand or not lacks):
            keys |= dict.fromkeys([*network.members, network.key])
    chosen = [NETWORKS[key] for key in keys]
    if "hardened" in wanted:
        # A hardened network is a further column wherever the others are measured.
        chosen += hardened_networks(hardened)
        wanted |= set(_EVERYWHERE) if wanted == {"hardened"} else set()
    return [replace(it, parts=it.parts & (wanted | {"architecture"})) for it in chosen]


def recipe_of(network: Network, effort: Effort, epochs: int | None) -> Recipe:
    """The recipe of a network that is trained, as long as asked for."""
    assert network.recipe is not None
    if isinstance(network.epochs, int):
        length: int | None = network.epochs
    else:
        length = (epochs or effort.epochs) if network.epochs == "study" else effort.hardened_epochs
    recipe = network.recipe if length is None else replace(network.recipe, epochs=length)
    small_batches = effort.batch is not None and network.images is None
    return replace(recipe, batch_size=effort.batch) if small_batches else recipe


def images_of(network: Network, effort: Effort, limit: int | None) -> int:
    """How many images it is trained on."""
    return min(network.images or effort.images, limit or ALL_IMAGES)
