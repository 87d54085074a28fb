"""Finding the files of a dataset, and checking their hashes. Nothing here uses the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.data.entry import DataFile, DatasetEntry
from hardy.data.idx import is_gzip, read_idx
from hardy.data.npy import read_npy
from hardy.errors import DataError
from hardy.files import sha256_of

ENVIRONMENT = "HARDY_DATA"
"""The environment variable for the folder of data, where the caller names none."""

_ENDINGS = ("", ".gz", ".xz")


class Content(NamedTuple):
    """What a file of a dataset holds.

    Attributes:
        array: as stored.
        sha256: what was hashed: the plain content, or the ``.gz`` file where only its hash is published.
        verified: whether there was a published hash to compare it with.
    """

    array: NDArray[np.generic]
    sha256: str
    verified: bool


def cache_folder(name: str) -> Path:
    """Where a dataset is downloaded to: ``hardy/datasets/NAME`` in ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hardy" / "datasets" / name


def user_folder(data_dir: Path | None) -> Path | None:
    """The folder of data that the caller names: ``data_dir``, or else the environment variable ``HARDY_DATA``.

    Raises:
        DataError: it is no folder.
    """
    named = os.environ.get(ENVIRONMENT)
    folder = data_dir or (Path(named) if named else None)
    if folder is not None and not folder.is_dir():
        origin = "" if data_dir else f", which {ENVIRONMENT} names,"
        raise DataError(f"the folder of data {folder}{origin} does not exist or is no folder")
    return folder


def find(entry: DatasetEntry, split: str, data_dir: Path | None = None) -> tuple[Path, ...]:
    """The files of a published split, in the order of the registry; an uncompressed file goes before a compressed one.

    They are looked for in ``NAME/`` in the user's folder, the user's folder itself, the cache, and the dataset's own
    folders. Four datasets use the same file names, so a file directly in the user's folder counts only if its hash, a
    name that is unique, or the folder's own name shows which dataset it belongs to. Of a name with folders in it, such
    as ``mnist_c/fog/test_images.npy``, the user's folder may be any of these folders.

    Raises:
        DataError: a file is not at hand; the message says how to get it. The user's folder does not exist.
    """
    return tuple(_find_file(entry, file, data_dir) for file in entry.splits[split].files)


def is_at_hand(entry: DatasetEntry, split: str, data_dir: Path | None = None) -> bool:
    """Whether :func:`find` finds a published split.

    Raises:
        DataError: the user's folder does not exist.
    """
    return all(any(True for _ in candidates(entry, file, data_dir)) for file in entry.splits[split].files)


def candidates(entry: DatasetEntry, file: DataFile, data_dir: Path | None = None) -> Iterator[Path]:
    """Every file at hand that may be ``file``, in the order of :func:`find`.

    Raises:
        DataError: the user's folder does not exist.
    """
    for folder, owned in _folders(entry, data_dir):
        for name in _names_in(folder, file.name):
            for ending in _ENDINGS:
                path = folder / f"{name}{ending}"
                if path.is_file() and (owned or _belongs(entry, file, path)):
                    yield path


def _names_in(folder: Path, name: str) -> Iterator[str]:
    """Under which names a folder may hold a file: the whole, or what is left below the folder that it is itself."""
    yield name
    parts = name.split("/")
    for depth in range(1, len(parts)):
        # An archive may be unpacked under any name; the folder next to the file has to be told by its name.
        if depth < len(parts) - 1 or folder.resolve().name == parts[depth - 1]:
            yield "/".join(parts[depth:])


def read(entry: DatasetEntry, file: DataFile, path: Path) -> Content:
    """Read a file of a dataset and compare it with its published hash.

    Raises:
        DataError: the file is missing, broken, or not the published one; the message has both hashes.
    """
    if file.name.endswith(".npy"):
        array, plain = read_npy(path), sha256_of(path)
    else:
        array, plain = read_idx(path, dimensions=3 if "-idx3-" in file.name else 1)
    expected, found = file.sha256, plain
    if expected is None and file.gz_sha256 is not None and is_gzip(path):
        expected, found = file.gz_sha256, sha256_of(path)
    if expected is not None and found != expected:
        raise DataError(
            f"{path} is not the published {file.name} of {entry.title}: expected sha256 {expected}, found {found}; "
            f"remove it and download it again with 'hardy data fetch {entry.name}'"
        )
    return Content(array, found, expected is not None)


def read_split(entry: DatasetEntry, split: str, paths: tuple[Path, ...]) -> tuple[Content, Content]:
    """Read the images, uint8 (N, H, W), and the labels, int64 (N,) from 0 on, of a published split.

    Raises:
        DataError: see :func:`read`; or images and labels are not those of the registry.
    """
    published = entry.splits[split]
    images, labels = (read(entry, file, path) for file, path in zip(published.files, paths, strict=True))
    pixels, classes = images.array, labels.array
    if pixels.ndim == 4 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != published.examples:
        raise DataError(
            f"{paths[0]} holds {pixels.dtype} {images.array.shape}; "
            f"{entry.name}/{split} has {published.examples:,} images of uint8"
        )
    if classes.dtype.kind not in "iu" or classes.shape != (published.examples,):
        raise DataError(
            f"{paths[1]} holds {classes.dtype} {classes.shape}; {entry.name}/{split} has {published.examples:,} labels"
        )
    last = entry.first_label + len(entry.classes) - 1
    if not entry.first_label <= int(classes.min()) <= int(classes.max()) <= last:
        raise DataError(
            f"{paths[1]} has labels from {classes.min()} to {classes.max()}; "
            f"those of {entry.name} are from {entry.first_label} to {last}"
        )
    if entry.transposed:
        pixels = pixels.swapaxes(1, 2)
    return images._replace(array=pixels), labels._replace(array=classes.astype(np.int64) - entry.first_label)


def _find_file(entry: DatasetEntry, file: DataFile, data_dir: Path | None) -> Path:
    for path in candidates(entry, file, data_dir):
        return path
    looked = ", ".join(str(folder) for folder, _ in _folders(entry, data_dir))
    raise DataError(
        f"{entry.name} is not at hand: its {file.name} (plain, .gz or .xz) is not in {looked}; "
        f"get it with 'hardy data fetch {entry.name}', or name the folder that has it with --data-dir or {ENVIRONMENT}"
    )


def _folders(entry: DatasetEntry, data_dir: Path | None) -> list[tuple[Path, bool]]:
    """The folders to look in, each with whether every file there of the right name belongs to this dataset."""
    user = user_folder(data_dir)
    named = [(user / entry.name, True), (user, user.resolve().name == entry.name)] if user else []
    return [*named, (cache_folder(entry.name), True), *((folder, True) for folder in entry.folders)]


def _belongs(entry: DatasetEntry, file: DataFile, path: Path) -> bool:
    if entry.archive is not None:
        return True
    try:
        return read(entry, file, path).verified
    except DataError:
        return False
