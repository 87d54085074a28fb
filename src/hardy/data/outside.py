"""Naming images of one's own that belong to no class, so that they are read as the images of the classes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hardy.data.dataset import Dataset
from hardy.data.entry import Distance
from hardy.data.reading import Reading
from hardy.data.registry import DATASETS
from hardy.data.user import UNLABELED
from hardy.errors import UsageError, unknown


class Outside(NamedTuple):
    """An out-of-distribution dataset: what it is called, the name that loads it, and how far from the classes it is."""

    called: str
    loaded: str
    distance: Distance = ""


def split_distance(given: str | Path) -> tuple[Distance, str]:
    """``near:REST`` or ``far:REST`` as both; else no distance and the whole."""
    distance, colon, rest = str(given).partition(":")
    if not colon or distance not in ("near", "far") or Path(str(given)).exists():
        return "", str(given)
    return distance, rest


def split_name(given: str | Path) -> tuple[str, str]:
    """``NAME=PATH`` as both; without a name, or where the whole is a path, the name is ""."""
    name, equals, path = str(given).partition("=")
    if not equals or "/" in name or "?" in name or Path(str(given)).exists():
        return "", str(given)
    return name, path


def outside_of(name: str, path: str | Path, like: Dataset) -> Outside:
    """What is known as ``name``, by default after its file, for ``path``: a ``dataset/split``, a folder, or a file.

    Images from a path get the channels of ``like``, and where that was resized its size, so that neither tells them
    apart.

    Raises:
        UsageError: no such dataset, file or folder.
    """
    if str(path).rpartition("/")[0] in DATASETS:
        return Outside(name or str(path), str(path), DATASETS[str(path).rpartition("/")[0]].distance)
    reading = Reading.of(path)
    if not reading.path.exists():
        raise UsageError(f"{unknown('dataset', str(path), DATASETS)}; nor is there a file or folder '{path}'")
    channels, height, width = like.images.shape[1:]
    reading = reading.with_option("channels", str(channels))
    if Reading.of(like.name.rpartition("/")[0]).resize:
        reading = reading.with_option("resize", f"{width}x{height}")
    return Outside(name or reading.path.stem, f"{reading}/{UNLABELED}")


def outside_ones(given: str | Path | Sequence[str | Path], like: Dataset) -> list[Outside]:
    """:func:`outside_of` of each, some with names or a distance, as in ``sketches=PATH`` or ``far:sketches=PATH``.

    Raises:
        UsageError: none of them, or two of one name.
    """
    found: list[Outside] = []
    for one in [given] if isinstance(given, str | Path) else given:
        distance, rest = split_distance(one)
        outside = outside_of(*split_name(rest), like)
        outside = outside._replace(distance=distance or outside.distance)
        if outside.called in {it.called for it in found}:
            raise UsageError(f"two datasets are called '{outside.called}'; name one of them: --ood NAME={one}")
        found.append(outside)
    return found
