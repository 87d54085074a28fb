"""The training loop: one network, from its initial weights to its best."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hardy.augmentations import augment, mixes
from hardy.devices import native_bf16
from hardy.errors import HardyError, RunError, UsageError
from hardy.models import build_model
from hardy.rng import Randomness, derive, host_generator
from hardy.training.checkpoint import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from hardy.training.losses import LOSSES, Batch
from hardy.training.optimization import Averaged, floating_state, learning_rate, make_optimizer
from hardy.training.recipe import Recipe
from hardy.validation import Labels, Targets, check_settings, frozen_evaluation

# Epochs at chance before training counts as collapsed: a loss that ramps up may need one to start learning.
PATIENCE_AT_CHANCE = 2
SECONDS_BETWEEN_UPDATES = 0.2
EVALUATION_BATCH = 1000


class Split(NamedTuple):
    """A split on the device.

    Attributes:
        images: (N, C, H, W) as stored, uint8, or float32 in [0, 1].
        labels: int64 (N,); those of a training split may be soft, float32 (N, K).
    """

    images: Tensor
    labels: Targets


class Update(NamedTuple):
    """What training reports while it runs."""

    step: int
    steps: int
    loss: float
    accuracy: float | None
    images_per_second: float

    @property
    def text(self) -> str:
        """Loss, validation accuracy once there is one, and speed, in a few words."""
        validation = "" if self.accuracy is None else f"validation {self.accuracy:.2%}  "
        return f"loss {self.loss:.4f}  {validation}{self.images_per_second:,.0f} images/s"


class Fitted(NamedTuple):
    """The weights of the epoch with the best validation accuracy, that accuracy, and a row of figures per epoch."""

    weights: dict[str, Tensor]
    accuracy: float
    history: list[dict[str, float]]


class Stopped(HardyError):
    """Training was asked to stop; its checkpoint is written."""


@dataclass
class _State:
    step: int
    best: dict[str, Tensor]
    accuracy: float
    at_chance: int
    history: list[dict[str, float]]


def fit(
    recipe: Recipe,
    train: Split,
    validation: Split,
    classes: int,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[Update], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train one network by ``recipe`` on the device of the data.

    Args:
        recipe: not an ensemble's.
        train: what is trained on.
        validation: chooses the best epoch.
        classes: K.
        seed: every random number comes from it.
        checkpoint: where the state is written after every epoch and on stopping. If the file exists, training resumes
            from it, to the same weights as without the interruption (same machine, same number of threads).
        report: called with the progress, a few times per second.
        stop: asked after every step whether to stop.

    Raises:
        Stopped: ``stop`` returned True.
        HardyError: training has collapsed: the loss is not finite, or validation accuracy stays at chance.
        UsageError: the recipe does not suit the images; see :func:`check_suits`.
        RunError: the checkpoint belongs to another recipe, seed or number of images, or is damaged.
    """
    check_suits(recipe, train.images, classes)
    with torch.random.fork_rng(devices=[train.images.device] if train.images.is_cuda else []):
        return _fit(recipe, train, validation, classes, seed, checkpoint, report, stop)


def check_suits(recipe: Recipe, images: Tensor, classes: int) -> None:
    """Raise :class:`UsageError` where a recipe (not an ensemble's) cannot train on these images, as stored.

    Unknown loss, model, argument or setting; fewer images than one batch; a model for images of another shape.
    """
    check_settings(f"loss '{recipe.loss}'", LOSSES.find(recipe.loss).function, _loss_settings(recipe))
    if len(images) < recipe.batch_size:
        raise UsageError(f"{len(images)} training images are fewer than one batch of {recipe.batch_size}")
    shape = tuple(images.shape[1:])
    arguments = recipe.architecture(classes)["arguments"]
    what = f"model '{recipe.model}' with {arguments} does not suit images of shape {shape}"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            logits = build_model(recipe.model, **arguments).eval()(torch.zeros(1, *shape))
        except (RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"{what} ({error}); change model or model_arguments") from error
    if logits.shape != (1, classes):
        raise UsageError(f"{what}: it gives {tuple(logits.shape)} instead of (1, {classes}); change model_arguments")


def _fit(
    recipe: Recipe,
    train: Split,
    validation: Split,
    classes: int,
    seed: int,
    checkpoint: Path | None,
    report: Callable[[Update], None],
    stop: Callable[[], bool],
) -> Fitted:
    device = train.images.device
    torch.default_generator.manual_seed(derive(seed, "initial weights"))
    architecture = recipe.architecture(classes)
    model = build_model(architecture["name"], **architecture["arguments"])
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_function, loss_settings = LOSSES[recipe.loss].function, _loss_settings(recipe)
    optimizer = make_optimizer(model, recipe)
    averaged = Averaged(model, recipe.averaging) if recipe.averaging else None
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and native_bf16(device))
    precision = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    facts = {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "number of images": len(train.labels),
        "precision": "bf16" if bf16 else "float32",
    }
    state = _State(0, {}, -1.0, 0, [])
    if checkpoint is not None and checkpoint.exists():
        state = _restore(checkpoint, facts, model, optimizer, averaged)

    def save() -> None:
        if checkpoint is not None:
            groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": state.best}
            rest = {"step": state.step, "accuracy": state.accuracy, "at_chance": state.at_chance}
            averages = {"averaged": averaged.state} if averaged else {}
            save_tensors(checkpoint, groups | averages, facts | rest | {"history": state.history})

    all_targets = train.labels
    if mixes(recipe.augmentation) and not all_targets.is_floating_point():
        all_targets = nn.functional.one_hot(all_targets, classes).float()
    steps_per_epoch = len(train.labels) // recipe.batch_size
    steps = recipe.epochs * steps_per_epoch
    order = torch.empty(0)
    started, since, accuracy = time.perf_counter(), state.step, None
    model.train()
    while state.step < steps:
        epoch, place = divmod(state.step, steps_per_epoch)
        if place == 0 or not len(order):
            shuffled = host_generator(seed, "order", epoch).permutation(len(train.labels))
            order = torch.from_numpy(shuffled).to(device)
        batch = order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
        rng = Randomness(seed, batch, ("training", epoch))
        images = train.images[batch]
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        images, targets = augment(images, all_targets[batch], rng, recipe.augmentation)
        images = images.contiguous(memory_format=torch.channels_last)

        # Dropout draws from the global generator: seeding it by step makes every step a function of its number.
        _seed_generator(device, derive(seed, "step", state.step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.step, steps, steps_per_epoch)
        with precision:
            loss = loss_function(model, Batch(images, targets, rng, state.step / steps), **loss_settings)
        optimizer.zero_grad()
        loss.backward()
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        if averaged:
            averaged.update(model, state.step)
        state.step += 1

        epoch_ends = state.step % steps_per_epoch == 0
        if epoch_ends or time.perf_counter() - started > SECONDS_BETWEEN_UPDATES:
            latest_loss = _finite(float(loss.detach()), recipe, state.step)
            images_per_second = (state.step - since) * recipe.batch_size / (time.perf_counter() - started)
            if epoch_ends:
                weights = averaged.state if averaged else floating_state(model)
                accuracy = validation_accuracy(model, weights, validation, precision)
                state.history.append({"epoch": epoch + 1, "loss": latest_loss, "validation_accuracy": accuracy})
                if accuracy > state.accuracy:
                    state.accuracy, state.best = accuracy, {name: value.clone() for name, value in weights.items()}
                _check_collapse(state, accuracy, validation.labels, recipe, last=state.step == steps)
                save()
            report(Update(state.step, steps, latest_loss, accuracy, images_per_second))
            started, since = time.perf_counter(), state.step
        if state.step < steps and stop():
            if not epoch_ends:
                save()
            raise Stopped(f"stopped at step {state.step} of {steps} of '{recipe.name}'; go on with --resume")
    return Fitted({**model.state_dict(), **state.best}, state.accuracy, state.history)


def validation_accuracy(
    model: nn.Module, weights: dict[str, Tensor], split: Split, precision: torch.autocast | None = None
) -> float:
    """The accuracy on ``split`` of the model with these weights in place of its own, which stay as they are."""
    right = 0
    precision = precision or torch.autocast(split.images.device.type, enabled=False)
    with frozen_evaluation(model), torch.no_grad(), precision:
        for images, labels in zip(
            split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
        ):
            floats = images.float() / 255 if images.dtype == torch.uint8 else images
            logits = functional_call(model, weights, floats.contiguous(memory_format=torch.channels_last))
            right += int((logits.argmax(1) == labels).sum())
    return right / len(split.labels)


def _seed_generator(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        # torch.manual_seed would reach for generators of absent devices, which takes as long as a small step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _loss_settings(recipe: Recipe) -> dict[str, float]:
    smoothing = {"label_smoothing": recipe.label_smoothing} if recipe.label_smoothing else {}
    return {**recipe.loss_settings, **smoothing}


def _restore(
    path: Path, facts: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, averaged: Averaged | None
) -> _State:
    groups, found = load_tensors(path)
    for key, value in facts.items():
        if found.get(key) != value:
            raise RunError(f"the checkpoint {path} is of another {key}; resume with the same, or choose another --out")
    model.load_state_dict(groups["model"])
    restore_optimizer(optimizer, groups.get("optimizer", {}))
    if averaged:
        for name, value in groups["averaged"].items():
            averaged.state[name].copy_(value)
    device = next(model.parameters()).device
    best = {name: value.to(device) for name, value in groups.get("best", {}).items()}
    return _State(found["step"], best, found["accuracy"], found["at_chance"], found["history"])


def _finite(loss: float, recipe: Recipe, step: int) -> float:
    if loss - loss != 0:
        raise HardyError(
            f"training '{recipe.name}' has collapsed: the loss is {loss} at step {step}; "
            f"lower learning_rate (now {recipe.learning_rate:g}) or set gradient_clip"
        )
    return loss


def _check_collapse(state: _State, accuracy: float, labels: Labels, recipe: Recipe, *, last: bool) -> None:
    chance = float(labels.bincount().max()) / len(labels)
    # A margin that shrinks as chance nears 1, so that two very unequal classes leave room above it.
    state.at_chance = state.at_chance + 1 if accuracy <= chance + 0.2 * chance * (1 - chance) else 0
    if state.at_chance >= PATIENCE_AT_CHANCE or (last and state.at_chance):
        raise HardyError(
            f"training '{recipe.name}' has collapsed: validation accuracy {accuracy:.1%} is at chance after "
            f"{len(state.history)} epochs; lower learning_rate (now {recipe.learning_rate:g}) or raise warm_up"
        )
