"""Asking any classifier: its logits in batches, and images and labels in the forms that users have them in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.data import Dataset
from hardy.errors import UsageError
from hardy.validation import Classifier, Images, Logits, check_images

Examples: TypeAlias = Dataset | tuple[Tensor | NDArray, Tensor | NDArray] | Iterable[tuple[Tensor, Tensor]]
"""A dataset of hardy's; images (N, C, H, W) and labels (N,); or batches of both, as a ``DataLoader`` gives them."""

_BATCH = 500


def predict_logits(classifier: Classifier, images: Images, batch_size: int = _BATCH) -> Logits:
    """float32 (N, K), without gradients; the classifier is taken in the mode that it is in."""
    with torch.no_grad():
        return torch.cat([classifier(batch).float() for batch in images.split(batch_size)])


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter or buffer is; the CPU where it has none."""
    return next((it.device for it in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def as_images(images: Tensor | NDArray, device: torch.device | str = "cpu") -> Images:
    """float32 (N, C, H, W) on a device, from a tensor or an array of floats.

    Raises:
        ContractError: of another shape or type, outside [0, 1], or NaN.
    """
    found = torch.as_tensor(images, device=device)
    found = found.float() if found.is_floating_point() else found
    check_images(found)
    return found


def batches_of(examples: Examples, device: torch.device | str = "cpu") -> Iterator[tuple[Images, NDArray[np.int64]]]:
    """Images on a device, and their labels, int64 (n,), batch by batch.

    Raises:
        ContractError: images outside the contract.
        UsageError: no such form, or labels that are not one integer per image.
    """
    if isinstance(examples, Dataset):
        chunks = torch.arange(len(examples)).split(_BATCH)
        pairs = ((examples.floats(chunk), examples.labels[chunk]) for chunk in chunks)
    elif isinstance(examples, tuple):
        pairs = [examples]
    else:
        pairs = examples
    try:
        for images, given in cast(Iterable[Any], pairs):
            labels = np.asarray(torch.as_tensor(given).cpu())
            if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
                raise ValueError(f"labels {labels.dtype} {labels.shape} for {len(images)} images, not an integer each")
            yield as_images(images, device), labels.astype(np.int64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{type(examples).__name__}: {error}; give a DataLoader of images and labels, or (images, labels)"
        ) from error
