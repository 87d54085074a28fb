"""A small network on what the classifier computes, which learns to tell training images from synthetic outliers.

Outlier exposure (Hendrycks et al., ICLR 2019, arXiv:1812.04606) without training the classifier: its convolutions'
statistics, features and logits go in, and with them how gradients are distributed over the image itself, because a
classifier keeps only what tells its classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hardy.ood.features import Features
from hardy.ood.method import Arrays, Doubles, Method
from hardy.rng import host_generator

HIDDEN, BATCH = 96, 256
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 3e-3, 1e-3, 0.2

EPOCHS, FEWEST_STEPS, MOST_STEPS = 20, 100, 1200
"""Passes over the training images, as far as that is neither too few steps to learn from nor more than it needs."""

CLIP = 6.0
"""Standard deviations: beyond them the network sees no difference, and the distance is added to the score instead."""

LARGEST, FAR = 20.0, 4.0
"""The most that the network can say either way, in nats, and what one root mean square beyond the clip adds."""


def fit_discriminator(inside: Features, outside: Sequence[Features]) -> Arrays:
    """Fit to training images and to families of outliers, each of which counts the same however many it has.

    Returns:
        ``mean`` and ``scale`` (D,), of the inputs; ``hidden`` (D, H), ``hidden_bias`` (H,), ``weight`` (H,), ``bias``.
    """
    values = _inputs(inside)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    scale = deviation + 1e-3 * deviation.mean() + 1e-6
    arrays: Arrays = {"mean": mean.astype(np.float64), "scale": scale.astype(np.float64)}
    positive = torch.from_numpy(_standardized(arrays, values).clip(-CLIP, CLIP).astype(np.float32))
    families = [
        torch.from_numpy(_standardized(arrays, _inputs(it)).clip(-CLIP, CLIP).astype(np.float32))
        for it in outside
        if len(it)
    ]
    rng = host_generator(0, "discriminator")
    size = positive.shape[1]
    parameters = [
        torch.from_numpy(rng.normal(0, size**-0.5, (size, HIDDEN)).astype(np.float32)),
        torch.zeros(HIDDEN),
        torch.from_numpy(rng.normal(0, HIDDEN**-0.5, HIDDEN).astype(np.float32)),
        torch.zeros(()),
    ]
    for parameter in parameters:
        parameter.requires_grad_(True)
    hidden, hidden_bias, weight, bias = parameters
    steps = min(max(EPOCHS * len(positive) // BATCH, FEWEST_STEPS), MOST_STEPS)
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    each = -(-BATCH // len(families))
    for _ in range(steps):
        inner = positive[torch.from_numpy(rng.integers(len(positive), size=BATCH))]
        outer = torch.cat([it[torch.from_numpy(rng.integers(len(it), size=each))] for it in families])
        both = torch.cat([inner, outer])
        kept = torch.from_numpy(rng.random((len(both), HIDDEN), dtype=np.float32)) > DROPOUT
        logits = (F.relu(both @ hidden + hidden_bias) * kept / (1 - DROPOUT)) @ weight + bias
        loss = F.softplus(logits[:BATCH]).mean() + F.softplus(-logits[BATCH:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    names = ("hidden", "hidden_bias", "weight", "bias")
    return arrays | {name: it.detach().double().numpy() for name, it in zip(names, parameters, strict=True)}


def _score(arrays: Arrays, features: Features) -> Doubles:
    """The log odds of an outlier, bounded, and what lies beyond the clip in any direction, which is not.

    So what is far enough from all training images is suspicious whatever the network makes of it.
    """
    values = _standardized(arrays, _inputs(features))
    hidden = np.maximum(values.clip(-CLIP, CLIP) @ arrays["hidden"] + arrays["hidden_bias"], 0.0)
    log_odds = (hidden @ arrays["weight"] + arrays["bias"]).clip(-LARGEST, LARGEST)
    return log_odds + FAR * np.sqrt((np.maximum(np.abs(values) - CLIP, 0.0) ** 2).mean(axis=1))


def _standardized(arrays: Arrays, values: NDArray) -> Doubles:
    return (values - arrays["mean"]) / arrays["scale"]


def _inputs(features: Features) -> NDArray[np.float32]:
    parts: list[NDArray] = [np.sqrt(features.gradients)] if features.gradients.shape[1] else []
    for member in features.members:
        parts += [*member.layers, np.sort(member.logits, axis=1)]
        if member.penultimate is not None and member.penultimate.shape[1] <= WIDEST:
            parts.append(member.penultimate)
    return np.concatenate(parts, axis=1)


WIDEST = 1024
"""Penultimate features of more dimensions are left out: the convolutions' statistics say as much in fewer."""

DISCRIMINATOR = Method(
    "discriminator",
    "a small network on features and image gradients, fitted to tell training images from synthetic outliers",
    "after Hendrycks et al., ICLR 2019, arXiv:1812.04606",
    _score,
    fitted_on="training images and synthetic outliers",
)
