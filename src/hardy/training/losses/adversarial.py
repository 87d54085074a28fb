"""Losses on adversarial images within one ball.

The radius grows in a line over the first ``ramp`` of training, as training that starts with the full one may never
learn. Where training has lost its robust accuracy and gone back (see :mod:`hardy.training.selection`), the search takes
as many more steps, which are as much shorter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hardy.threats import Norm, ThreatModel
from hardy.training.losses.loss import Batch, register_loss
from hardy.training.search import Objective, worst_images
from hardy.validation import Images, Logits


def ball(*, eps: float, norm: Norm = "linf", **_: Any) -> tuple[ThreatModel, ...]:
    """The threat model of the losses of this file."""
    return (ThreatModel(norm, eps),)


def ramped(eps: float, ramp: float, progress: float) -> float:
    """The radius when this share of training is done."""
    return eps * min(1.0, progress / ramp) if ramp else eps


@register_loss("adversarial", threats=ball)
def adversarial(
    model: nn.Module,
    batch: Batch,
    *,
    eps: float,
    steps: int,
    step_size: float,
    ramp: float = 0.0,
    norm: str = "linf",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy on the worst images found by projected gradient descent; with one step, the fast gradient method.

    Args:
        model: in training mode.
        batch: what the step trains on.
        eps: radius of the ball, of the pixel range.
        steps: gradient steps of the search, from a random start.
        step_size: of each of them, in the norm of the ball; it grows as eps does.
        ramp: the share of training during which eps grows from 0.
        norm: of the ball: linf, l2 or l1.
        label_smoothing: as in :func:`cross_entropy`.

    Madry et al., ICLR 2018, arXiv:1706.06083; in one step: Wong et al., ICLR 2020, arXiv:2001.03994.
    """
    threat = ThreatModel(norm, ramped(eps, ramp, batch.progress))  # type: ignore[arg-type]

    def loss(logits: Logits) -> Tensor:
        return nn.functional.cross_entropy(logits, batch.targets, reduction="sum")

    worst = _search(model, batch, threat, loss, steps, step_size * threat.eps / eps if eps else 0.0)
    return nn.functional.cross_entropy(model(worst), batch.targets, label_smoothing=label_smoothing)


@register_loss("free", threats=ball)
def free(
    model: nn.Module,
    batch: Batch,
    *,
    eps: float,
    replays: int,  # noqa: ARG001 (the loop reads it)
    ramp: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy on images whose perturbation takes a step with the same backward pass that trains the weights.

    Each batch is trained on ``replays`` times in a row; the perturbation goes on from batch to batch.

    Args:
        model: in training mode.
        batch: what the step trains on.
        eps: radius of the linf ball, and length of a step; steps are shorter after setbacks.
        replays: how often.
        ramp: the share of training during which eps grows from 0.
        label_smoothing: as in :func:`cross_entropy`.

    Shafahi et al., NeurIPS 2019, arXiv:1904.12843.
    """
    threat = ThreatModel("linf", ramped(eps, ramp, batch.progress))
    before = batch.state.get("perturbation", torch.zeros_like(batch.images))
    moved = threat.project(batch.images + before, batch.images).requires_grad_(True)

    step_size = threat.eps / (1 + batch.setbacks)

    def climb(gradient: Tensor) -> None:
        batch.state["perturbation"] = (before + step_size * gradient.sign()).clamp(-threat.eps, threat.eps).detach()

    moved.register_hook(climb)
    return nn.functional.cross_entropy(model(moved), batch.targets, label_smoothing=label_smoothing)


@register_loss("trades", threats=ball)
def trades(
    model: nn.Module,
    batch: Batch,
    *,
    eps: float,
    steps: int,
    step_size: float,
    beta: float,
    ramp: float,
    norm: str = "linf",
    label_smoothing: float = 0.0,
) -> Tensor:
    """TRADES: cross-entropy plus ``beta`` times how far the answer moves within a ball around the image.

    How far is the Kullback-Leibler divergence of the answer on the worst image found, from the answer on the clean one.

    Args:
        model: in training mode.
        batch: what the step trains on.
        eps: radius of the ball, of the pixel range.
        steps: gradient steps of the search for the worst image.
        step_size: of each of them, in the norm of the ball.
        beta: weight of the divergence.
        ramp: the share of training during which eps grows from 0.
        norm: of the ball: linf, l2 or l1.
        label_smoothing: as in :func:`cross_entropy`.

    Zhang et al., ICML 2019, arXiv:1901.08573.
    """
    threat = ThreatModel(norm, ramped(eps, ramp, batch.progress))  # type: ignore[arg-type]
    clean = model(batch.images)
    answer = clean.detach()
    worst = _search(model, batch, threat, lambda logits: _divergence(logits, answer), steps, min(step_size, threat.eps))
    natural = nn.functional.cross_entropy(clean, batch.targets, label_smoothing=label_smoothing)
    return natural + beta * _divergence(model(worst), clean)


@register_loss("mart", threats=ball, hard_labels=True)
def mart(
    model: nn.Module,
    batch: Batch,
    *,
    eps: float,
    steps: int,
    step_size: float,
    beta: float,
    ramp: float = 0.0,
    norm: str = "linf",
    label_smoothing: float = 0.0,
) -> Tensor:
    """MART: a cross-entropy on worst images with a margin, and a divergence that counts where the answer is unsure.

    Args:
        model: in training mode.
        batch: what the step trains on; labels, not soft ones.
        eps: radius of the ball, of the pixel range.
        steps: gradient steps of the search, up the cross-entropy.
        step_size: of each of them, in the norm of the ball.
        beta: weight of the divergence, which is weighed by how improbable the label is on the clean image.
        ramp: the share of training during which eps grows from 0.
        norm: of the ball: linf, l2 or l1.
        label_smoothing: of the cross-entropy on the worst images.

    Wang et al., ICLR 2020, https://openreview.net/forum?id=rklOg6EFwS.
    """
    threat = ThreatModel(norm, ramped(eps, ramp, batch.progress))  # type: ignore[arg-type]
    labels = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)

    def loss(logits: Logits) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="sum")

    worst = _search(model, batch, threat, loss, steps, step_size * threat.eps / eps if eps else 0.0)
    clean, moved = model(batch.images).float().log_softmax(1), model(worst).float()
    one_hot = nn.functional.one_hot(labels, clean.shape[1]).bool()
    likeliest_wrong = moved.softmax(1).masked_fill(one_hot, 0.0).amax(1)
    boosted = nn.functional.cross_entropy(moved, labels, label_smoothing=label_smoothing)
    boosted = boosted - torch.log1p(-likeliest_wrong.clamp_max(1.0 - 1e-6)).mean()
    divergence = (clean.exp() * (clean - moved.log_softmax(1))).sum(1)
    return boosted + beta * (divergence * (1.0 - clean[one_hot].exp())).mean()


def _search(
    model: nn.Module, batch: Batch, threat: ThreatModel, objective: Objective, steps: int, step_size: float
) -> Images:
    finer = 1 + batch.setbacks
    start = threat.random_start(batch.images, batch.rng.fold("start"))
    steps, step_size = int(steps) * finer, step_size / finer
    return worst_images(model, batch.images, threat, objective, start, steps=steps, step_size=step_size)


def _divergence(answer: Logits, clean: Logits) -> Tensor:
    """The Kullback-Leibler divergence of ``answer`` from ``clean``, mean over the batch."""
    return nn.functional.kl_div(answer.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
