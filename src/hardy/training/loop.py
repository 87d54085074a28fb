"""The training loop: one network, from its initial weights to its best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hardy.augmentations import augment, mixes
from hardy.devices import native_bf16
from hardy.errors import HardyError, RunError, UsageError
from hardy.models import build_model
from hardy.rng import Randomness, derive, host_generator
from hardy.training.checkpoint import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from hardy.training.losses import Batch
from hardy.training.objectives import Term, check_objectives
from hardy.training.optimization import Averaged, floating_state, learning_rate, make_optimizer
from hardy.training.outliers import check_source, outliers_of
from hardy.training.recipe import Recipe
from hardy.training.selection import (
    Score,
    Split,
    check_collapse,
    check_finite,
    lost_robustness,
    robust_accuracy,
    validation_accuracy,
)

SECONDS_BETWEEN_UPDATES = 0.2
SECONDS_BETWEEN_CHECKPOINTS = 60.0
"""What a kill within an epoch may cost."""


class Update(NamedTuple):
    """What training reports while it runs."""

    step: int
    steps: int
    loss: float
    accuracy: float | None
    images_per_second: float
    robust_accuracy: float | None = None

    @property
    def text(self) -> str:
        """Loss, validation accuracy once there is one, and speed, in a few words."""
        validation = "" if self.accuracy is None else f"validation {self.accuracy:.2%}  "
        attacked = "" if self.robust_accuracy is None else f"under attack {self.robust_accuracy:.1%}  "
        return f"loss {self.loss:.4f}  {validation}{attacked}{self.images_per_second:,.0f} images/s"


class Fitted(NamedTuple):
    """What training came to.

    Attributes:
        weights: of the best epoch; see :mod:`hardy.training.selection`.
        accuracy: of that epoch, on the validation images.
        history: a row of figures per epoch.
        robust_accuracy: of that epoch, on validation images under attack; None where the recipe is not adversarial.
        notes: what the user should know: that training went back an epoch, say.
    """

    weights: dict[str, Tensor]
    accuracy: float
    history: list[dict[str, float]]
    robust_accuracy: float | None = None
    notes: tuple[str, ...] = ()


class Stopped(HardyError):
    """Training was asked to stop; its checkpoint is written."""


@dataclass
class _State:
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    score: Score = field(default_factory=lambda: Score(-1.0, -1.0))
    at_chance: int = 0
    setbacks: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """All but the tensors, as JSON values."""
        return {it.name: getattr(self, it.name) for it in fields(self) if it.name != "best"}


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
    data_dir: str | Path | None = None,
) -> Fitted:
    """Train one network by ``recipe`` on the device of the data.

    Args:
        recipe: of one network, or of an ensemble that is trained jointly.
        train: what is trained on.
        validation: chooses the best epoch.
        classes: K.
        seed: every random number comes from it.
        checkpoint: where the state is written after every epoch and every minute, and on stopping. If the file exists,
            training resumes from it, to the same weights as without the interruption (same machine, same number of
            threads).
        report: called with the progress, a few times per second.
        stop: asked after every step whether to stop.
        data_dir: where to look first for the outliers that objectives name.

    Raises:
        Stopped: ``stop`` returned True.
        HardyError: training has collapsed: the loss is not finite, or validation accuracy stays at chance.
        UsageError: the recipe does not suit the images; see :func:`check_suits`.
        RunError: the checkpoint belongs to another recipe, seed or number of images, or is damaged.
    """
    check_suits(recipe, train.images, classes, soft_labels=train.labels.is_floating_point(), data_dir=data_dir)
    with torch.random.fork_rng(devices=[train.images.device] if train.images.is_cuda else []):
        return _fit(recipe, train, validation, classes, seed, checkpoint, report, stop, data_dir)


def check_suits(
    recipe: Recipe,
    images: Tensor,
    classes: int,
    *,
    soft_labels: bool = False,
    data: str | None = None,
    data_dir: str | Path | None = None,
) -> None:
    """Raise :class:`UsageError` where a recipe (not an ensemble's) cannot train on these images, as stored.

    Objectives that cannot be trained by; outliers that are missing or measured on; an unknown model or argument; fewer
    images than one batch; a model for images of another shape.
    """
    mixed = mixes(recipe.augmentation) or soft_labels
    check_objectives(recipe.objectives, recipe.epochs, recipe.label_smoothing, mixed=mixed)
    for objective in recipe.objectives:
        if "source" in objective.settings:
            check_source(objective.settings["source"], images, data, data_dir)
    if len(images) < recipe.batch_size:
        raise UsageError(f"{len(images)} training images are fewer than one batch of {recipe.batch_size}")
    shape = tuple(images.shape[1:])
    name, arguments = recipe.architecture(classes).values()
    what = f"model '{name}' with {arguments} does not suit images of shape {shape}"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            logits = build_model(name, **arguments).eval()(torch.zeros(1, *shape))
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
    data_dir: str | Path | None,
) -> Fitted:
    device = train.images.device
    torch.default_generator.manual_seed(derive(seed, "initial weights"))
    architecture = recipe.architecture(classes)
    model = build_model(architecture["name"], **architecture["arguments"])
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe)
    averaged = Averaged(model, recipe.averaging) if recipe.averaging else None
    sources = {str(it.settings["source"]) for it in recipe.objectives if "source" in it.settings}
    outliers = {source: outliers_of(source, train.images, seed, data_dir) for source in sources}
    terms = [
        Term(it, recipe.epochs, recipe.label_smoothing, outliers.get(str(it.settings.get("source"))))
        for it in recipe.objectives
    ]
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and native_bf16(device))
    precision = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
    facts = {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "number of images": len(train.labels),
        "precision": "bf16" if bf16 else "float32",
    }
    state = _State()
    if checkpoint is not None and checkpoint.exists():
        state = _restore(checkpoint, facts, model, optimizer, averaged, terms)

    saved = time.perf_counter()

    def save() -> None:
        nonlocal saved
        saved = time.perf_counter()
        if checkpoint is not None:
            groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": state.best}
            averages = {"averaged": averaged.state} if averaged else {}
            kept = {f"objective {number}": term.state for number, term in enumerate(terms)}
            save_tensors(checkpoint, groups | averages | kept, facts | state.facts())

    all_targets = train.labels
    if mixes(recipe.augmentation) and not all_targets.is_floating_point():
        all_targets = nn.functional.one_hot(all_targets, classes).float()
    threats = recipe.threats
    replays = int(recipe.objectives[0].settings.get("replays", 1))
    steps_per_epoch = len(train.labels) // recipe.batch_size
    steps = recipe.epochs * steps_per_epoch
    order = torch.empty(0)
    started, since, score = time.perf_counter(), state.step, None
    model.train()
    while state.step < steps:
        epoch, place = divmod(state.step, steps_per_epoch)
        if place == 0 or not len(order):
            shuffled = host_generator(seed, "order", epoch).permutation(len(train.labels))
            order = torch.from_numpy(shuffled).to(device)
        place //= replays
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
        seen = Batch(images, targets, rng, state.step / steps, setbacks=state.setbacks)
        with precision:
            losses = [term(model, seen) for term in terms]
            loss = sum((it for it in losses if it is not None), start=torch.zeros((), device=device))
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            if recipe.gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
        if averaged:
            averaged.update(model, state.step)
        state.step += 1

        epoch_ends = state.step % steps_per_epoch == 0
        if epoch_ends or time.perf_counter() - started > SECONDS_BETWEEN_UPDATES:
            latest_loss = check_finite(float(loss.detach()), recipe, state.step)
            images_per_second = (state.step - since) * recipe.batch_size / (time.perf_counter() - started)
            if epoch_ends:
                weights = averaged.state if averaged else floating_state(model)
                accuracy = validation_accuracy(model, weights, validation, precision)
                robust = robust_accuracy(model, weights, validation, threats, precision) if threats else 0.0
                score = Score(robust, accuracy)
                row = {"epoch": epoch + 1, "loss": latest_loss, "validation_accuracy": accuracy}
                state.history.append(row | ({"robust_accuracy": robust} if threats else {}))
                one_step = 0.0
                if recipe.takes_single_steps and state.step >= steps * recipe.longest_ramp:
                    one_step = robust_accuracy(model, weights, validation, threats, precision, steps=1)
                lost = lost_robustness(score, state.score, one_step, validation.labels)
                if score > state.score:
                    state.score, state.best = score, {name: value.clone() for name, value in weights.items()}
                state.at_chance = check_collapse(
                    accuracy, state.at_chance, validation.labels, recipe, epoch + 1, steps_per_epoch
                )
                if lost:
                    _go_back(state, lost, model, optimizer, averaged)
                save()
            accuracy, robust = (score.accuracy, score.robust_accuracy) if score else (None, None)
            under_attack = robust if threats else None
            report(Update(state.step, steps, latest_loss, accuracy, images_per_second, under_attack))
            started, since = time.perf_counter(), state.step
        stopped = state.step < steps and stop()
        if not epoch_ends and (stopped or time.perf_counter() - saved > SECONDS_BETWEEN_CHECKPOINTS):
            save()
        if stopped:
            raise Stopped(f"stopped at step {state.step} of {steps} of '{recipe.name}'; go on with --resume")
    best = {**model.state_dict(), **state.best}
    robust = state.score.robust_accuracy if threats else None
    return Fitted(best, state.score.accuracy, state.history, robust, tuple(state.notes))


def _go_back(
    state: _State, lost: str, model: nn.Module, optimizer: torch.optim.Optimizer, averaged: Averaged | None
) -> None:
    """Go on from the best epoch's weights, with an optimizer that has forgotten how it left them."""
    model.load_state_dict(state.best, strict=False)
    optimizer.state.clear()
    if averaged:
        for name, value in state.best.items():
            averaged.state[name].copy_(value)
    state.setbacks += 1
    state.notes.append(
        f"in epoch {len(state.history)} {lost}, as where a network learns to fool the attack that it is trained on "
        f"(catastrophic overfitting); training went on from the best epoch with {1 + state.setbacks} times as many, "
        "shorter steps of attack"
    )


def _seed_generator(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        # torch.manual_seed would reach for generators of absent devices, which takes as long as a small step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _restore(
    path: Path,
    facts: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: Averaged | None,
    terms: Sequence[Term],
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
    for number, term in enumerate(terms):
        term.state.update({name: value.to(device) for name, value in groups.get(f"objective {number}", {}).items()})
    best = {name: value.to(device) for name, value in groups.get("best", {}).items()}
    kept = {it.name: found[it.name] for it in fields(_State) if it.name != "best"}
    return _State(**{**kept, "best": best, "score": Score(*kept["score"])})
