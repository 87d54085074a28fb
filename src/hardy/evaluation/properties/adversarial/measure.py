"""The measure of attacks: for each example the smallest perturbation found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardy.attacks import Attack, Outcome, get_attacks, run_attacks
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Shard
from hardy.evaluation.predictions import measure_predictions
from hardy.threats import ThreatModel

PICTURES = 8


def attack_measurement(
    context: EvaluationContext,
    attack: str,
    norm: str,
    eps: tuple[float, ...],
    examples: int | None,
    measure: str = "attack",
) -> Measurement:
    """One attack or suite at several radii: what has fallen at a smaller one has fallen at a larger one."""
    return Measurement.of(
        measure,
        context.dataset,
        context.examples(context.dataset, examples),
        attack=attack,
        norm=norm,
        eps=",".join(map(repr, eps)),
    )


def radii(measurement: Measurement) -> list[float]:
    """The radii of an attack cell, ascending."""
    return [float(eps) for eps in str(measurement.settings["eps"]).split(",")]


def measure_attack(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """What attacks found.

    ``norm``, float64 (N,), the smallest that fools (0: wrong already, infinity: none found); ``found_by``, the attack's
    name or ""; ``clean_prediction`` and ``adversarial_prediction``, int64 (N,); and for the first few of a shard the
    attacked ``image``, float32 (N, CHW), else NaN.
    """
    attacks, outcome = _attacked(classifier, shard, measurement, seed, batch_size)
    images = torch.full_like(shard.images, torch.nan).flatten(1)
    images[:PICTURES] = outcome.images[:PICTURES].flatten(1)
    # Which none found is -1, the last name.
    names = np.array([*(attack.name for attack in attacks), ""])
    return {
        "norm": outcome.norm.cpu().numpy(),
        "found_by": names[outcome.attack.cpu().numpy()],
        "clean_prediction": outcome.clean_prediction.cpu().numpy(),
        "adversarial_prediction": outcome.prediction.cpu().numpy(),
        "image": images.cpu().numpy(),
    }


def measure_attacked_predictions(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), on what the attacks made of the images; where they found nothing, on the image."""
    _, outcome = _attacked(classifier, shard, measurement, seed, batch_size)
    attacked = replace(shard, images=outcome.images)
    return measure_predictions(classifier, attacked, measurement, seed=seed, batch_size=batch_size)


def _attacked(
    classifier: nn.Module, shard: Shard, measurement: Measurement, seed: int, batch_size: int
) -> tuple[Sequence[Attack], Outcome]:
    setting = measurement.settings
    attacks = get_attacks(str(setting["attack"]), str(setting["norm"]))
    outcome = run_attacks(
        classifier,
        shard.images,
        shard.labels,
        attacks,
        [ThreatModel(setting["norm"], eps) for eps in radii(measurement)],  # type: ignore[arg-type]
        rng=shard.rng(seed, "attack"),
        batch_size=batch_size,
    )
    return attacks, outcome


def share(stands: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """The weighted share of examples that stand."""
    return float(np.average(stands, weights=weights))
