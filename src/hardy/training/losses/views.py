"""The loss on augmented views of the images, beside losses that take the images as the recipe gives them."""

from __future__ import annotations

from torch import Tensor, nn

from hardy.augmentations import Steps, augment
from hardy.training.losses.loss import Batch, register_loss


@register_loss("views")
def views(model: nn.Module, batch: Batch, *, augmentation: Steps, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy on a view of each image that a chain of augmentations makes.

    A recipe's own augmentation changes what all its objectives train on. An attack on an image whose contrast is
    already low can wipe the digit out, so that nothing is learned from it: here only this loss sees such views.

    Args:
        model: in training mode.
        batch: what the step trains on.
        augmentation: steps as of :func:`hardy.augmentations.augment`, none of which mixes labels.
        label_smoothing: as in :func:`cross_entropy`.
    """
    seen, targets = augment(batch.images, batch.targets, batch.rng.fold("view"), augmentation)
    return nn.functional.cross_entropy(model(seen), targets, label_smoothing=label_smoothing)
