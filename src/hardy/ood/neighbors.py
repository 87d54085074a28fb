"""Nearest neighbors: how far an input's features are from those of training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.mahalanobis import EXACT_BELOW, WIDE_AXES, principal_axes
from hardy.ood.method import Arrays, Doubles, Method
from hardy.rng import host_generator

BANK = 10_000
NEIGHBORS = 10

_CHUNK = 1000


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:
    """``bank``, float32 (at most BANK, D): unit vectors; and what reduces wide features."""
    del labels
    values = _unit(features)
    chosen = np.sort(host_generator(0, "neighbours").permutation(len(values))[:BANK])
    if values.shape[1] <= EXACT_BELOW:
        return {"bank": values[chosen]}
    axes = principal_axes(values, WIDE_AXES).T.astype(np.float32)
    return {"axes": axes, "bank": values[chosen] @ axes}


def _score(arrays: Arrays, features: Features) -> Doubles:
    """The distance to the NEIGHBORS-th nearest of the bank, between features scaled to length 1 member by member."""
    values = _unit(features)
    squares = (values.astype(np.float64) ** 2).sum(axis=1)
    if "axes" in arrays:
        values = values @ arrays["axes"]
    bank = arrays["bank"]
    bank_squares, place = (bank.astype(np.float64) ** 2).sum(axis=1), min(NEIGHBORS, len(bank)) - 1
    found = []
    for first in range(0, max(len(values), 1), _CHUNK):
        chunk, square = values[first : first + _CHUNK], squares[first : first + _CHUNK]
        distances = square[:, None] + bank_squares - 2.0 * (chunk @ bank.T).astype(np.float64)
        found.append(np.sqrt(np.maximum(np.partition(distances, place, axis=1)[:, place], 0.0)))
    return np.concatenate(found)


def _unit(features: Features) -> NDArray[np.float32]:
    parts = []
    for member in features.members:
        values = member.penultimate
        assert values is not None
        length = np.linalg.norm(values, axis=1, keepdims=True)
        parts.append(values / np.maximum(length, np.finfo(np.float32).tiny))
    return (np.concatenate(parts, axis=1) / np.sqrt(len(parts))).astype(np.float32)


NEAREST_NEIGHBORS = Method(
    "nearest_neighbours",
    f"distance to the nearest training image but {NEIGHBORS - 1}, between normalized features",
    "Sun et al., ICML 2022, arXiv:2204.06507",
    _score,
    _fit,
    needs="penultimate",
    fitted_on="training images",
)
