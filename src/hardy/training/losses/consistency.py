"""Losses that ask for the same answer on several views of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardy.augmentations.chains import augmix
from hardy.training.losses.loss import Batch, register_loss


@register_loss("consistency")
def consistency(model: nn.Module, batch: Batch, *, severity: float = 3.0, views: int = 2) -> Tensor:
    """AugMix's Jensen-Shannon divergence of the answers on an image and on so many views of it.

    Args:
        model: in training mode.
        batch: what the step trains on.
        severity: of AugMix's operations, from 0 to 10.
        views: how many.

    Hendrycks et al., ICLR 2020, arXiv:1912.02781; they weigh it by 12, beside the cross-entropy.
    """
    seen = [batch.images, *(augmix(batch.images, batch.rng.fold("view", view), severity=severity)
                            for view in range(int(views)))]  # fmt: skip
    logs = model(torch.cat(seen)).float().log_softmax(1).unflatten(0, (len(seen), -1))
    mean = logs.exp().mean(0).clamp_min(1e-7).log()
    return (logs.exp() * (logs - mean)).sum(2).mean()
