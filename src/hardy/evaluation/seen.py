"""Figures that say less than they seem to, because training saw what they are measured on, or its like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def seen_in_training(
    training: Mapping[str, Any] | None, dataset: str, setting: Mapping[str, Any], hashes: Mapping[str, str]
) -> tuple[str, ...]:
    """Why a figure is no measure of what is new to the classifier, in words; nothing where it is one.

    Args:
        training: what a run says of its training; see :mod:`hardy.training.seen`.
        dataset: what the figure is measured on.
        setting: of the figure.
        hashes: of the datasets of the evaluation, by name.
    """
    seen = (training or {}).get("seen")
    if training is None or not seen:
        return ()
    name, _, split = dataset.rpartition("/")
    reasons = []
    for source, digest in seen["datasets"].items():
        if hashes.get(dataset) == digest:
            reasons.append(f"training saw these very images, as {source}")
        elif name and source.rpartition("/")[0] == name != training["data"]:
            reasons.append(f"training saw outliers of the same dataset, {source}")
    if name in seen["outlier_families"]:
        reasons.append(f"training saw synthetic outliers of the same kind, {name}")
    corruption = split if name == "mnist-c" else setting.get("corruption")
    if corruption in seen["augmentations"]:
        reasons.append(f"training saw images changed in the same way, {corruption}")
    return tuple(reasons)
