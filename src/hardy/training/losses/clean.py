"""The loss on the images as they are."""

from __future__ import annotations

from torch import Tensor, nn

from hardy.training.losses.loss import Batch, register_loss


@register_loss("cross_entropy")
def cross_entropy(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy; ``label_smoothing`` is the share of the target that is spread evenly over all classes."""
    return nn.functional.cross_entropy(model(batch.images), batch.targets, label_smoothing=label_smoothing)
