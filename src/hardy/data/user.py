"""Users' own images: a folder with one folder per class, or an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardy.data.answers import holds_answers, read_answers
from hardy.data.arrays import as_channels, check_image_array, check_labels, name_classes, resized
from hardy.data.dataset import Dataset
from hardy.data.image_files import ENDINGS, KNOWN, channels_of, read_pixels
from hardy.data.metadata import NAME as METADATA
from hardy.data.metadata import read_metadata
from hardy.data.npy import names_in_npz, read_npy, read_npz
from hardy.data.reading import Reading
from hardy.data.splits import divide, divide_by_content
from hardy.errors import DataError, UsageError

UNLABELED = "unlabeled"
SPLITS = ("train", "validation", "test", UNLABELED)

LIMIT = 1 << 32
"""Bytes of one split in memory."""

_FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
# What archives and file servers leave among the folders of classes.
_STRAY_FOLDERS = {"__MACOSX", "@eaDir"}
_WHOLE = "whole"


_Cut: TypeAlias = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""From images and labels to the positions of each split."""


class _Loaded(NamedTuple):
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    skipped: tuple[str, ...] = ()


def load_user_dataset(path: str | Path, split: str = "test") -> Dataset:
    """Load a user's images.

    A folder has one folder per class, named after it, with PNG, JPEG, BMP, GIF, TIFF and WebP files, grayscale or RGB,
    all of one size; other files are skipped, and named in ``Dataset.skipped``. ``metadata.csv`` beside the folders of
    the classes may say more of each image (see :mod:`hardy.data.metadata`). An ``.npz`` file has ``images``,
    (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, uint8 or floating point in [0, 1], and ``labels``,
    whole numbers (N,) from 0 on; it may have ``classes``, the names.

    This is a ``test`` split. If the folders of the classes are in folders ``train`` and ``test``, or the arrays are
    ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``, there is a training split as well, which
    is loaded as ``train`` and ``validation`` (see :mod:`hardy.data.splits`), unless there is a third,
    ``validation``, also called ``val`` or ``valid``.

    Options follow the path, as in ``photos?resize=32x24&test=0.2`` (see :mod:`hardy.data.reading`): ``resize`` to
    WIDTHxHEIGHT and crop, ``channels`` 1 or 3; ``test`` makes a test and a validation split of images that have none,
    ``validation`` only that (see :func:`hardy.data.splits.divide_by_content`).

    A table, or a file of logits or probabilities (see :mod:`hardy.data.answers`), is loaded with logits, (N, 1, 1, K),
    in place of images, for :class:`hardy.models.given.GivenLogits`.

    ``unlabeled`` loads all images below a folder, or an ``.npz`` or ``.npy`` file's, without labels.

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
    reading = Reading.of(path)
    if split not in SPLITS:
        raise DataError(f"a user's dataset has the splits {', '.join(SPLITS)}, and no '{split}'")
    if not reading.path.exists():
        raise DataError(f"no file {reading.path}")
    if split == UNLABELED:
        found = _unlabeled(reading)
        return Dataset(f"{reading}/{split}", found.images, found.labels, found.classes, skipped=found.skipped)
    published = _published(reading.path)
    found = _cuts(reading, published).get(split)
    if found is None:
        raise DataError(_no_split(reading.path, split))
    source, cut = found
    images, labels, classes, columns, skipped = _read(reading, source, published)
    if cut is not None:
        try:
            kept = cut(images, labels)[split]
        except DataError as error:
            raise DataError(f"{reading.path}: {error}") from None
        images, labels = images[kept], labels[kept]
        columns = {name: tuple(values[place] for place in kept.tolist()) for name, values in columns.items()}
    return Dataset(f"{reading}/{split}", images, labels, classes, columns=columns, skipped=skipped)


def splits_of(path: str | Path) -> tuple[str, ...]:
    """The splits with labels that :func:`load_user_dataset` loads, told without reading an image.

    Raises:
        DataError: nothing there, or damaged.
    """
    reading = Reading.of(path)
    return tuple(_cuts(reading, _published(reading.path)))


def with_splits(path: str | Path) -> str:
    """The name of a user's dataset that has a training and a test split: where there are none, they are made.

    A fifth of the images is then for testing and a tenth for validation.
    """
    reading = Reading.of(path)
    made = {"train", "test"} <= set(splits_of(path))
    return str(reading if made else reading.with_option("test", "0.2"))


# Which published split holds a split, and which of its images are kept


def _published(path: Path) -> dict[str, str]:
    """What there is, by split: the name of its folder, or the prefix of its arrays. ``whole`` is images as such."""
    if holds_answers(path):
        return {_WHOLE: ""}
    if path.is_dir():
        found = {split: name for split, names in _FOLDERS.items() for name in names if _folders(path / name)}
    else:
        names = names_in_npz(path)
        found = {split: f"{split}_" for split in _FOLDERS if f"{split}_images" in names}
    return found if {"train", "test"} & found.keys() else {_WHOLE: ""}


def _cuts(reading: Reading, published: dict[str, str]) -> dict[str, tuple[str, _Cut | None]]:
    """By split that can be loaded, the published one that holds it, and how that is cut; None leaves it whole."""
    for name, share in (("test", reading.test), ("validation", reading.validation)):
        if share and name in published and published.keys() != {"test"}:
            raise UsageError(f"{reading.path} has a {name} split of its own; leave out {name}={share}")
    cuts: dict[str, tuple[str, _Cut | None]] = {name: (name, None) for name in published if name != _WHOLE}
    # Where there is nothing but a test split, what is not for validation stays for testing.
    source = next(name for name in (_WHOLE, "train", "test") if name in published)
    shares = {"test": reading.test} if reading.test else {}
    if "validation" not in published and (reading.validation or reading.test):
        shares["validation"] = reading.validation or 0.1
    rest = "train" if source == "train" or reading.test else "test"
    if shares:
        cut = partial(divide_by_content, shares=shares, rest=rest)
        return cuts | dict.fromkeys((*shares, rest), (source, cut))
    if source == "train" and "validation" not in published:
        return cuts | dict.fromkeys(("train", "validation"), (source, _by_position))
    return cuts | {rest: (source, None)}


def _by_position(images: Tensor, _: Tensor) -> dict[str, Tensor]:
    return divide(len(images))._asdict()


def _no_split(path: Path, split: str) -> str:
    if split == "test":
        return f"{path} has a training split and no test split; add one, or let it be made: '{path}?test=0.2'"
    takes = (
        "folders 'train' and 'test' with one folder per class"
        if path.is_dir()
        else ("the arrays train_images and train_labels")
    )
    made = f"'{path}?test=0.2'" + (f", or one for validation alone: '{path}?validation=0.2'" * (split == "validation"))
    return f"{path} has no training split: that takes {takes}; or let one be made: {made}"


# Reading


def _read(reading: Reading, split: str, published: dict[str, str]) -> _Loaded:
    if holds_answers(reading.path):
        if reading.resize or reading.channels:
            raise UsageError(f"{reading.path} holds answers, not images; leave out how images are read")
        logits, labels, classes = read_answers(reading.path)
        return _Loaded(torch.from_numpy(logits)[:, None, None], torch.from_numpy(labels), classes)
    if not reading.path.is_dir():
        return _from_npz(reading, published[split])
    folder = reading.path / published[split]
    training = _folders(reading.path / published["train"]) if "train" in published else []
    classes = tuple(child.name for child in training or _folders(folder))
    if not classes:
        raise DataError(f"{folder} has no folders; it takes one folder per class, named after the class")
    for child in _folders(folder):
        if child.name not in classes:
            raise DataError(f"{child} is a class that {reading.path / published['train']} does not have")
    files, labels, skipped = [], [], [child for child in _children(folder) if child.is_file()]
    for label, name in enumerate(classes):
        own, others = _sorted_out(folder / name)
        files += own
        skipped += others
        labels += [label] * len(own)
    if not files:
        raise DataError(f"{folder} has no image ({KNOWN}) in the folders of its classes")
    columns = read_metadata(folder, files) or read_metadata(reading.path, files)
    named = tuple(str(file) for file in skipped if file.name != METADATA)
    return _Loaded(_pixels_of(reading, files), torch.tensor(labels), classes, columns, named)


def _unlabeled(reading: Reading) -> _Loaded:
    path = reading.path
    if path.is_dir():
        below = sorted(it for it in path.rglob("*") if it.is_file() and not _hidden(it.relative_to(path)))
        files = [it for it in below if it.suffix.lower() in ENDINGS]
        if not files:
            raise DataError(f"{path} has no image ({KNOWN}) in it or its folders")
        images, skipped = _pixels_of(reading, files), tuple(str(it) for it in below if it not in set(files))
    else:
        if path.suffix == ".npy":
            array, where = read_npy(path), str(path)
        else:
            names = names_in_npz(path)
            name = next((it for it in ("images", "test_images") if it in names), "images")
            array, where = _array(path, name), f"{path}, array '{name}'"
        images, skipped = _converted(reading, check_image_array(array, where)), ()
    return _Loaded(images, torch.full((len(images),), -1), (), skipped=skipped)


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if not _hidden(Path(child.name)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in _STRAY_FOLDERS for part in path.parts)


def _folders(folder: Path) -> list[Path]:
    return [child for child in _children(folder) if child.is_dir()]


def _sorted_out(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files in the folder of a class, and the others."""
    files = _children(folder)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is no image file; the images of a class are in its folder and not below it")
    images = [file for file in files if file.suffix.lower() in ENDINGS]
    return images, [file for file in files if file not in images]


def _pixels_of(reading: Reading, files: Sequence[Path]) -> Tensor:
    stamps = tuple((file, (status := file.stat()).st_mtime_ns, status.st_size) for file in files)
    return torch.from_numpy(_decoded(stamps, reading.channels, reading.resize))


# The images of a folder are wanted once for each split that is made of them.
@lru_cache(maxsize=1)
def _decoded(
    stamps: tuple[tuple[Path, int, int], ...], channels: int | None, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    files = [file for file, *_ in stamps]
    if size is not None and channels is None:
        # Of both kinds; without a size one kind is asked for, as is one size.
        channels = max(map(channels_of, files))
    first = read_pixels(files[0], channels, size)
    if first.nbytes * len(files) > LIMIT:
        raise DataError(
            f"{files[0].parent} and beside: {len(files):,} images of {first.nbytes:,} bytes; at most {LIMIT:,} are read"
        )
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, file in enumerate(files):
        pixels = read_pixels(file, channels, size)
        if pixels.shape != first.shape:
            raise DataError(
                f"{file} is {_size(pixels)}, and {files[0]} is {_size(first)}; all images have one size and kind, "
                f"or are brought to one by '?resize={first.shape[2]}x{first.shape[1]}' or --resize"
            )
        images[index] = pixels
    return images


def _size(pixels: NDArray[np.uint8]) -> str:
    channels, height, width = pixels.shape
    return f"{width}x{height} {'grayscale' if channels == 1 else 'RGB'}"


def _converted(reading: Reading, images: NDArray[Any]) -> Tensor:
    found = torch.from_numpy(images)
    found = found if reading.channels is None else as_channels(found, reading.channels)
    return found if reading.resize is None else resized(found, reading.resize)


def _array(path: Path, name: str) -> NDArray[Any]:
    arrays = read_npz(path, {name})
    if name not in arrays:
        raise DataError(
            f"{path} has no array '{name}'; it has {', '.join(names_in_npz(path)) or 'none'}, "
            "and takes images and labels, or train_images, train_labels, test_images and test_labels"
        )
    return arrays[name]


def _from_npz(reading: Reading, prefix: str) -> _Loaded:
    path, own, there = reading.path, f"{prefix}labels", names_in_npz(reading.path)
    images = check_image_array(_array(path, f"{prefix}images"), f"{path}, array '{prefix}images'")
    names = {"labels", *(f"{split}_labels" for split in _FOLDERS)} & set(there) | {own}
    labels = {name: check_labels(_array(path, name), f"{path}, array '{name}'") for name in sorted(names)}
    if "classes" in there:
        classes = _checked_classes(_array(path, "classes"), path)
    else:
        classes = tuple(str(label) for label in range(1 + max(int(each.max()) for each in labels.values())))
    classes = name_classes(images, labels[own], classes, str(path))
    return _Loaded(_converted(reading, images), torch.from_numpy(labels[own]), classes)


def _checked_classes(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(f"{path}, array 'classes', is {array.dtype} {array.shape}; class names are text, (K,)")
    return tuple(str(name) for name in array)
