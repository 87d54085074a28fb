"""The training loop: one network, from its first weights to its best."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hardy.augmentation import augment
from hardy.contracts import Labels
from hardy.errors import HardyError, RunError, UsageError, unknown
from hardy.models import build_model
from hardy.randomness import Randomness, derive, host_generator
from hardy.training.checkpoint import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from hardy.training.losses import LOSSES
from hardy.training.optimization import Averaged, floating_state, learning_rate, make_optimizer
from hardy.training.recipe import Recipe

# Epochs at chance before training counts as collapsed: losses that ramp up may need one to get going.
PATIENCE_AT_CHANCE = 2
SECONDS_BETWEEN_UPDATES = 0.2
EVALUATION_BATCH = 1000


class Split(NamedTuple):
    """Images as stored (uint8, or float32 in [0, 1]), (N, C, H, W), and int64 labels (N,), both on the device."""

    images: Tensor
    labels: Labels


class Update(NamedTuple):
    """What training reports while it runs."""

    step: int
    steps: int
    loss: float
    accuracy: float | None
    images_a_second: float


class Fitted(NamedTuple):
    """The best weights by hold-out accuracy, that accuracy, and a row of figures per epoch."""

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


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def fit(
    recipe: Recipe,
    train: Split,
    held_out: Split,
    classes: int,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[Update], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train one network by ``recipe`` on the device of the data.

    With a ``checkpoint`` path the state is written after every epoch and when ``stop`` says so; if the file exists,
    training goes on from it, to the same weights as without the interruption (same machine, same thread count).

    Raises:
        Stopped: ``stop`` said so.
        HardyError: training has collapsed: the loss is not finite, or hold-out accuracy stays at chance.
        UsageError: fewer images than one batch; unknown loss.
        RunError: the checkpoint belongs to another recipe, seed or data, or is damaged.
    """
    if recipe.loss not in LOSSES:
        raise unknown("loss", recipe.loss, LOSSES)
    steps_an_epoch = len(train.labels) // recipe.batch_size
    if steps_an_epoch == 0:
        raise UsageError(f"{len(train.labels)} training images are fewer than one batch of {recipe.batch_size}")
    with torch.random.fork_rng(devices=[train.images.device] if train.images.is_cuda else []):
        return _fit(recipe, train, held_out, classes, steps_an_epoch, seed, checkpoint, report, stop)


def _fit(
    recipe: Recipe,
    train: Split,
    held_out: Split,
    classes: int,
    steps_an_epoch: int,
    seed: int,
    checkpoint: Path | None,
    report: Callable[[Update], None],
    stop: Callable[[], bool],
) -> Fitted:
    device = train.images.device
    torch.manual_seed(derive(seed, "initial weights"))
    model = build_model(**_keywords(recipe, classes)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe)
    averaged = Averaged(model, recipe.averaging) if recipe.averaging else None
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and native_bf16(device))
    precision = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    facts = {"recipe": recipe.to_dict(), "seed": seed, "images": len(train.labels), "bf16": bf16}
    state = _State(0, {}, -1.0, 0, [])
    if checkpoint is not None and checkpoint.exists():
        state = _restore(checkpoint, facts, model, optimizer, averaged)

    def save() -> None:
        if checkpoint is not None:
            groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": state.best}
            rest = {"step": state.step, "accuracy": state.accuracy, "at_chance": state.at_chance}
            averages = {"averaged": averaged.state} if averaged else {}
            save_tensors(checkpoint, groups | averages, facts | rest | {"history": state.history})

    steps = recipe.epochs * steps_an_epoch
    order = torch.empty(0)
    started, since, loss_sum, accuracy = time.perf_counter(), state.step, 0.0, None
    model.train()
    while state.step < steps:
        epoch, place = divmod(state.step, steps_an_epoch)
        if place == 0 or not len(order):
            shuffled = host_generator(seed, "order", epoch).permutation(len(train.labels))
            order = torch.from_numpy(shuffled).to(device)
        batch = order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
        rng = Randomness(seed, batch, ("training", epoch))
        images = train.images[batch]
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        images = augment(images, rng, recipe.augmentation).contiguous(memory_format=torch.channels_last)

        # Dropout draws from the global generator: seeding it by step makes every step a function of its number.
        torch.manual_seed(derive(seed, "step", state.step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.step, steps, steps_an_epoch)
        with precision:
            loss = LOSSES[recipe.loss](model, images, train.labels[batch], rng, recipe)
        optimizer.zero_grad()
        loss.backward()
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        if averaged:
            averaged.update(model, state.step)
        state.step += 1

        elapsed = time.perf_counter() - started
        epoch_ends = state.step % steps_an_epoch == 0
        if elapsed > SECONDS_BETWEEN_UPDATES or epoch_ends:
            loss_sum = _finite(float(loss.detach()), recipe, state.step)
            report(Update(state.step, steps, loss_sum, accuracy, (state.step - since) * recipe.batch_size / elapsed))
            started, since = time.perf_counter(), state.step
        if epoch_ends:
            weights = averaged.state if averaged else floating_state(model)
            accuracy = held_out_accuracy(model, weights, held_out, precision)
            state.history.append({"epoch": epoch + 1, "loss": loss_sum, "held_out_accuracy": accuracy})
            if accuracy > state.accuracy:
                state.accuracy, state.best = accuracy, {name: value.clone() for name, value in weights.items()}
            _check_collapse(state, accuracy, held_out.labels, recipe, last=state.step == steps)
            save()
            started, since = time.perf_counter(), state.step
        elif stop():
            save()
            raise Stopped(f"stopped at step {state.step} of {steps} of '{recipe.name}'; go on with --resume")
    return Fitted({**model.state_dict(), **state.best}, state.accuracy, state.history)


@torch.no_grad()
def held_out_accuracy(
    model: nn.Module, weights: dict[str, Tensor], split: Split, precision: torch.autocast | None = None
) -> float:
    """Share of ``split`` that the model answers rightly with these weights; its own stay, and so does its mode."""
    training = model.training
    model.eval()
    right = 0
    with precision or torch.autocast(split.images.device.type, enabled=False):
        for images, labels in zip(
            split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
        ):
            floats = images.float() / 255 if images.dtype == torch.uint8 else images
            logits = functional_call(model, weights, floats.contiguous(memory_format=torch.channels_last))
            right += int((logits.argmax(1) == labels).sum())
    model.train(training)
    return right / len(split.labels)


def _keywords(recipe: Recipe, classes: int) -> dict[str, Any]:
    architecture = recipe.architecture(classes)
    return {"name": architecture["name"], **architecture["arguments"]}


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
    state.at_chance = state.at_chance + 1 if accuracy <= 1.2 * chance else 0
    if state.at_chance >= PATIENCE_AT_CHANCE or (last and state.at_chance):
        raise HardyError(
            f"training '{recipe.name}' has collapsed: hold-out accuracy {accuracy:.1%} is at chance after "
            f"{len(state.history)} epochs; lower learning_rate (now {recipe.learning_rate:g}) or raise warm_up"
        )
