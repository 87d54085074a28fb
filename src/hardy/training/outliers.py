"""The outliers that training is exposed to: where they come from, and that none of them is measured on later.

A source is ``synthetic``, for hardy's own (``synthetic:strokes,glyphs`` for some families); or the name of a dataset's
split, ``fashion-mnist/train``; or the path of the user's own images, as :func:`hardy.data.load_dataset` takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from hardy.data import available, load_dataset
from hardy.errors import DataError, UsageError
from hardy.rng import Randomness
from hardy.synthetic.outliers import OUTLIERS, make_outliers
from hardy.validation import Images

SYNTHETIC = "synthetic"
MADE = 20_000
"""Synthetic outliers that are made before training, to draw from."""

_MADE_AT_ONCE = 500


def check_source(source: str, images: Tensor, data: str | None = None, data_dir: str | Path | None = None) -> None:
    """Raise :class:`UsageError` where these outliers cannot be trained on, before anything is trained.

    Args:
        source: see this module.
        images: the training images, (N, C, H, W).
        data: the dataset that is trained on, whose test split is measured on too.
        data_dir: where to look for datasets first.

    Raises:
        UsageError: no such source; none in it; of another shape; or images of a test split, which are measured on.
        DataError: the data is not at hand, damaged or altered; or a family needs a package that is not installed.
    """
    if not source:
        raise UsageError(
            f"exposure without outliers: source names none; it is {SYNTHETIC}, a dataset's split or a path"
        )
    if is_synthetic(source):
        some = _floats(images[:1].cpu())
        for family in families_of(source):
            # One is made of each, so that a package that a family needs is missed now and not later.
            OUTLIERS.find(family).function(some, Randomness(0, torch.zeros(1, dtype=torch.int64)))
        return
    found = load_dataset(source, data_dir)
    if not len(found):
        raise UsageError(f"exposure without outliers: {source} is empty")
    if found.images.shape[1:] != images.shape[1:]:
        shapes = f"{tuple(found.images.shape[1:])}, and the training images {tuple(images.shape[1:])}"
        raise UsageError(f"the outliers in {source} have the shape {shapes}; give some of the same shape")
    own = set(_hashes(found.images))
    for measured in _measured_on(data, data_dir):
        shared = own.intersection(_hashes_of(measured, data_dir))
        if shared:
            raise UsageError(
                f"{len(shared)} of the {len(own)} different images in {source} are in {measured}, which is measured "
                "on: training must not see them; name another source"
            )


def outliers_of(source: str, train: Tensor, seed: int, data_dir: str | Path | None = None) -> Tensor:
    """All outliers of a source, (M, C, H, W), uint8, or float32 in [0, 1], on the device of the training images."""
    if not is_synthetic(source):
        return load_dataset(source, data_dir).images.to(train.device)
    rows = torch.arange(MADE, device=train.device)
    rng = Randomness(seed, rows, ("exposure outliers",))
    base = train[rows % len(train)]
    made = [
        make_outliers(_floats(base[part]), rng.select(part), families_of(source)) for part in rows.split(_MADE_AT_ONCE)
    ]
    return torch.cat([(part * 255).round().to(torch.uint8) for part in made])


def drawn_outliers(outliers: Tensor, rng: Randomness) -> Images:
    """One outlier per example, drawn from all, float32 (N, C, H, W)."""
    place = (rng.fold("exposure").uniform(1).squeeze(1).double() * len(outliers)).long().clamp_max(len(outliers) - 1)
    return _floats(outliers[place])


def is_synthetic(source: str) -> bool:
    """Whether a source is hardy's own outliers."""
    return source.partition(":")[0] == SYNTHETIC


def families_of(source: str) -> tuple[str, ...]:
    """The families of synthetic outliers that a source names: all where it names none."""
    named = source.partition(":")[2]
    return tuple(named.split(",")) if named else tuple(OUTLIERS)


def _measured_on(data: str | None, data_dir: str | Path | None) -> Iterable[str]:
    """The splits at hand that an evaluation measures on; the classifier's own test split first."""
    others = available(Path(data_dir) if data_dir is not None else None).items()
    own = [f"{data}/test"] if data else []
    return dict.fromkeys((*own, *(name for name, missing in others if missing is None)))


def _hashes_of(name: str, data_dir: str | Path | None) -> Iterator[bytes]:
    try:
        images = load_dataset(name, data_dir).images
    except (DataError, UsageError):
        # Nothing can be measured on it either.
        return iter(())
    return _hashes(images)


def _hashes(images: Tensor) -> Iterator[bytes]:
    """A hash of each image as bytes; images of a single gray say nothing and have none."""
    stored = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
    flat = stored.flatten(1)
    varied = flat.amin(1) < flat.amax(1)
    return (blake2b(row.tobytes(), digest_size=16).digest() for row in flat[varied].numpy())


def _floats(images: Tensor) -> Images:
    return images.float() / 255 if images.dtype == torch.uint8 else images
