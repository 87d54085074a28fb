"""Scores from penultimate features.

An ensemble is taken as one network: its features are its members' side by side, and its head is the mean of their
heads, whose logits are the mean of the members' logits. So every method for one network is one for an ensemble.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.ood.features import Features, Head
from hardy.ood.gaussians import (
    EXACT_BELOW,
    WIDE_AXES,
    Arrays,
    Doubles,
    fit_gaussians,
    mahalanobis,
    principal_axes,
    relative_mahalanobis,
)
from hardy.ood.logit_scores import energy
from hardy.rng import host_generator

BANK = 10_000
NEIGHBOURS = 10
REACT_QUANTILE = 0.9

_CHUNK = 1000
_LEAST_RESIDUAL = 1e-6


def joint(features: Features) -> tuple[NDArray[np.float32], Head]:
    """The penultimate features (N, D) of all members side by side, and the head that maps them to the mean logits."""
    parts = [(member.penultimate, member.head) for member in features.members]
    values = [penultimate for penultimate, _ in parts if penultimate is not None]
    heads = [head for _, head in parts if head is not None]
    weight = np.concatenate([head.weight for head in heads], axis=1) / np.float32(len(heads))
    return np.concatenate(values, axis=1), Head(weight, np.mean([head.bias for head in heads], axis=0))


def fit_mahalanobis(features: Features, labels: NDArray[np.int64]) -> Arrays:
    return fit_gaussians(joint(features)[0], labels)


def score_mahalanobis(arrays: Arrays, features: Features) -> Doubles:
    return mahalanobis(arrays, joint(features)[0])


def score_relative_mahalanobis(arrays: Arrays, features: Features) -> Doubles:
    return relative_mahalanobis(arrays, joint(features)[0])


def fit_vim(features: Features, labels: NDArray[np.int64]) -> Arrays:  # noqa: ARG001
    """``origin`` (D,), ``axes`` (D', D), ``alpha`` (), and the head.

    The origin is where the head answers 0; half of the dimensions are principal, as in the paper for narrow features.
    """
    values, head = joint(features)
    weight, bias = head.weight.astype(np.float64), head.bias.astype(np.float64)
    origin = -np.linalg.pinv(weight) @ bias
    dimensions = values.shape[1]
    count = dimensions // 2 if dimensions <= EXACT_BELOW else WIDE_AXES
    arrays = {"origin": origin, "axes": principal_axes(values - origin.astype(np.float32), count)}
    logits = values @ weight.T + bias
    # Features that lie in their principal axes leave nothing but rounding.
    least = _LEAST_RESIDUAL * np.linalg.norm(values - origin, axis=1).mean()
    return arrays | {
        "alpha": np.array(logits.max(axis=1).mean() / max(_residual(arrays, values).mean(), least)),
        "weight": weight,
        "bias": bias,
    }


def score_vim(arrays: Arrays, features: Features) -> Doubles:
    """The virtual logit, alpha times what the principal axes leave of the features, less the energy of the others.

    It orders inputs as the virtual logit's probability does.
    """
    values = joint(features)[0]
    logits = values @ arrays["weight"].T + arrays["bias"]
    return arrays["alpha"] * _residual(arrays, values) + energy(logits)


def _residual(arrays: Arrays, values: NDArray) -> Doubles:
    moved = values - arrays["origin"]
    return np.linalg.norm(moved - (moved @ arrays["axes"].T) @ arrays["axes"], axis=1)


def fit_neighbours(features: Features, labels: NDArray[np.int64]) -> Arrays:
    """``bank``, float32 (at most BANK, D): unit vectors; and what reduces wide features."""
    del labels
    values = _unit(features)
    chosen = np.sort(host_generator(0, "neighbours").permutation(len(values))[:BANK])
    if values.shape[1] <= EXACT_BELOW:
        return {"bank": values[chosen]}
    axes = principal_axes(values, WIDE_AXES).T.astype(np.float32)
    return {"axes": axes, "bank": values[chosen] @ axes}


def score_neighbours(arrays: Arrays, features: Features) -> Doubles:
    """The distance to the NEIGHBOURS-th nearest of the bank, between features scaled to length 1 member by member."""
    values = _unit(features)
    squares = (values.astype(np.float64) ** 2).sum(axis=1)
    if "axes" in arrays:
        values = values @ arrays["axes"]
    bank = torch.from_numpy(np.ascontiguousarray(arrays["bank"]))
    bank_squares = (bank.double() ** 2).sum(1)
    found = []
    for chunk, square in zip(
        torch.from_numpy(values).split(_CHUNK), torch.from_numpy(squares).split(_CHUNK), strict=True
    ):
        distances = square[:, None] + bank_squares - 2.0 * (chunk @ bank.T).double()
        found.append(distances.kthvalue(min(NEIGHBOURS, len(bank)), dim=1).values.clamp_min(0.0).sqrt())
    return torch.cat(found).numpy() if found else np.zeros(0)


def _unit(features: Features) -> NDArray[np.float32]:
    parts = []
    for member in features.members:
        values = member.penultimate
        assert values is not None
        length = np.linalg.norm(values, axis=1, keepdims=True)
        parts.append(values / np.maximum(length, np.finfo(np.float32).tiny))
    return (np.concatenate(parts, axis=1) / np.sqrt(len(parts))).astype(np.float32)


def fit_react(features: Features, labels: NDArray[np.int64]) -> Arrays:  # noqa: ARG001
    """``ceiling`` (), a quantile of all training activations, and the head."""
    values, head = joint(features)
    return {
        "ceiling": np.array(np.quantile(values, REACT_QUANTILE), np.float64),
        "weight": head.weight.astype(np.float64),
        "bias": head.bias.astype(np.float64),
    }


def score_react(arrays: Arrays, features: Features) -> Doubles:
    clipped = np.minimum(joint(features)[0], arrays["ceiling"])
    return energy(clipped @ arrays["weight"].T + arrays["bias"])
