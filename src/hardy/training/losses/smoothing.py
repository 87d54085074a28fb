"""The loss that trains what randomized smoothing is to certify."""

from __future__ import annotations

from torch import Tensor, nn

from hardy.training.losses.loss import Batch, register_loss


@register_loss("randomized_smoothing")
def randomized_smoothing(model: nn.Module, batch: Batch, *, deviation: float, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy under Gaussian noise of standard deviation ``deviation``, in units of the pixel range.

    The noise is not clipped: pixels leave [0, 1], as where the smoothed classifier is sampled. Cohen, Rosenfeld and
    Kolter, ICML 2019, arXiv:1902.02918.
    """
    noise = batch.rng.fold("smoothing noise").normal(*batch.images.shape[1:])
    noisy = batch.images + deviation * noise
    return nn.functional.cross_entropy(model(noisy), batch.targets, label_smoothing=label_smoothing)
