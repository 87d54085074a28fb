"""The loss that trains what randomized smoothing is to certify."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardy.training.losses.loss import Batch, register_loss

_ENTROPY = 0.5


@register_loss("randomized_smoothing")
def randomized_smoothing(
    model: nn.Module,
    batch: Batch,
    *,
    deviation: float,
    copies: int = 1,
    consistency: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy under Gaussian noise, and how far the answers under several draws of it differ.

    The noise is not clipped: pixels leave [0, 1], as where the smoothed classifier is sampled.

    Args:
        model: in training mode.
        batch: what the step trains on.
        deviation: the standard deviation of the noise, in units of the pixel range.
        copies: draws of the noise per image.
        consistency: weight of the mean divergence of the mean answer to a copy's; half the entropy of the mean answer
            is added where it is above 0. It takes at least two copies.
        label_smoothing: as in :func:`cross_entropy`.

    Cohen, Rosenfeld and Kolter, ICML 2019, arXiv:1902.02918; Jeong and Shin, NeurIPS 2020, arXiv:2006.04062.
    """
    copies = int(copies)
    noise = batch.rng.fold("smoothing noise").normal(copies, *batch.images.shape[1:])
    noisy = batch.images[:, None] + deviation * noise
    logits = model(noisy.flatten(0, 1))
    targets = batch.targets.repeat_interleave(copies, 0)
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if not consistency:
        return loss
    log_probabilities = logits.float().log_softmax(1).unflatten(0, (-1, copies))
    log_mean = log_probabilities.logsumexp(1, keepdim=True) - torch.tensor(float(copies)).log()
    divergence = (log_mean.exp() * (log_mean - log_probabilities)).sum(2).mean()
    entropy = -(log_mean.exp() * log_mean).sum(2).mean()
    return loss + consistency * divergence + _ENTROPY * entropy
