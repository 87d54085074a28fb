"""Where an evaluation finds its images: what was handed in, by name, and the datasets that can be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hardy.data import DATASETS, Dataset, as_dataset, load_dataset
from hardy.data.arrays import Array, Examples
from hardy.data.entry import Distance
from hardy.data.loading import splits_of, with_options
from hardy.data.outside import Outside, outside_of, outside_ones, split_distance
from hardy.errors import DataError, UsageError

Data: TypeAlias = str | Path | Examples
"""A dataset's name or path, or images with their labels in memory."""
OutOfDistribution: TypeAlias = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Examples | Array]
"""Names of datasets (``dataset/split``) or paths, which may be named as in ``sketches=PATH``; or, by names for them,
paths or images in memory, with or without labels. ``near:`` or ``far:`` before a name says how far from the classes."""

_IN_MEMORY = "data"


@dataclass(frozen=True, eq=False)
class Sources:
    """The datasets of an evaluation; called with a name it gives the dataset.

    Attributes:
        test: the name of what is measured on.
        validation: of what is fitted on, which training did not see; None where there is none.
        train: of what the classifier was trained on; None where there is none.
        ood: out-of-distribution datasets; None stands for all that are at hand.
        distances: by the name of such a dataset, whether it is ``near`` or ``far``, where that is said.
        in_memory: names of datasets that were handed in, which nobody can load.
        aliases: by what a dataset is called here, the name that it is loaded by.
        classes: the classes in the order of the classifier's logits, by which labels are counted; () where it is the
            test split's own.
        data_dir: where to look for datasets first.
    """

    test: str
    validation: str | None = None
    train: str | None = None
    ood: tuple[str, ...] | None = None
    in_memory: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    data_dir: Path | None = None
    distances: Mapping[str, Distance] = field(default_factory=dict)
    known: dict[str, Dataset] = field(default_factory=dict, repr=False)

    def __call__(self, name: str) -> Dataset:
        if name not in self.known:
            if self.in_memory and name.startswith(f"{_IN_MEMORY}/"):
                raise UsageError(f"'{name}' is not at hand: images in memory are not kept; hand them to evaluate again")
            found = load_dataset(self.aliases.get(name, name), self.data_dir)
            self.known[name] = replace(found, name=name)
        found = self.known[name]
        if self.classes and name in (self.test, self.validation, self.train):
            self.known[name] = found = with_classes(found, self.classes)
        return found

    def distance(self, name: str) -> Distance:
        """Of an out-of-distribution dataset: what was said of it, else what its registration says."""
        entry = DATASETS.get(name.rpartition("/")[0])
        return self.distances.get(name, entry.distance if entry else "")

    def for_classes(self, classes: tuple[str, ...]) -> Sources:
        """The same with labels counted by these class names; by the test split's own if there are none."""
        return replace(self, classes=classes or self(self.test).classes)


def with_classes(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The dataset with its labels counted by these class names.

    A dataset whose classes are called by their numbers is taken to count them so.

    Raises:
        DataError: a class of another name.
    """
    if dataset.classes == tuple(map(str, range(len(dataset.classes)))):
        return replace(dataset, classes=classes) if len(dataset.classes) < len(classes) else dataset
    if dataset.classes == classes:
        return dataset
    others = [name for name in dataset.classes if name not in classes]
    if others:
        raise DataError(
            f"{dataset.name} has the class '{others[0]}', which the classifier does not know; it knows "
            f"{', '.join(classes[:20])}{', …' if len(classes) > 20 else ''}: rename or leave out others"
        )
    places = torch.tensor([classes.index(name) for name in dataset.classes])
    return replace(dataset, labels=places[dataset.labels], classes=classes)


def sources_of(
    data: Data = "mnist",
    *,
    train: Data | None = None,
    validation: Data | None = None,
    ood: OutOfDistribution | None = None,
    classes: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    resize: str = "",
    validation_share: str = "",
) -> Sources:
    """Name what was handed in to :func:`hardy.evaluate`; a named dataset brings its own other splits.

    Args:
        data: what is measured on.
        train: what was trained on.
        validation: what is fitted on.
        ood: what belongs to no class.
        classes: names of the classes of images in memory.
        data_dir: where to look for datasets first.
        resize: ``WIDTHxHEIGHT`` that the images of paths are resized and cropped to.
        validation_share: the share of ``data``, a path, that is set apart for fitting.

    Raises:
        UsageError: two datasets of one name, or what is no images with labels.
    """
    known: dict[str, Dataset] = {}
    aliases: dict[str, str] = {}

    def add(dataset: Dataset) -> str:
        if dataset.name in known:
            raise UsageError(f"two datasets are called '{dataset.name}'; give one of them another name")
        known[dataset.name] = dataset
        return dataset.name

    def name_of(images: Data | None, split: str) -> str | None:
        if images is None:
            return None
        if not isinstance(images, str | Path):
            return add(as_dataset(images, f"{_IN_MEMORY}/{split}", classes))
        images = with_options(images, resize=resize)
        # A folder that is handed in for validation may have no split of that name: it is meant as a whole.
        return f"{images}/{split if split in splits_of(images) else 'test'}"

    if isinstance(data, str | Path):
        data = with_options(data, resize=resize, validation=validation_share)
    elif validation_share:
        raise UsageError("a validation share is set apart of a folder or a file; hand in validation images instead")
    test = add(as_dataset(data, f"{_IN_MEMORY}/test", classes)) if not isinstance(data, str) else f"{data}/test"
    sources = Sources(
        test,
        name_of(validation, "validation"),
        name_of(train, "train"),
        aliases=aliases,
        data_dir=None if data_dir is None else Path(data_dir),
        known=known,
    )
    if ood is not None:
        sources = replace(sources, ood=tuple(_outside(sources, ood)))
    sources = replace(sources, in_memory=tuple(name for name in known if name.startswith(f"{_IN_MEMORY}/")))
    if isinstance(data, str) and (data not in DATASETS or _has(sources, f"{data}/validation")):
        own = {split: f"{data}/{split}" for split in splits_of(data)}
        validation_name = sources.validation or own.get("validation")
        sources = replace(sources, validation=validation_name, train=sources.train or own.get("train"))
    return sources


def _has(sources: Sources, name: str) -> bool:
    try:
        sources(name)
    except UsageError:
        return False
    return True


def _outside(sources: Sources, ood: OutOfDistribution) -> list[str]:
    """Make out-of-distribution datasets known to the sources; their names."""
    if not isinstance(ood, Mapping):
        found = outside_ones(ood, sources(sources.test))
    else:
        like, found = sources(sources.test), []
        for given, images in ood.items():
            distance, name = split_distance(given)
            if isinstance(images, str | Path):
                outside = outside_of(name, images, like)
                found.append(outside._replace(distance=distance or outside.distance))
                continue
            unlabeled = isinstance(images, Tensor | np.ndarray)
            examples = (images, np.zeros(len(images), np.int64)) if unlabeled else images
            dataset = as_dataset(examples, f"{_IN_MEMORY}/{name}")
            if dataset.name in sources.known:
                raise UsageError(f"two datasets are called '{dataset.name}'; give one of them another name")
            labels = torch.full_like(dataset.labels, -1) if unlabeled else dataset.labels
            sources.known[dataset.name] = replace(dataset, labels=labels)
            found.append(Outside(dataset.name, dataset.name, distance))
    sources.aliases.update({it.called: it.loaded for it in found if it.called != it.loaded})  # type: ignore[attr-defined]
    sources.distances.update({it.called: it.distance for it in found if it.distance})  # type: ignore[attr-defined]
    return [it.called for it in found]
