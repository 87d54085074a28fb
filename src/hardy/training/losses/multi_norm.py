"""Losses against several balls at once, so that training against one does not cost the robustness in another.

Each takes the radii in linf, l2 and l1, of which 0 leaves a norm out. The radii grow in a line over the first ``ramp``
of training; a step is ``rel_step_size`` times the radius.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hardy.models import straight_through
from hardy.threats import NORMS, ThreatModel
from hardy.training.losses.adversarial import ramped
from hardy.training.losses.loss import Batch, register_loss
from hardy.training.search import input_gradient, step_up, union_of_worst, worst_images
from hardy.validation import Images, Logits, Targets, frozen_evaluation

# How fast the robust error of a norm, by which E-AT draws norms, forgets.
_MEMORY = 0.9


def balls(*, linf: float = 0.0, l2: float = 0.0, l1: float = 0.0, **_: Any) -> tuple[ThreatModel, ...]:
    """The threat models of the losses of this file."""
    radii = {"linf": linf, "l2": l2, "l1": l1}
    return tuple(ThreatModel(norm, radii[norm]) for norm in NORMS if radii.get(norm))


@register_loss("eat", threats=balls)
def eat(
    model: nn.Module,
    batch: Batch,
    *,
    linf: float = 0.3,
    l2: float = 2.0,
    l1: float = 10.0,
    steps: int = 10,
    rel_step_size: float = 0.25,
    ramp: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """E-AT: one norm per batch, drawn by its running robust error.

    Args:
        model: in training mode.
        batch: what the step trains on.
        linf: radius, of the pixel range; 0 leaves the norm out.
        l2: radius.
        l1: radius.
        steps: gradient steps of the search.
        rel_step_size: of each of them, as a multiple of the radius.
        ramp: the share of training during which the radii grow from 0.
        label_smoothing: as in :func:`cross_entropy`.

    Croce and Hein, ICML 2022, arXiv:2105.12508. They train against linf and l1 only; set ``l2`` to 0 for that.
    """
    threats = _ramped(balls(linf=linf, l2=l2, l1=l1), ramp, batch.progress)
    errors = batch.state.setdefault("errors", torch.ones(len(threats), device=batch.images.device))
    drawn = float(batch.rng.fold("norm").uniform(1)[0])
    norm = int((errors.cumsum(0) / errors.sum() <= drawn).sum().clamp_max(len(threats) - 1))
    worst = _worst(model, batch, threats[norm], steps, rel_step_size)
    logits = model(worst)
    wrong = (logits.detach().argmax(1) != _labels(batch.targets)).float().mean()
    # Never 0, or a norm that is once without error would not be drawn again.
    errors[norm] = (_MEMORY * errors[norm] + (1 - _MEMORY) * wrong).clamp_min(0.01)
    return nn.functional.cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)


@register_loss("worst_norm", threats=balls)
def worst_norm(
    model: nn.Module,
    batch: Batch,
    *,
    linf: float = 0.3,
    l2: float = 2.0,
    l1: float = 10.0,
    steps: int = 10,
    rel_step_size: float = 0.25,
    ramp: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """MAX: of each image the norm whose worst image has the highest loss.

    Settings as in :func:`eat`. Tramèr and Boneh, NeurIPS 2019, arXiv:1904.13000.
    """
    threats = _ramped(balls(linf=linf, l2=l2, l1=l1), ramp, batch.progress)
    found = [_worst(model, batch, threat, steps, rel_step_size) for threat in threats]
    with frozen_evaluation(model), torch.no_grad():
        worst = union_of_worst(found, [_loss_each(model(images), batch.targets) for images in found])
    return nn.functional.cross_entropy(model(worst), batch.targets, label_smoothing=label_smoothing)


@register_loss("mean_norm", threats=balls)
def mean_norm(
    model: nn.Module,
    batch: Batch,
    *,
    linf: float = 0.3,
    l2: float = 2.0,
    l1: float = 10.0,
    steps: int = 10,
    rel_step_size: float = 0.25,
    ramp: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """AVG: the mean over the norms of the loss on the worst images of each.

    Settings as in :func:`eat`. Tramèr and Boneh, NeurIPS 2019, arXiv:1904.13000.
    """
    threats = _ramped(balls(linf=linf, l2=l2, l1=l1), ramp, batch.progress)
    found = torch.cat([_worst(model, batch, threat, steps, rel_step_size) for threat in threats])
    targets = torch.cat([batch.targets] * len(threats))
    return nn.functional.cross_entropy(model(found), targets, label_smoothing=label_smoothing)


@register_loss("msd", threats=balls)
def msd(
    model: nn.Module,
    batch: Batch,
    *,
    linf: float = 0.3,
    l2: float = 2.0,
    l1: float = 10.0,
    steps: int = 10,
    rel_step_size: float = 0.25,
    ramp: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """MSD: one search over the union of the balls, each step of which goes where the loss is highest.

    Settings as in :func:`eat`. Maini et al., ICML 2020, arXiv:1909.04068.
    """
    threats = _ramped(balls(linf=linf, l2=l2, l1=l1), ramp, batch.progress)
    current = batch.images
    with frozen_evaluation(model), straight_through(model):
        for _ in range(int(steps)):
            gradient = input_gradient(model, current, lambda logits: _loss_each(logits, batch.targets).sum())
            with torch.no_grad():
                found = [step_up(current, gradient, batch.images, it, rel_step_size * it.eps) for it in threats]
                current = union_of_worst(found, [_loss_each(model(images), batch.targets) for images in found])
    return nn.functional.cross_entropy(model(current), batch.targets, label_smoothing=label_smoothing)


def _ramped(threats: tuple[ThreatModel, ...], ramp: float, progress: float) -> tuple[ThreatModel, ...]:
    return tuple(ThreatModel(it.norm, ramped(it.eps, ramp, progress)) for it in threats)


def _worst(model: nn.Module, batch: Batch, threat: ThreatModel, steps: int, rel_step_size: float) -> Images:
    finer = 1 + batch.setbacks
    start = threat.random_start(batch.images, batch.rng.fold("start", threat.norm))
    return worst_images(
        model,
        batch.images,
        threat,
        lambda logits: _loss_each(logits, batch.targets).sum(),
        start,
        steps=int(steps) * finer,
        step_size=rel_step_size * threat.eps / finer,
    )


def _loss_each(logits: Logits, targets: Targets) -> Tensor:
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def _labels(targets: Targets) -> Tensor:
    return targets if targets.ndim == 1 else targets.argmax(1)
