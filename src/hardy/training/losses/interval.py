"""The loss on what interval bounds leave of the margins, which trains networks that can be certified."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardy.certification.bounds import Ball, box_minimum, interval_boxes, margin_weights
from hardy.certification.trace import operations_of, record
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
    shape = tuple(batch.images.shape[1:])
    if "recorded" not in batch.memo:
        # Under autocast the record would hold its conversions.
        with torch.autocast(batch.images.device.type, enabled=False):
            batch.memo["recorded"] = record(model, batch.images[:1].repeat(3, 1, 1, 1))
    network = operations_of(batch.memo["recorded"], shape)
    around = Ball(batch.images, ThreatModel(norm, ramped(eps, ramp, batch.progress)))  # type: ignore[arg-type]
    labels = batch.targets.argmax(1) if batch.targets.is_floating_point() else batch.targets
    weights, others = margin_weights(labels, network.shapes[-1][0])
    margins = box_minimum(network, interval_boxes(network, around), weights).float()
    worst = torch.zeros(len(margins), network.shapes[-1][0], device=margins.device).scatter(1, others, -margins)
    return nn.functional.cross_entropy(worst, labels, label_smoothing=label_smoothing)
