"""The augmentation study: what each augmentation adds beyond more examples and more gradient steps.

Some of the training images are augmented once and added to the training set. Beside each such arm stand two controls
that see as many examples and take as many gradient steps: one has the same images added as they are, one has nothing
added and goes on training. So what an augmentation gains over both is due to neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from hardy.augmentations import augment, mixes
from hardy.data import available, load_dataset
from hardy.devices import choose_device
from hardy.errors import UsageError
from hardy.evaluation.budget import BudgetName
from hardy.models import build_model
from hardy.rng import Randomness, derive, host_generator
from hardy.studies.augmentation_metrics import NOISE, ROTATION, Sizes, augmentation_property
from hardy.studies.augmentation_page import make_page
from hardy.studies.framework import Options, Prepared, Study
from hardy.training import Recipe, Split, fit
from hardy.training.recipes import RECIPES
from hardy.validation import Targets

SHARES = (10, 20, 30, 100)
"""Percent of the training images that are added."""

STUDIED: dict[str, dict[str, float]] = {
    "rotate": ROTATION,
    "gaussian_noise": NOISE,
    "mixup": {"alpha": 1.0},
    "cutmix": {"alpha": 1.0},
    "elastic": {"pixels": 1.0},
    "erase": {"area": 0.25},
    "augmix": {"severity": 3.0},
    "pixmix": {"beta": 3.0, "severity": 3.0},
}
CONTROLS = ("duplicated", "steps")
BASE = "none"
_VALIDATION = 1000
_BATCH = 500


class Effort(NamedTuple):
    """What a budget is spent on: training images, passes over them, and what is measured."""

    images: int
    passes: int
    sizes: Sizes


EFFORTS: dict[BudgetName, Effort] = {
    "quick": Effort(10_000, 1, Sizes(500, 300, 50, 100, 300)),
    "standard": Effort(55_000, 2, Sizes(2000, 1000, 400, 500, 1000)),
    "full": Effort(55_000, 5, Sizes(10_000, 5000, 1000, 1000, 2000)),
}


class Arm(NamedTuple):
    """One training: what was added, how much of it in percent, and the number of its seed."""

    added: str
    share: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.added}-{self.share}-seed{self.seed}"


def arms_of(options: Options) -> list[Arm]:
    """The arms, seed by seed; the shares of one augmentation follow each other."""
    names = [name for name in STUDIED if not options.only or name in options.only]
    return [
        Arm(added, share, seed)
        for seed in range(options.seed, options.seed + options.seeds)
        for added, share in [(BASE, 0), *((name, share) for name in (*CONTROLS, *names) for share in SHARES)]
    ]


def training_list(arm: Arm, images: int, passes: int) -> tuple[Tensor, Tensor]:
    """Which images an arm trains on.

    Returns:
        ``added``: int64 (A,), the images that are augmented; none for a control.
        ``order``: int64 (passes · (images + share)), each a training image, or ``images`` + a place in ``added``.
            Controls have exactly as many.
    """
    chosen = torch.from_numpy(host_generator(arm.seed, "added").permutation(images))
    added = chosen[: round(images * arm.share / 100)]
    clean = torch.arange(images)
    if arm.added == "steps":
        passed, left = divmod(passes * (images + len(added)), images)
        further = torch.from_numpy(host_generator(arm.seed, "further").permutation(images))
        return added[:0], torch.cat([clean.repeat(passed), further[:left]])
    if arm.added in (BASE, "duplicated"):
        return added[:0], torch.cat([clean, added]).repeat(passes)
    return added, torch.arange(images + len(added)).repeat(passes)


def prepare(options: Options, _out: Path) -> Prepared:
    recipe = _recipe(options.model)
    effort = EFFORTS[options.budget]
    device = choose_device(options.device)
    train = load_dataset("mnist/train", options.data_dir)
    validation = load_dataset("mnist/validation", options.data_dir)
    first = train.measuring_order()[: min(effort.images, options.limit or effort.images)]
    images, labels = train.images[first], train.labels[first]
    choosing = Split(validation.images[:_VALIDATION].to(device), validation.labels[:_VALIDATION].to(device))
    classes = len(train.classes)

    # The 10 % that are added are among the 20 %, so the four shares of an augmentation are made once.
    @lru_cache(maxsize=1)
    def augmented(name: str, seed: int) -> tuple[Tensor, Targets]:
        chosen, _ = training_list(Arm(name, 100, seed), len(images), 1)
        return augment_once(images[chosen], labels[chosen], chosen, name, seed, classes)

    def train_arm(key: str, stop: Callable[[], bool]) -> nn.Module:
        arm = by_key[key]
        added, order = training_list(arm, len(images), effort.passes)
        pool, targets = images, labels
        if len(added):
            new, new_targets = augmented(arm.added, arm.seed)
            pool = torch.cat([images, new[: len(added)]])
            soft = new_targets.is_floating_point()
            targets = torch.cat([one_hot(labels, classes).float() if soft else labels, new_targets[: len(added)]])
        split = Split(pool[order].to(device), targets[order].to(device))
        fitted = fit(replace(recipe, name=key), split, choosing, classes, seed=derive(arm.seed, "study"), stop=stop)
        architecture = recipe.architecture(classes)
        classifier = build_model(architecture["name"], **architecture["arguments"])
        classifier.load_state_dict(fitted.weights)
        return classifier.eval()

    by_key = {arm.key: arm for arm in arms_of(options)}
    at_hand = [name for name, reason in available(options.data_dir, "out-of-distribution").items() if reason is None]
    hashes = {name: load_dataset(name, options.data_dir).sha256 for name in ("mnist/test", *at_hand)}
    data = {dataset.name: dataset.sha256 for dataset in (train, validation)} | hashes
    facts = {"data": data, "recipe": recipe.to_dict()}
    measured = augmentation_property(effort.sizes)
    return Prepared(list(by_key), facts, train_arm, [measured])


def augment_once(
    images: Tensor, labels: Tensor, indices: Tensor, name: str, seed: int, classes: int
) -> tuple[Tensor, Targets]:
    """Stored images augmented and stored again, in 8 bits, with their targets: soft where the augmentation mixes."""
    steps: dict[str, Any] = {name: STUDIED[name]}
    targets = one_hot(labels, classes).float() if mixes(steps) else labels
    parts = [
        augment(images[rows].float() / 255, targets[rows], Randomness(seed, indices[rows], ("study", "added")), steps)
        for rows in torch.arange(len(images)).split(_BATCH)
    ]
    new, new_targets = (torch.cat(each) for each in zip(*parts, strict=True))
    return (new * 255).round().to(torch.uint8), new_targets


def _recipe(name: str) -> Recipe:
    recipe = RECIPES.find(name)
    if recipe.members:
        raise UsageError(f"recipe '{name}' is an ensemble; the study trains one network, for example compact")
    # All passes are one epoch of a list, so that an arm can have a tenth of a pass more than another.
    return replace(recipe, epochs=1, augmentation={})


AUGMENTATION = Study(
    name="augmentation",
    description="each augmentation at 10 to 100 % added, beside duplicated images and as many gradient steps",
    model="fast",
    parts=tuple(STUDIED),
    prepare=prepare,
    summarize=lambda options, found, _: make_page(
        options,
        [(arm.added, arm.share, arm.key) for arm in arms_of(options)],
        {key: arm.metrics for key, arm in found.items()},
    ),
)
