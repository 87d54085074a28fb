"""Features made by hand, for tests of detectors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.models.ensemble import combined_logits
from hardy.ood import Features, Head, Member

DIMENSIONS, CLASSES = 8, 3


def features_of(*penultimate: NDArray, heads: tuple[Head, ...] | None = None) -> Features:
    """An ensemble with these penultimate features (N, D), one a member; the first four dimensions stand for a layer."""
    heads = heads or tuple(head_of(values.shape[1], seed) for seed, values in enumerate(penultimate))
    members = tuple(
        Member(
            logits=(values @ head.weight.T + head.bias).astype(np.float32),
            layers=(values[:, :4].astype(np.float32),),
            penultimate=values.astype(np.float32),
            head=head,
        )
        for values, head in zip(penultimate, heads, strict=True)
    )
    logits = members[0].logits
    if len(members) > 1:
        logits = combined_logits(torch.from_numpy(np.stack([member.logits for member in members]))).numpy()
    return Features(logits, members)


def head_of(dimensions: int, seed: int = 0) -> Head:
    """A head that answers class k by dimension k."""
    rng = np.random.default_rng(seed)
    weight = 0.1 * rng.normal(size=(CLASSES, dimensions)) + 2.0 * np.eye(CLASSES, dimensions)
    return Head(weight.astype(np.float32), rng.normal(size=CLASSES).astype(np.float32))


def clusters(count: int, seed: int = 0, members: int = 1) -> tuple[Features, NDArray[np.int64]]:
    """Training-like features: one cluster a class, flat in the last dimensions, the same classes in each member."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    spread = np.linspace(1.0, 0.05, DIMENSIONS)
    parts = [
        5.0 * np.eye(CLASSES, DIMENSIONS)[labels] + spread * rng.normal(size=(count, DIMENSIONS))
        for _ in range(members)
    ]
    return features_of(*parts), labels


def strangers(count: int, seed: int = 100, members: int = 1) -> Features:
    """Features that no class has: short in the classes' dimensions, long in the flat ones."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(count, DIMENSIONS)) * np.linspace(0.2, 2.0, DIMENSIONS) for _ in range(members)]
    return features_of(*parts)
