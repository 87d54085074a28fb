"""A dataset in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from hardy.rng import host_generator
from hardy.validation import Images


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one split.

    Attributes:
        name: ``dataset/split``, for example ``mnist/test``.
        images: (N, C, H, W), uint8, or float32 in [0, 1].
        labels: int64 (N,), from 0 to K-1; -1 where an image has no label.
        classes: the K class names.
        made_of: the dataset whose examples these are, changed, in the same order; "" where they are its own.
        unverified: why its files cannot be told from others; "" where they were compared with published hashes.
        columns: of each image, what ``metadata.csv`` says in each of its columns; "" where it says nothing.
        skipped: files among the images that are no images.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    made_of: str = ""
    unverified: str = ""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def floats(self, indices: Tensor | slice = slice(None)) -> Images:
        """Some of the images, float32 in [0, 1]."""
        images = self.images[indices]
        return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images

    @cached_property
    def sha256(self) -> str:
        """Of dtype, shape, pixels and labels: datasets with the same hash hold the same examples in the same order."""
        digest = hashlib.sha256(f"{self.images.dtype}{tuple(self.images.shape)}".encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def stream(self) -> str:
        """The name of this dataset in random streams: of what it is made of, so that the same examples are taken."""
        return stream_of(self.made_of or self.name)

    def measuring_order(self) -> Tensor:
        """int64 (N,): the order in which a limited measurement takes examples; it depends on name and size alone.

        The first n as stored would be biased: the first half of MNIST's test split is easier than the second. The
        first n in this order are a subset of the first n + 1.
        """
        order = host_generator(0, "measuring order", self.stream, len(self)).permutation(len(self))
        return torch.from_numpy(order)


def stream_of(name: str) -> str:
    """A dataset's name in random streams, in which the validation split keeps its old name so that figures stay."""
    return name.removesuffix("/validation") + "/held-out" if name.endswith("/validation") else name
