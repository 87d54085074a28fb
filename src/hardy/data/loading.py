"""From a name to a dataset in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardy.data import saved, user
from hardy.data.arrays import as_dataset
from hardy.data.dataset import Dataset
from hardy.data.entry import DatasetEntry, Role
from hardy.data.reading import Reading
from hardy.data.registry import DATASETS
from hardy.data.sources import find, is_at_hand, read_split
from hardy.data.splits import divide
from hardy.errors import DataError, UsageError, unknown


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load one split of a dataset. The network is never used.

    Args:
        name: ``dataset/split`` of the registry, for example ``mnist/train`` (55,000), ``mnist/validation`` (the other
            5,000 of the training images), ``mnist/test`` or ``mnist-c/fog``; or the path of a user's folder or
            ``.npz`` file, followed by ``/train``, ``/validation`` or ``/test``; ``/test`` may be left out
            (see :func:`hardy.data.load_user_dataset`). A registered name goes before a folder of the same name.
        data_dir: a folder with files of datasets; by default what ``HARDY_DATA`` names.

    Returns:
        The dataset; its ``name`` loads it again.

    Raises:
        UsageError: no such name and no such file; the message has the nearest names.
        DataError: the data is not at hand (the message says how to get it), damaged or altered.

    Example:
        >>> from hardy.data import load_dataset
        >>> digits = load_dataset("mnist/validation")
        >>> digits.images.shape, digits.images.dtype
        (torch.Size([5000, 1, 28, 28]), torch.uint8)
    """
    data_dir = Path(data_dir) if data_dir is not None else None
    dataset, _, split = name.rpartition("/")
    if dataset in DATASETS:
        return _registered(DATASETS[dataset], split, data_dir)
    if name in DATASETS:
        raise UsageError(
            f"'{name}' names no split; load one of {', '.join(f'{name}/{it}' for it in DATASETS[name].sizes)}"
        )
    path, split = (dataset, split) if split in user.SPLITS else (name, "test")
    if path and Path(path).suffix == saved.SUFFIX:
        return _saved(Path(path), data_dir)
    if path and Reading.of(path).path.exists():
        return user.load_user_dataset(path, split)
    raise UsageError(f"{unknown('dataset', path, DATASETS)}; nor is there a file or folder '{path}'")


def _saved(path: Path, data_dir: Path | None) -> Dataset:
    found = saved.read_saved_set(path)
    source = load_dataset(str(found.facts.get("dataset")), data_dir)
    saved.check_made_of(found, source, str(path))
    return Dataset(str(path), found.images, found.labels, source.classes)


def splits_of(dataset: str) -> tuple[str, ...]:
    """The splits that a dataset of the registry, or a user's, has.

    Raises:
        UsageError: no such dataset.
    """
    if dataset in DATASETS:
        return tuple(DATASETS[dataset].sizes)
    if not Reading.of(dataset).path.exists():
        raise UsageError(f"{unknown('dataset', dataset, DATASETS)}; nor is there a file or folder '{dataset}'")
    return user.splits_of(dataset)


def trainable(dataset: str) -> str:
    """The name of the dataset with training, validation and test splits, which a user's may have to be divided into.

    Raises:
        UsageError: no such dataset.
    """
    return dataset if dataset in DATASETS or not splits_of(dataset) else user.with_splits(dataset)


def with_options(dataset: str | Path, **options: str) -> str:
    """The name of a user's dataset with options of :class:`~hardy.data.reading.Reading`; empty ones change nothing.

    Raises:
        UsageError: options for a dataset of the registry, or wrong ones.
    """
    given = {key: value for key, value in options.items() if value}
    if not given:
        return str(dataset)
    if str(dataset) in DATASETS:
        raise UsageError(f"'{dataset}' is read as it is; {', '.join(given)}: only for a folder or a file of one's own")
    reading = Reading.of(dataset)
    for key, value in given.items():
        reading = reading.with_option(key, value)
    return str(reading)


def available(data_dir: Path | None = None, role: Role | None = None) -> dict[str, str | None]:
    """The splits that can be measured on, each with None if it is at hand, or with the reason why it is not.

    Damaged files are noticed only when they are loaded. With ``role``, only the datasets of that role are listed.

    Raises:
        DataError: the user's folder does not exist.
    """
    return {
        f"{entry.name}/{split}": reason_missing(entry, split, data_dir)
        for entry in DATASETS.values()
        if role is None or entry.role == role
        for split in entry.splits
        if split not in ("train", "validation")
    }


def reason_missing(entry: DatasetEntry, split: str, data_dir: Path | None = None) -> str | None:
    """Why a published split of a dataset is not at hand; None if it is.

    Raises:
        DataError: the user's folder does not exist.
    """
    lacking = [package for package in entry.packages if find_spec(package) is None]
    if lacking:
        return f"it needs {' and '.join(lacking)}, not installed; get it with: pip install 'hardy[eval]'"
    if is_at_hand(entry, split, data_dir):
        return None
    return f"not at hand; get it with 'hardy data fetch {entry.name}', or name its folder with --data-dir"


def _registered(entry: DatasetEntry, split: str, data_dir: Path | None) -> Dataset:
    if split not in entry.sizes:
        raise unknown(f"split of {entry.name}", split, entry.sizes)
    published, classes, unverified = split if split in entry.splits else "train", entry.classes, ""
    if load := entry.splits[published].load:
        images, labels, classes = _generate(load, f"{entry.name}/{published}", entry.classes)
    else:
        paths = find(entry, published, data_dir)
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
        images, labels, verified = _read(entry, published, paths, stamps)
        unverified = "" if verified else "there is no published hash to compare its files with"
    if entry.is_divided(published):
        parts = divide(len(images))
        kept = parts.train if split == "train" else parts.validation
        images, labels = images[kept], labels[kept]
    dataset = Dataset(f"{entry.name}/{split}", images, labels, classes, entry.made_of, unverified)
    if entry.made_of:
        _check_made_of(dataset, load_dataset(entry.made_of, data_dir))
    return dataset


def _check_made_of(dataset: Dataset, source: Dataset) -> None:
    """Files that pass for changed examples of ``source`` have its labels, in its order, and other pixels."""
    unchanged, named = torch.equal(dataset.images, source.images), dataset.name.endswith("/identity")
    if not torch.equal(dataset.labels, source.labels):
        differing = int((dataset.labels != source.labels).sum())
        problem = f"{differing:,} of its {len(dataset):,} labels are not those of {source.name}, in its order"
    elif unchanged and not named:
        problem = f"its images are those of {source.name}, unchanged"
    elif named and not unchanged:
        problem = f"its images are not those of {source.name}, which they repeat"
    else:
        return
    raise DataError(f"{dataset.name} is not as published: {problem}; remove its files and get them again")


# MNIST's training images take a second to decompress, and are wanted twice: for training and as validation images.
@lru_cache(maxsize=4)
def _read(
    entry: DatasetEntry,
    split: str,
    paths: tuple[Path, ...],
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001 (a file that changes is read again)
) -> tuple[Tensor, Tensor, bool]:
    images, labels = read_split(entry, split, paths)
    return torch.tensor(images.array)[:, None], torch.tensor(labels.array), images.verified and labels.verified


@lru_cache(maxsize=2)
def _generate(load: Callable[[], Any], name: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    found = load()
    if isinstance(found, tuple) and len(found) == 3:
        found, classes = found[:2], found[2]
    dataset = as_dataset(found, name, classes or None)
    return dataset.images, dataset.labels, dataset.classes
