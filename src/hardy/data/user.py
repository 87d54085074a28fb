"""Users' own images: a folder with one folder per class, or an ``.npz`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.data.arrays import check_image_array, check_labels, name_classes
from hardy.data.dataset import Dataset
from hardy.data.image_files import read_pixels
from hardy.data.npy import names_in_npz, read_npz
from hardy.data.splits import divide
from hardy.errors import DataError

SPLITS = ("train", "validation", "test")

LIMIT = 1 << 32
"""Bytes of one split in memory."""

_ENDINGS = (".png", ".jpg", ".jpeg")


def load_user_dataset(path: str | Path, split: str = "test") -> Dataset:
    """Load a user's images.

    A folder has one folder per class, named after it, with PNG and JPEG files, grayscale or RGB, all of one size. An
    ``.npz`` file has ``images``, (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, uint8 or
    floating point in [0, 1], and ``labels``, whole numbers (N,) from 0 on; it may have ``classes``, the names.

    This is a ``test`` split. If the folders of the classes are in folders ``train`` and ``test``, or the arrays are
    ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``, there is a training split as well, which
    is loaded as ``train`` and ``validation`` (see :mod:`hardy.data.splits`).

    Returns:
        A dataset with the name ``PATH/SPLIT``: uint8 from a folder; uint8 or float32 from a file.

    Raises:
        DataError: nothing there; no such split; broken, too large, or not as above. The message names the first file
            or array at fault.

    Example:
        >>> import numpy as np
        >>> from hardy.data import load_user_dataset
        >>> np.savez("mine.npz", images=np.zeros((4, 28, 28), np.uint8), labels=[0, 1, 1, 0], classes=["cat", "dog"])
        >>> load_user_dataset("mine.npz").classes
        ('cat', 'dog')
    """
    path = Path(path)
    if split not in SPLITS:
        raise DataError(f"a user's dataset has the splits {', '.join(SPLITS)}, and no '{split}'")
    published = "test" if split == "test" else "train"
    if path.is_dir():
        images, labels, classes = _from_folder(path, published)
    else:
        images, labels, classes = _from_npz(path, published)
    dataset = Dataset(f"{path}/{split}", torch.from_numpy(images), torch.from_numpy(labels), classes)
    if published == "test":
        return dataset
    parts = divide(len(dataset))
    kept = parts.train if split == "train" else parts.validation
    return Dataset(dataset.name, dataset.images[kept], dataset.labels[kept], classes)


def _from_folder(path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    divided = bool(_folders(path / "test"))
    training = _folders(path / "train") if divided else []
    if split == "train" and not training:
        raise DataError(
            f"{path} has no training split: that takes folders 'train' and 'test' with one folder per class"
        )
    folder = path / split if divided else path
    classes = tuple(child.name for child in training or _folders(folder))
    if not classes:
        raise DataError(f"{path} has no folders; it takes one folder per class, named after the class")
    for child in _folders(folder):
        if child.name not in classes:
            raise DataError(f"{child} is a class that {path / 'train'} does not have")
    files = [(file, label) for label, name in enumerate(classes) for file in _image_files(folder / name)]
    if not files:
        raise DataError(f"{folder} has no PNG or JPEG file in the folders of its classes")
    first = read_pixels(files[0][0])
    if first.nbytes * len(files) > LIMIT:
        raise DataError(f"{folder} has {len(files):,} images of {first.nbytes:,} bytes; at most {LIMIT:,} are read")
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, (file, _) in enumerate(files):
        pixels = read_pixels(file)
        if pixels.shape != first.shape:
            raise DataError(
                f"{file} is {_size(pixels)}, and {files[0][0]} is {_size(first)}; all images have one size and kind"
            )
        images[index] = pixels
    return images, np.array([label for _, label in files], np.int64), classes


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return [child for child in _children(folder) if child.is_dir()]


def _image_files(folder: Path) -> list[Path]:
    files = _children(folder)
    for file in files:
        if not file.is_file() or file.suffix.lower() not in _ENDINGS:
            raise DataError(f"{file} is no PNG or JPEG file; the folder of a class holds nothing else")
    return files


def _size(pixels: NDArray[np.uint8]) -> str:
    channels, height, width = pixels.shape
    return f"{width}x{height} {'grayscale' if channels == 1 else 'RGB'}"


def _from_npz(path: Path, split: str) -> tuple[NDArray[Any], NDArray[np.int64], tuple[str, ...]]:
    every_label = {"labels", "train_labels", "test_labels"}
    arrays = read_npz(path, {"classes"} | every_label | {"images", f"{split}_images"})
    divided = f"{split}_images" in arrays
    prefix = f"{split}_" if divided else ""
    if split == "train" and not divided:
        raise DataError(f"{path} has no training split: that takes the arrays train_images and train_labels")
    for name in (f"{prefix}images", f"{prefix}labels"):
        if name not in arrays:
            raise DataError(
                f"{path} has no array '{name}'; it has {', '.join(names_in_npz(path)) or 'none'}, "
                "and takes images and labels, or train_images, train_labels, test_images and test_labels"
            )
    labels = {name: check_labels(arrays[name], f"{path}, array '{name}'") for name in every_label & arrays.keys()}
    images = check_image_array(arrays[f"{prefix}images"], f"{path}, array '{prefix}images'")
    if "classes" in arrays:
        classes = _checked_classes(arrays["classes"], path)
    else:
        classes = tuple(str(label) for label in range(1 + max(int(each.max()) for each in labels.values())))
    own = labels[f"{prefix}labels"]
    return images, own, name_classes(images, own, classes, str(path))


def _checked_classes(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(f"{path}, array 'classes', is {array.dtype} {array.shape}; class names are text, (K,)")
    return tuple(str(name) for name in array)
