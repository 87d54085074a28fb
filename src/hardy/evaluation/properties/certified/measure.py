"""Measures certificates: for each example the largest radius within which it is certified, by method."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hardy.certification import Effort, NoBoundError
from hardy.certification.certify import CERTIFYING, certified_radii
from hardy.certification.trace import trace
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Shard, Skipped
from hardy.evaluation.properties.adversarial.measure import (
    Sweep,
    attack_measurement,
    radii,
    radii_of,
    simple_measurements,
)
from hardy.evaluation.properties.certified import detection
from hardy.threats import Norm, ThreatModel, gray_radius

BOUNDED = ("linf", "l2", "l1")


def plan(context: EvaluationContext) -> Plan:
    if context.budget.certified == 0:
        return Plan([], [Skipped("certified", f"the {context.budget.name} budget leaves certificates out")])
    pairs = measurements(context)
    if not pairs:
        return Plan(
            [], [Skipped("certified", f"no bound is known in {context.norm}; in {', '.join(BOUNDED)} there is")]
        )
    return Plan([*dict.fromkeys(it for pair in pairs for it in pair), *detection.plan(context)])


def measurements(context: EvaluationContext) -> list[tuple[Measurement, Measurement]]:
    """Per norm the certificates, and the attack that is held against them: that of the adversarial curve, if any."""
    norms: list[Norm] = [norm for norm in radii_of(context) if norm in BOUNDED]
    if context.budget.certified == 0:
        return []
    chosen: list[Norm] = norms if context.norm else [norm for norm in norms if norm in context.budget.standard_norms]
    return [(_certificates(context, norm), _attacked(context, norm)) for norm in chosen]


def _attacked(context: EvaluationContext, norm: Norm) -> Measurement:
    curves = [it for it in simple_measurements(context) if it.settings["attack"] == "pgd"]
    own = Sweep("pgd", norm, radii_of(context)[norm])
    return next(
        (it for it in curves if it.settings["norm"] == norm), attack_measurement(context, own, context.budget.certified)
    )


def _certificates(context: EvaluationContext, norm: Norm) -> Measurement:
    end = gray_radius(norm, context.shape)
    eps = sorted({it for it in radii(_attacked(context, norm)) if it < end} | {*radii_of(context)[norm]})
    examples = context.examples(context.dataset, context.budget.certified)
    return Measurement.of(
        "certify",
        context.dataset,
        examples,
        norm=norm,
        eps=",".join(map(repr, eps)),
        nodes=context.budget.certificate_nodes,
    )


def measure_certified(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """The largest radius at which an image is certified: float64 (N,), -1 where it is answered wrongly, 0 for none.

    ``intervals``, ``crown`` and ``branching``: by that method or a cheaper one. ``reason``: why there is no bound, in
    which case the radii are NaN; else "".
    """
    del seed
    count, setting = len(shard.labels), measurement.settings
    try:
        traced = trace(classifier, tuple(shard.images.shape[1:]))
    except NoBoundError as error:
        return {**dict.fromkeys(CERTIFYING, np.full(count, np.nan)), "reason": np.full(count, str(error))}
    effort = Effort(nodes=int(setting["nodes"]))
    threats = [ThreatModel(setting["norm"], eps) for eps in radii(measurement)]  # type: ignore[arg-type]
    parts = [
        certified_radii(traced, classifier, shard.images[rows], shard.labels[rows], threats, effort)
        for rows in torch.arange(count).split(batch_size)
    ]
    found = {name: np.concatenate([part[name] for part in parts]) for name in CERTIFYING}
    return {**found, "reason": np.full(count, "")}
