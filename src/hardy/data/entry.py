"""What the registry says of a dataset: where it comes from, what proves it, its licence and its makers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from hardy.data.splits import validation_size

Role: TypeAlias = Literal["in-distribution", "out-of-distribution", "shift"]


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        name: as it is stored, without the ending of a compression; inside an archive, its path.
        sha256: of the plain content, so that any compression will do; None where it is not known.
        gz_sha256: of the ``.gz`` file that the mirrors publish, for where ``sha256`` is not known.
    """

    name: str
    sha256: str | None = None
    gz_sha256: str | None = None


@dataclass(frozen=True)
class Split:
    """One published split: how many examples, and the files of its images and its labels (none where it is made)."""

    examples: int
    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class Archive:
    """A zip file that the mirrors publish instead of single files.

    Attributes:
        name: how it is called while it is being downloaded.
        sha256: of the archive.
        folder: what stands before the names of the dataset's files inside it.
    """

    name: str
    sha256: str
    folder: str = ""


@dataclass(frozen=True, eq=False)
class Entry:
    """One dataset.

    Attributes:
        name: the first part of the names that can be loaded.
        title: what people call it.
        role: what it is to a classifier of MNIST.
        splits: the published splits by name.
        classes: the class names, in the order of the labels.
        licence: as its makers state it.
        citation: one line.
        mirrors: what stands before a file's name, or the archive's address.
        archive: where the mirrors publish one.
        folders: where this package, or a package of the operating system, puts the files.
        made_with: the Python packages that it is made with, where there are no files.
        transposed: the images are stored with rows and columns swapped.
        first_label: how the files label the first class.
    """

    name: str
    title: str
    role: Role
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    licence: str
    citation: str
    mirrors: tuple[str, ...] = ()
    archive: Archive | None = None
    folders: tuple[Path, ...] = ()
    made_with: tuple[str, ...] = ()
    transposed: bool = False
    first_label: int = 0

    @property
    def files(self) -> tuple[DataFile, ...]:
        return tuple(file for split in self.splits.values() for file in split.files)

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples each split that can be loaded has."""
        sizes: dict[str, int] = {}
        for name, split in self.splits.items():
            if name == "train":
                validation = validation_size(split.examples)
                sizes |= {"train": split.examples - validation, "validation": validation}
            else:
                sizes[name] = split.examples
        return sizes
