"""Arrays and loaders in memory, checked and brought to the form of a :class:`~hardy.data.Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils import data as torch_data

from hardy.data.dataset import Dataset
from hardy.errors import DataError

Array: TypeAlias = Tensor | NDArray[Any]
Examples: TypeAlias = Dataset | torch_data.DataLoader[Any] | torch_data.Dataset[Any] | tuple[Array, Array]
"""What :func:`as_dataset` takes: images with their labels."""

MAX_CLASSES = 1 << 16
_BATCH = 1000


def as_dataset(data: Examples, name: str, classes: Sequence[str] | None = None) -> Dataset:
    """Turn images and labels in memory into a :class:`~hardy.data.Dataset`.

    Args:
        data: a dataset of hardy, which is returned as it is; a ``DataLoader`` of (images, labels) batches, which is
            read once, in the same order each time even if it shuffles; a dataset of torch; or a pair (images, labels)
            of tensors or arrays. Images are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, uint8 or
            floating point in [0, 1]. Labels are integers (N,), from 0 to K-1.
        name: what the dataset is called; its random streams depend on it.
        classes: the K class names; by default the numbers from 0 to the largest label.

    Raises:
        DataError: not as above.

    Example:
        >>> import torch
        >>> from hardy.data.arrays import as_dataset
        >>> data = as_dataset((torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 1])), "mine")
        >>> len(data), data.classes
        (4, ('0', '1', '2'))
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, torch_data.Dataset):
        data = torch_data.DataLoader(data, batch_size=_BATCH)
    if isinstance(data, torch_data.DataLoader):
        data = read_loader(data, name)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise DataError(f"{name} is {type(data).__name__}; pass a DataLoader, a dataset, or a pair (images, labels)")
    images = check_image_array(_numpy(data[0]), f"{name}, images")
    labels = check_labels(_numpy(data[1]), f"{name}, labels")
    return Dataset(
        name, torch.from_numpy(images), torch.from_numpy(labels), name_classes(images, labels, classes, name)
    )


def check_image_array(array: NDArray[Any], where: str) -> NDArray[Any]:
    """A copy as uint8 or float32 (N, C, H, W); :class:`DataError` for what are no images."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"{where}: shape {array.shape}; images are (N, H, W), or (N, C, H, W) or (N, H, W, C) with C 1 or 3"
        )
    if not array.size:
        raise DataError(f"{where}: empty, shape {array.shape}")
    if array.dtype == np.uint8:
        return array.copy(order="C")
    if array.dtype.kind != "f":
        raise DataError(f"{where}: dtype {array.dtype}; images are uint8, or floating point in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(f"{where}: values from {low:g} to {high:g}; floating-point images lie in [0, 1]")
    return array.astype(np.float32, order="C")


def as_channels(images: Tensor, channels: int) -> Tensor:
    """Images (N, C, H, W), uint8 or float32, with 1 or 3 channels: gray as RGB, or the luma of RGB."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    luma = (images.float() * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, keepdim=True)
    return luma.round().to(torch.uint8) if images.dtype == torch.uint8 else luma.clamp(0.0, 1.0)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W), uint8 or float32, that cover (height, width), cropped to it about their center."""
    if tuple(images.shape[2:]) == size:
        return images
    scale = max(wanted / found for wanted, found in zip(size, images.shape[2:], strict=True))
    made = torch.empty(len(images), images.shape[1], *size, dtype=images.dtype)
    for start in range(0, len(images), _BATCH):
        floats = images[start : start + _BATCH].float()
        # What is cropped away is cropped first, as far as whole pixels go.
        height, width = (min(it, round(side / scale)) for side, it in zip(size, images.shape[2:], strict=True))
        top, left = ((it - kept) // 2 for it, kept in zip(images.shape[2:], (height, width), strict=True))
        cropped = floats[:, :, top : top + height, left : left + width]
        fitted = functional.interpolate(cropped, size, mode="bilinear", antialias=True)
        is_bytes = images.dtype == torch.uint8
        made[start : start + _BATCH] = fitted.round().clamp(0, 255).to(torch.uint8) if is_bytes else fitted.clamp(0, 1)
    return made


def check_labels(array: NDArray[Any], where: str) -> NDArray[np.int64]:
    """A copy as int64 (N,); :class:`DataError` for what are no labels."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise DataError(f"{where}: {array.dtype} of shape {array.shape}; labels are integers, (N,)")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(f"{where}: labels from {low} to {high}; labels lie between 0 and {MAX_CLASSES - 1}")
    return array.astype(np.int64)


def name_classes(
    images: NDArray[Any], labels: NDArray[np.int64], classes: Sequence[str] | None, where: str
) -> tuple[str, ...]:
    """The names of the classes; :class:`DataError` if images, labels and names do not fit each other."""
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images):,} images and {len(labels):,} labels; each image has one")
    largest = int(labels.max())
    if classes is None:
        return tuple(str(label) for label in range(largest + 1))
    if largest >= len(classes):
        raise DataError(f"{where}: the label {largest}; its {len(classes)} classes are 0 to {len(classes) - 1}")
    return tuple(map(str, classes))


def _numpy(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def read_loader(loader: torch_data.DataLoader[Any], name: str) -> tuple[Tensor, Tensor]:
    """All images and labels of a loader, in the same order each time even if it shuffles.

    Raises:
        DataError: it gives no batch, or batches of something else.
    """
    # Loaders draw from the global generator: seeded, a shuffled order is the same each time; forked, it is left alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            batches = [(batch[0], batch[1]) for batch in loader]
            if not batches:
                raise DataError(f"{name}: the loader must give batches (images, labels) of tensors; it gives no batch")
            images, labels = zip(*batches, strict=True)
            return torch.cat(images), torch.cat(labels)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{name}: the loader must give batches (images, labels) of tensors ({error})") from error
