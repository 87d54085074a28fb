"""Measures attacks: for each example the smallest perturbation found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hardy.attacks import ATTACKS, Attack, AttackResult, get_attacks, run_attacks
from hardy.evaluation.budget import Budget
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Scalar, Shard, Skipped
from hardy.evaluation.predictions import measure_predictions, prediction_measurement
from hardy.threats import ThreatModel

PICTURES = 8
MASKING_EPS = 0.3
MASKING_ATTACKS = ("pgd", "fast-gradient", "smoothed-pgd", "square")


class Sweep(NamedTuple):
    """An attack or suite in one norm, at ascending radii."""

    attack: str
    norm: str
    eps: tuple[float, ...]


STUDY_EPS = (0.3, 1.5, 10.0)
CURVE_EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
STUDY = (
    Sweep("basic-iterative", "l2", STUDY_EPS),
    Sweep("noise", "l2", STUDY_EPS),
    Sweep("deepfool", "l2", STUDY_EPS),
    Sweep("fast-gradient", "l2", STUDY_EPS),
    Sweep("fast-gradient", "linf", STUDY_EPS),
    # The study's radii and those of a curve in one sweep, so that robust accuracy never rises with the radius.
    Sweep("pgd", "linf", (*CURVE_EPS, 1.5, 10.0)),
    Sweep("salt-and-pepper", "l2", STUDY_EPS),
)
STANDARD = (
    Sweep("standard", "linf", (0.3,)),
    Sweep("standard", "l2", (1.5, 2.0)),
    Sweep("standard", "l1", (10.0,)),
)


def plan(context: EvaluationContext) -> Plan:
    left_out = (
        "masking checks, standard in l2 and l1, and the union of norms: "
        f"the {context.budget.name} budget leaves them out"
    )
    masking = masking_measurements(context)
    saved = [prediction_measurement(context, name) for name in context.adversarial]
    measurements = [*study_measurements(context), *standard_measurements(context), *masking, *saved]
    return Plan(measurements, [] if masking else [Skipped("adversarial", left_out)])


def study_measurements(context: EvaluationContext) -> list[Measurement]:
    """The study's 21 figures, seven attacks, each at three radii; and PGD at more of them."""
    return [attack_measurement(context, sweep, context.budget.simple_attacks) for sweep in STUDY]


def curve_measurement(context: EvaluationContext) -> Measurement:
    """PGD at the radii of a curve."""
    return next(measurement for measurement in study_measurements(context) if measurement.settings["attack"] == "pgd")


def standard_measurements(context: EvaluationContext) -> list[Measurement]:
    """The standard suite in each norm that the budget affords."""
    budget = context.budget
    sweeps = [sweep for sweep in STANDARD if sweep.norm in budget.standard_norms]
    return [attack_measurement(context, sweep, budget.standard_attacks) for sweep in sweeps]


def masking_measurements(context: EvaluationContext) -> list[Measurement]:
    """The few examples that are checked for masked gradients; none where the budget does not afford the checks."""
    budget = context.budget
    if not budget.masking:
        return []
    setting = _adjustments(budget, (ATTACKS[name] for name in MASKING_ATTACKS)) | (
        {} if budget.surrogate else {"surrogate": False}
    )
    examples = context.examples(context.dataset, budget.masking)
    return [Measurement.of("masking", context.dataset, examples, eps=MASKING_EPS, **setting)]


def attack_measurement(
    context: EvaluationContext, sweep: Sweep, examples: int | None, function: str = "attack"
) -> Measurement:
    """One attack or suite at several radii: what falls at a smaller one falls at a larger one."""
    attack, norm, eps = sweep
    setting = {"attack": attack, "norm": norm, "eps": ",".join(map(repr, eps))}
    setting |= _adjustments(context.budget, get_attacks(attack, norm))
    return Measurement.of(function, context.dataset, context.examples(context.dataset, examples), **setting)


def _adjustments(budget: Budget, attacks: Iterable[Attack]) -> dict[str, Scalar]:
    """The settings that the budget changes of these attacks, if it changes any."""
    changed = {it.name: dict(budget.attack_settings[it.name]) for it in attacks if it.name in budget.attack_settings}
    return {"attack_settings": json.dumps(changed)} if changed else {}


def adjusted(measurement: Measurement, attack: Attack) -> Attack:
    """The attack with the settings that the measurement changes."""
    changed = json.loads(str(measurement.settings.get("attack_settings", "{}")))
    return attack.with_settings(**changed.get(attack.name, {}))


def radii(measurement: Measurement) -> list[float]:
    """The radii of a measurement of attacks, ascending."""
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
    # Where no attack succeeded the number is -1, which picks the last name.
    names = np.array([*(attack.name for attack in attacks), ""])
    return {
        "norm": outcome.min_norm.cpu().numpy(),
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
) -> tuple[Sequence[Attack], AttackResult]:
    setting = measurement.settings
    attacks = [adjusted(measurement, attack) for attack in get_attacks(str(setting["attack"]), str(setting["norm"]))]
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
