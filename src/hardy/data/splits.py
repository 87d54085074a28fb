"""How a published training split is divided into training and validation images.

The validation images choose checkpoints, fit calibrators and set thresholds, so that the test split is only measured.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hardy.errors import DataError

VALIDATION = 5000


class Division(NamedTuple):
    """Positions in a published training split: int64, ascending, and each position in exactly one of the two."""

    train: Tensor
    validation: Tensor


def validation_size(published: int) -> int:
    """How many of ``published`` training images are for validation: 5,000, or a tenth if that is less; at least 1."""
    return max(1, min(VALIDATION, published // 10))


def divide(published: int) -> Division:
    """Divide a published training split of ``published`` images.

    The validation images are those whose position, written in decimal digits, has the smallest SHA-256. So the division
    depends on no library's random numbers, and can be repeated with any tool.

    Raises:
        DataError: fewer than two images.
    """
    if published < 2:
        raise DataError(f"a training split of {published} images cannot be divided; at least two are needed")
    digests = np.array([hashlib.sha256(b"%d" % position).digest() for position in range(published)], dtype="S32")
    # NumPy's byte strings drop trailing zero bytes, which does not change their order.
    order = np.argsort(digests, kind="stable")
    validation = validation_size(published)
    return Division(
        train=torch.from_numpy(np.sort(order[validation:])), validation=torch.from_numpy(np.sort(order[:validation]))
    )


def indices_sha256(indices: Tensor) -> str:
    """The SHA-256 of positions, each as a little-endian 64-bit integer."""
    return hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()


def split_hashes(published: int) -> dict[str, str]:
    """The :func:`indices_sha256` of both parts of a training split of ``published`` images, for a run's manifest."""
    parts = divide(published)
    return {"train": indices_sha256(parts.train), "validation": indices_sha256(parts.validation)}


def divide_by_content(images: Tensor, labels: Tensor, shares: Mapping[str, float], rest: str) -> dict[str, Tensor]:
    """Divide images by what they show: a share of them each, from every class about the same, and the rest.

    Images are ordered by their place within their class, as a share of its size, and then by the SHA-256 of their
    pixels, by which they are also ordered within the class. The parts are cut off the beginning. So the division
    depends neither on file names nor on random numbers, and equal images, also of two classes, are in one part.

    Returns:
        int64, ascending positions by the name of each part.

    Raises:
        DataError: too few different images for each part to get one.
    """
    digests = [hashlib.sha256(image.contiguous().numpy().tobytes()).digest() for image in images]
    first: dict[bytes, int] = {}
    for digest, label in zip(digests, labels.tolist(), strict=True):
        first.setdefault(digest, label)
    if len(first) <= len(shares):
        raise DataError(
            f"{len(first)} different images cannot be divided into {', '.join([*shares, rest])}; add images"
        )
    order = sorted(first, key=lambda digest: (first[digest], digest))
    sizes = Counter(first.values())
    seen: Counter[int] = Counter()
    keys = {}
    for digest in order:
        label = first[digest]
        keys[digest] = ((seen[label] + 0.5) / sizes[label], digest)
        seen[label] += 1
    order.sort(key=keys.__getitem__)
    parts, start = dict.fromkeys(order, rest), 0
    for left, (name, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        count = min(max(1, round(share * len(order))), len(order) - start - left)
        parts |= dict.fromkeys(order[start : start + count], name)
        start += count
    of_image = [parts[digest] for digest in digests]
    return {
        name: torch.tensor([place for place, part in enumerate(of_image) if part == name], dtype=torch.int64)
        for name in (*shares, rest)
    }
