"""Recipes, data and a bundle so small that they can be made and measured many times, for the other scripts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import hardy.deployment.fit
from hardy.data import load_dataset
from hardy.deployment import Bundle
from hardy.runs import Run
from hardy.training import RECIPES

SMALL = RECIPES["fast"].with_settings({"model_arguments": '{"width": 2, "size": 8}', "epochs": "2", "batch_size": "32"})
SMALL_DIGITS = SMALL.with_settings({"model_arguments": '{"width": 2}', "epochs": "1"})


def write_small_data(path: Path) -> str:
    """Write a dataset of 2,000 digits to train on and 60 to test on, 8x8, as ``.npz``; returns its name."""
    return _write(path, slice(2, 26, 3))


def write_digits(path: Path) -> str:
    """The same, 28x28."""
    return _write(path, slice(None))


def _write(path: Path, pixels: slice) -> str:
    arrays: dict[str, Any] = {}
    for split, count in (("train", 2000), ("test", 60)):
        source = load_dataset(f"mnist/{split}")
        arrays |= {
            f"{split}_images": source.images[:count, 0, pixels, pixels].numpy(),
            f"{split}_labels": source.labels[:count].numpy(),
            "classes": np.array(source.classes),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return str(path)


def measure_little() -> None:
    """From now on, bundles measure refusal on few images."""
    little = {"IMAGES_PER_KIND": 10, "PAGES_PER_KIND": 5, "VARIANTS": 1, "EXPOSURE_FONTS": ("DejaVuSansMono", "cmr10")}
    for name, value in little.items():
        setattr(hardy.deployment.fit, name, value)


def small_bundle(run: Run) -> Bundle:
    """A bundle of a run of ``SMALL_DIGITS``."""
    measure_little()
    return hardy.deployment.fit.fit_bundle(run, detector="energy", alpha=0.1)
