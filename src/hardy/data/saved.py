"""Saved adversarial images, in float32, with labels, indices, and the attack that found them.

An 8-bit format would round them, and many would no longer be adversarial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hardy.data.dataset import Dataset
from hardy.errors import ContractError, DataError
from hardy.files import parse_json, write_bytes
from hardy.validation import Images, Labels, check_images

SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class SavedSet:
    """Images that an attack found for some examples of a dataset.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), the true classes.
        indices: int64 (N,), the examples of the dataset that were attacked.
        facts: ``dataset`` (its name), ``sha256`` (of its content), ``attack``, ``norm``, ``eps``, ``subject``, ….
    """

    images: Images
    labels: Labels
    indices: Tensor
    facts: Mapping[str, Any]


def write_saved_set(path: Path, saved: SavedSet) -> None:
    """Replace ``path`` in one step.

    Raises:
        UsageError: the file cannot be written.
    """
    tensors = {"images": saved.images, "labels": saved.labels, "indices": saved.indices}
    content = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(content, {"hardy": json.dumps(dict(saved.facts))}))


def read_saved_set(path: Path) -> SavedSet:
    """Read and check a saved set.

    Raises:
        DataError: no such file, damaged, or not a saved set.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {}).get("hardy", "null").encode(), str(path), DataError)
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"no saved set at {path}") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"the saved set {path} cannot be read ({error}); make it with 'hardy attack'") from error
    if not isinstance(facts, dict) or found.keys() != {"images", "labels", "indices"}:
        raise DataError(f"{path} is no saved set of adversarial images; 'hardy attack' writes them")
    images, labels, indices = found["images"], found["labels"], found["indices"]
    try:
        check_images(images, str(path))
    except ContractError as error:
        raise DataError(str(error)) from error
    if not (labels.dtype == indices.dtype == torch.int64 and labels.shape == indices.shape == images.shape[:1]):
        raise DataError(f"{path}: labels and indices must be int64, one entry for each of the {len(images)} images")
    return SavedSet(images, labels, indices, facts)


def check_made_of(saved: SavedSet, source: Dataset, where: str) -> None:
    """Raise :class:`DataError` unless the set was made of ``source``: content, indices, shapes and labels agree."""
    if saved.facts.get("sha256") != source.sha256:
        raise DataError(f"{where} was made of another version of {source.name}: the hashes differ")
    if len(saved.indices) and not 0 <= int(saved.indices.min()) <= int(saved.indices.max()) < len(source):
        raise DataError(f"{where}: an index lies outside the {len(source)} examples of {source.name}")
    if saved.indices.unique().numel() != len(saved.indices):
        raise DataError(f"{where}: an example occurs twice; each is saved once")
    if saved.images.shape[1:] != source.images.shape[1:]:
        found, wanted = tuple(saved.images.shape[1:]), tuple(source.images.shape[1:])
        raise DataError(f"{where}: images of shape {found}; those of {source.name} are {wanted}")
    if not torch.equal(saved.labels, source.labels[saved.indices]):
        raise DataError(f"{where}: labels and indices do not fit {source.name}; make it again with 'hardy attack'")
