"""Losses on outliers, so that the classifier is unsure where an image belongs to no class.

``source`` says where the outliers come from; see :mod:`hardy.training.outliers`. With ``steps``, they are first moved
within an linf ball to where the loss is highest, as an attacker would: Hein et al., CVPR 2019, arXiv:1812.05720; Chen
et al., arXiv:2003.09711; Augustin et al., ECCV 2020, arXiv:2003.09461.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hardy.threats import ThreatModel
from hardy.training.losses.adversarial import ramped
from hardy.training.losses.loss import Batch, register_loss
from hardy.training.search import worst_images
from hardy.validation import Images, Logits


@register_loss("exposure")
def exposure(
    model: nn.Module,
    batch: Batch,
    *,
    source: str,  # noqa: ARG001 (the loop reads it)
    eps: float = 0.0,
    steps: int = 0,
    step_size: float = 0.1,
    ramp: float = 0.0,
) -> Tensor:
    """Outlier exposure: cross-entropy of the answer on outliers with all classes alike, above its least value.

    Args:
        model: in training mode.
        batch: what the step trains on.
        source: where the outliers come from.
        eps: radius of the linf ball that they are moved within.
        steps: gradient steps of that; 0 leaves them as they are.
        step_size: of each of them, of the pixel range.
        ramp: the share of training during which eps grows from 0.

    Hendrycks et al., ICLR 2019, arXiv:1812.04606; they weigh it by 0.5.
    """

    def unlike_uniform(logits: Logits) -> Tensor:
        log_probabilities = logits.float().log_softmax(1)
        return -log_probabilities.mean(1) - math.log(logits.shape[1])

    outliers = _moved(model, batch, unlike_uniform, eps, steps, step_size, ramp)
    return unlike_uniform(_together(model, batch.images, outliers)[1]).mean()


@register_loss("energy_margin")
def energy_margin(
    model: nn.Module,
    batch: Batch,
    *,
    source: str,  # noqa: ARG001 (the loop reads it)
    least: float = 10.0,
    most: float = 3.0,
    eps: float = 0.0,
    steps: int = 0,
    step_size: float = 0.1,
    ramp: float = 0.0,
) -> Tensor:
    """A margin of the energy: squares of how far that of images lies above, and that of outliers below, what is asked.

    Minus the energy is the log-sum-exp of the logits: at least ``least`` on images, at most ``most`` on outliers.
    Settings otherwise as in :func:`exposure`. Liu et al., NeurIPS 2020, arXiv:2010.03759.
    """

    def too_much(logits: Logits) -> Tensor:
        return (logits.float().logsumexp(1) - most).clamp_min(0.0).square()

    outliers = _moved(model, batch, too_much, eps, steps, step_size, ramp)
    clean, strange = _together(model, batch.images, outliers)
    too_little = (least - clean.float().logsumexp(1)).clamp_min(0.0).square()
    return too_little.mean() + too_much(strange).mean()


def _moved(
    model: nn.Module,
    batch: Batch,
    loss: Callable[[Logits], Tensor],
    eps: float,
    steps: int,
    step_size: float,
    ramp: float,
) -> Images:
    if batch.outliers is None:
        raise ValueError("a loss on outliers takes a batch with outliers")
    threat = ThreatModel("linf", ramped(eps, ramp, batch.progress))
    start = threat.random_start(batch.outliers, batch.rng.fold("outlier start")) if steps else batch.outliers

    def total(logits: Logits) -> Tensor:
        return loss(logits).sum()

    step_size = step_size * threat.eps / eps if eps else 0.0
    return worst_images(model, batch.outliers, threat, total, start, steps=int(steps), step_size=step_size)


def _together(model: nn.Module, images: Images, outliers: Images) -> tuple[Logits, Logits]:
    """The answers on both, from one batch, so that batch norm sees the same statistics as in the paper."""
    first, second = model(torch.cat([images, outliers])).split([len(images), len(outliers)])
    return first, second
