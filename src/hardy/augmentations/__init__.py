"""Augmentation: batched, on the device of the images, seeded per example.

Each is a function ``(images, rng, **settings) -> images`` on float32 (N, C, H, W) in [0, 1], and stays in that range.
Those that mix two images return a :class:`Mix`, which says how their labels mix.
"""

from __future__ import annotations

from hardy.augmentations.mixing import Mix
from hardy.augmentations.steps import (
    AUGMENTATIONS,
    MIXINGS,
    Augmentation,
    Mixing,
    Settings,
    Steps,
    augment,
    check_augmentation,
    mixes,
    register,
)

__all__ = [
    "AUGMENTATIONS",
    "MIXINGS",
    "Augmentation",
    "Mix",
    "Mixing",
    "Settings",
    "Steps",
    "augment",
    "check_augmentation",
    "mixes",
    "register",
]
