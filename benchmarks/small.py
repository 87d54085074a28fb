"""A recipe and data so small that they can be trained and measured many times, for the other scripts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hardy.data import load_dataset
from hardy.training import RECIPES

SMALL = RECIPES["fast"].with_settings({"model_arguments": '{"width": 2, "size": 8}', "epochs": "2", "batch_size": "32"})


def write_small_data(path: Path) -> str:
    """Write a dataset of 2,000 digits to train on and 60 to test on, 8x8, as ``.npz``; returns its name."""
    arrays: dict[str, Any] = {}
    for split, count in (("train", 2000), ("test", 60)):
        source = load_dataset(f"mnist/{split}")
        arrays |= {
            f"{split}_images": source.images[:count, 0, 2:26:3, 2:26:3].numpy(),
            f"{split}_labels": source.labels[:count].numpy(),
            "classes": np.array(source.classes),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return str(path)
