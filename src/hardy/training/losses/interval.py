"""Losses on what interval bounds allow: of the margins, and of the confidence on outliers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardy.certification.bounds import Ball, box_minimum, interval_boxes, margin_weights
from hardy.certification.trace import Network, operations_of, record
from hardy.threats import ThreatModel
from hardy.training.losses.adversarial import ball, ramped
from hardy.training.losses.loss import Batch, register_loss


@register_loss("interval", threats=ball, hard_labels=True)
def interval(
    model: nn.Module, batch: Batch, *, eps: float, ramp: float = 0.0, norm: str = "linf", label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of the worst logits that interval bounds allow within a ball (IBP).

    Beside ``adversarial``, each with a weight, this is MTL-IBP. Batch norm takes its running statistics.

    Args:
        model: a network whose operations have bounds.
        batch: what the step trains on.
        eps: radius of the ball, of the pixel range.
        ramp: the share of training during which eps grows from 0.
        norm: of the ball: linf, l2 or l1.
        label_smoothing: as in :func:`cross_entropy`.

    Gowal et al., arXiv:1810.12715; De Palma et al., ICLR 2024, arXiv:2305.13991.
    """
    network = _network(model, batch)
    around = Ball(batch.images, ThreatModel(norm, ramped(eps, ramp, batch.progress)))  # type: ignore[arg-type]
    labels = batch.targets.argmax(1) if batch.targets.is_floating_point() else batch.targets
    weights, others = margin_weights(labels, network.shapes[-1][0])
    margins = box_minimum(network, interval_boxes(network, around), weights).float()
    worst = torch.zeros(len(margins), network.shapes[-1][0], device=margins.device).scatter(1, others, -margins)
    return nn.functional.cross_entropy(worst, labels, label_smoothing=label_smoothing)


@register_loss("guaranteed_exposure")
def guaranteed_exposure(
    model: nn.Module,
    batch: Batch,
    *,
    source: str,  # noqa: ARG001 (the loop reads it)
    eps: float,
    ramp: float = 0.0,
    norm: str = "linf",
) -> Tensor:
    """By how much at most one logit leads another on an outlier's ball, so that no image there is answered surely.

    Of that lead d it is the mean of log(1 + d^2 / 2). Beside ``cross_entropy`` this is GOOD.

    Args:
        model: a network whose operations have bounds.
        batch: what the step trains on.
        source: where the outliers come from.
        eps: radius of the ball around each outlier, of the pixel range.
        ramp: the share of training during which eps grows from 0.
        norm: of the ball: linf, l2 or l1.

    Bitterwolf, Meinke and Hein, NeurIPS 2020, arXiv:2007.08473.
    """
    if batch.outliers is None:
        raise ValueError("a loss on outliers takes a batch with outliers")
    network = _network(model, batch)
    around = Ball(batch.outliers, ThreatModel(norm, ramped(eps, ramp, batch.progress)))  # type: ignore[arg-type]
    one_hot = torch.eye(network.shapes[-1][0], device=batch.outliers.device)
    pairs = (one_hot[None] - one_hot[:, None]).flatten(0, 1)
    lowest = box_minimum(network, interval_boxes(network, around), pairs[pairs.any(1)][None])
    return torch.log1p(0.5 * lowest.amin(1).square()).mean().float()


def _network(model: nn.Module, batch: Batch) -> Network:
    """The operations of the network, with its weights of this step; it is recorded once."""
    if "recorded" not in batch.memo:
        # Under autocast the record would hold its conversions.
        with torch.autocast(batch.images.device.type, enabled=False):
            batch.memo["recorded"] = record(model, batch.images[:1].repeat(3, 1, 1, 1))
    return operations_of(batch.memo["recorded"], tuple(batch.images.shape[1:]))
