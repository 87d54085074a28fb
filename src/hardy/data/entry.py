"""What is known of a dataset before it is loaded: where it comes from, what proves it, its license and its authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hardy.data.splits import validation_size

Role: TypeAlias = Literal["in-distribution", "out-of-distribution", "shift"]

Distance: TypeAlias = Literal["near", "far", ""]
"""How far an out-of-distribution dataset is from the classes by what it shows, as in OpenOOD (arXiv:2306.09301); ""
where nobody has said."""


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        name: as stored, without the suffix of a compression; inside an archive, its path.
        sha256: of the uncompressed content, so that any compression will do; None where it is not known.
        gz_sha256: of the ``.gz`` file that the mirrors publish, used where ``sha256`` is not known.
    """

    name: str
    sha256: str | None = None
    gz_sha256: str | None = None


@dataclass(frozen=True)
class PublishedSplit:
    """One published split.

    Attributes:
        examples: how many; None where only loading tells.
        files: of its images and of its labels; none where it is generated.
        load: generates it where it has no files: ``() -> (images, labels)``, and the names of the classes as a third
            where the dataset has none; see :func:`hardy.data.as_dataset` for what they may be.
    """

    examples: int | None
    files: tuple[DataFile, ...] = ()
    load: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Archive:
    """A zip file that the mirrors publish instead of single files.

    Attributes:
        name: of the file while it is being downloaded.
        sha256: of the archive.
        folder: the path of the dataset's files inside it.
    """

    name: str
    sha256: str
    folder: str = ""


@dataclass(frozen=True, eq=False)
class DatasetEntry:
    """One dataset.

    Attributes:
        name: the first part of the names that can be loaded, ``name/split``.
        title: its common name.
        role: what it is to a classifier of MNIST.
        distance: from MNIST, of what is out of distribution.
        splits: the published splits by name.
        classes: the class names, in the order of the labels; empty where loading tells.
        license: as its authors state it.
        citation: one line.
        mirrors: addresses that come before a file's name, or the archive's addresses.
        archive: where the mirrors publish one.
        folders: where this package, or a package of the operating system, keeps the files.
        packages: the Python packages that generating it takes, where there are no files.
        transposed: the images are stored with rows and columns swapped.
        first_label: the label of the first class in the files.
        made_of: the split, ``dataset/split``, whose examples every split of this one shows, in the same order.
    """

    name: str
    title: str
    role: Role
    splits: Mapping[str, PublishedSplit]
    classes: tuple[str, ...] = ()
    license: str = ""
    citation: str = ""
    mirrors: tuple[str, ...] = ()
    archive: Archive | None = None
    folders: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    transposed: bool = False
    first_label: int = 0
    made_of: str = ""
    distance: Distance = ""

    @property
    def files(self) -> tuple[DataFile, ...]:
        return tuple(file for split in self.splits.values() for file in split.files)

    @property
    def sizes(self) -> dict[str, int | None]:
        """How many examples each split that can be loaded has; None where only loading tells."""
        sizes: dict[str, int | None] = {}
        for name, split in self.splits.items():
            sizes[name] = split.examples
            if self.is_divided(name):
                sizes["validation"] = None
                if split.examples is not None:
                    validation = validation_size(split.examples)
                    sizes |= {name: split.examples - validation, "validation": validation}
        return sizes

    def is_divided(self, split: str) -> bool:
        """Whether a published split is loaded as ``train`` and ``validation`` (see :mod:`hardy.data.splits`)."""
        return split == "train" and "validation" not in self.splits
