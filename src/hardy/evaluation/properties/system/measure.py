"""Measures attacks on a bundle: for each example the smallest perturbation found that reaches the attacker's goal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hardy.deployment.attack import NORMS, Effort, Goal, run_on_system
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Shard, Skipped
from hardy.evaluation.properties.adversarial.measure import PICTURES, radii_of, threats_of
from hardy.synthetic.outliers import OF_NO_CLASS, OUTLIERS, make_outliers
from hardy.threats import Norm

MADE = "made outliers"
NO_BUNDLE = "what is measured is no bundle, so it has no rules for abstaining; 'hardy bundle RUN' makes one"


class Attacked(NamedTuple):
    """The measurements in one norm: of test images for two goals, and by name of outliers."""

    norm: Norm
    wrong: Measurement
    abstain: Measurement
    outliers: dict[str, Measurement]


def plan(context: EvaluationContext) -> Plan:
    if not context.bundle:
        return Plan([], [Skipped("system", NO_BUNDLE)])
    left_out = [norm for norm in radii_of(context) if norm not in {it.norm for it in attacked(context)}]
    reason = f"attacks in {', '.join(left_out)}: the {context.budget.name} budget leaves them out"
    if context.norm:
        reason = f"systems are attacked in {', '.join(NORMS)}, not in {context.norm}"
    found = [them for it in attacked(context) for them in (it.wrong, it.abstain, *it.outliers.values())]
    return Plan(found, [Skipped("system", reason)] if left_out else [])


def attacked(context: EvaluationContext) -> list[Attacked]:
    """What is measured, by norm."""
    if not context.bundle or context.budget.system == 0:
        return []
    affordable = [context.norm] if context.norm else context.budget.standard_norms
    return [
        Attacked(
            norm,
            _measurement(context, norm, eps, "wrong", context.dataset),
            _measurement(context, norm, eps, "abstain", context.dataset),
            {MADE: _measurement(context, norm, eps, "answer", context.dataset, made=True)}
            | {name: _measurement(context, norm, eps, "answer", name) for name in context.out_of_distribution},
        )
        for norm, eps in radii_of(context).items()
        if norm in affordable and norm in NORMS
    ]


def _measurement(
    context: EvaluationContext, norm: Norm, eps: tuple[float, ...], goal: Goal, dataset: str, *, made: bool = False
) -> Measurement:
    budget = context.budget
    return Measurement.of(
        "system",
        dataset,
        context.examples(dataset, budget.system_outliers if goal == "answer" else budget.system),
        bundle=context.bundle[:12],
        goal=goal,
        norm=norm,
        eps=",".join(map(repr, eps)),
        made=made,
        steps=budget.system_steps,
        targets=budget.system_targets,
        queries=budget.system_queries,
    )


def measure_system(
    classifier: nn.Module,  # noqa: ARG001
    shard: Shard,
    measurement: Measurement,
    *,
    seed: int,
    batch_size: int,
) -> Columns:
    """What attacks on the bundle found.

    ``clean_prediction`` and ``adversarial_prediction``, int64 (N,), -1 where it abstains; ``norm``, float64 (N,), the
    smallest that reaches the goal (0: without any change, infinity: none found); ``found_by``, the attack's name or "";
    ``adaptive``, bool (N,), whether a gradient led through the detector; and for the first few of a shard the attacked
    ``image``, float32 (N, CHW), else NaN.
    """
    bundle, setting, images = shard.bundle, measurement.settings, shard.images
    assert bundle is not None
    if setting["made"]:
        families = tuple(OUTLIERS) if bundle.manifest.preprocessing.form == "mnist" else OF_NO_CLASS
        images = make_outliers(images, shard.rng(seed, "made outliers"), families)
    goal: Goal = setting["goal"]  # type: ignore[assignment]
    effort = Effort(*(int(setting[name]) for name in Effort._fields))
    found = run_on_system(
        bundle,
        images,
        shard.labels if goal == "wrong" else None,
        goal,
        threats_of(measurement),
        rng=shard.rng(seed, "system"),
        effort=effort,
        batch_size=batch_size,
    )
    names = np.array([*found.names, ""], object)
    shown = torch.full_like(images, torch.nan).flatten(1)
    shown[:PICTURES] = found.result.images[:PICTURES].flatten(1)
    result = found.result
    return {
        "norm": result.min_norm.cpu().numpy(),
        "clean_prediction": result.clean_prediction.cpu().numpy(),
        "adversarial_prediction": result.prediction.cpu().numpy(),
        "found_by": names[result.attack.cpu().numpy()].astype(str),
        "adaptive": np.full(len(images), not result.warnings),
        "image": shown.cpu().numpy(),
    }
