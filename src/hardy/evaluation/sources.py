"""Where an evaluation finds its images: what was handed in, by name, and the datasets that can be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hardy.data import Dataset, as_dataset, load_dataset
from hardy.data.arrays import Array, Examples
from hardy.errors import UsageError

Data: TypeAlias = str | Path | Examples
"""A dataset's name or path, or images with their labels in memory."""
OutOfDistribution: TypeAlias = Sequence[str] | Mapping[str, Examples | Array]
"""Names of datasets (``dataset/split``), or images in memory, with or without labels, by names for them."""

_IN_MEMORY = "data"


@dataclass(frozen=True, eq=False)
class Sources:
    """The datasets of an evaluation; called with a name it gives the dataset.

    Attributes:
        test: the name of what is measured on.
        validation: of what is fitted on, which training did not see; None where there is none.
        train: of what the classifier was trained on; None where there is none.
        ood: out-of-distribution datasets; None stands for all that are at hand.
        in_memory: names of datasets that were handed in, which nobody can load.
        data_dir: where to look for the others first.
    """

    test: str
    validation: str | None = None
    train: str | None = None
    ood: tuple[str, ...] | None = None
    in_memory: tuple[str, ...] = ()
    data_dir: Path | None = None
    known: dict[str, Dataset] = field(default_factory=dict, repr=False)

    def __call__(self, name: str) -> Dataset:
        if name not in self.known:
            if self.in_memory and name.startswith(f"{_IN_MEMORY}/"):
                raise UsageError(f"'{name}' is not at hand: images in memory are not kept; hand them to evaluate again")
            self.known[name] = load_dataset(name, self.data_dir)
        return self.known[name]


def sources_of(
    data: Data = "mnist",
    *,
    train: Data | None = None,
    validation: Data | None = None,
    ood: OutOfDistribution | None = None,
    classes: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
) -> Sources:
    """Name what was handed in to :func:`hardy.evaluate`; a named dataset brings its own other splits.

    Raises:
        UsageError: two datasets of one name, or what is no images with labels.
    """
    known: dict[str, Dataset] = {}

    def add(dataset: Dataset) -> str:
        if dataset.name in known:
            raise UsageError(f"two datasets are called '{dataset.name}'; give one of them another name")
        known[dataset.name] = dataset
        return dataset.name

    def name_of(images: Data | None, split: str) -> str | None:
        if images is None or isinstance(images, str | Path):
            return None if images is None else f"{images}/{split}"
        return add(as_dataset(images, f"{_IN_MEMORY}/{split}", classes))

    def ood_name_of(name: str, images: Examples | Array) -> str:
        unlabeled = isinstance(images, Tensor | np.ndarray)
        examples = (images, np.zeros(len(images), np.int64)) if unlabeled else images
        dataset = as_dataset(examples, f"{_IN_MEMORY}/{name}")
        return add(replace(dataset, labels=torch.full_like(dataset.labels, -1)) if unlabeled else dataset)

    test = name_of(data, "test") or ""
    sources = Sources(test, name_of(validation, "validation"), name_of(train, "train"))
    if isinstance(ood, Mapping):
        ood = [ood_name_of(name, images) for name, images in ood.items()]
    sources = replace(
        sources,
        ood=tuple([ood] if isinstance(ood, str) else ood) if ood is not None else None,
        in_memory=tuple(known),
        data_dir=None if data_dir is None else Path(data_dir),
        known=known,
    )
    if test in known or not _has(sources, f"{data}/validation"):
        return sources
    return replace(
        sources, validation=sources.validation or f"{data}/validation", train=sources.train or f"{data}/train"
    )


def _has(sources: Sources, name: str) -> bool:
    try:
        sources(name)
    except UsageError:
        return False
    return True
