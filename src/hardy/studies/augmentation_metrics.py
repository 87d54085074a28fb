"""What each network of the augmentation study is measured on, as a property of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import nn

from hardy.attacks import ATTACKS, run_attack
from hardy.augmentations.geometry import rotate
from hardy.augmentations.noise import gaussian_noise
from hardy.corruptions import PUBLISHED, corrupt_with
from hardy.evaluation.framework import (
    Columns,
    EvaluationContext,
    Measurement,
    Metric,
    MetricKind,
    Plan,
    Property,
    Results,
    Shard,
    mean_of,
    share_of,
)
from hardy.evaluation.predictions import measure_predictions, predictions_of
from hardy.metrics import ece, prepared_auroc
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Images

ROTATION = {"degrees": 20.0}
NOISE = {"deviation": 0.25}
# Small: a network that was never trained against attacks falls to most at 0.3.
THREAT = ThreatModel("linf", 0.1)
ATTACK_STEPS = 20

CHANGES: dict[str, Callable[[Images, Randomness], Images]] = {
    "rotated": partial(rotate, **ROTATION),
    "noisy": partial(gaussian_noise, **NOISE),
    **{f"mnist-c/{name}": lambda images, rng, name=name: corrupt_with(images, name, None, rng) for name in PUBLISHED},
}

CLEAN, ROTATED, NOISY, MNIST_C, ATTACKED = (
    MetricKind.share(name, title, higher_is_better=True)
    for name, title in (
        ("clean", "clean"),
        ("rotated", "rotated"),
        ("noisy", "noisy"),
        ("mnist_c", "MNIST-C"),
        ("attacked", "attacked"),
    )
)
CALIBRATION_ERROR = MetricKind.share("ece", "ECE", higher_is_better=False)
OOD_AUROC = MetricKind("ood_auroc", "OOD AUROC", higher_is_better=True, bounds=(0.0, 1.0), chance=0.5)
KINDS = (CLEAN, ROTATED, NOISY, MNIST_C, ATTACKED, CALIBRATION_ERROR, OOD_AUROC)


class Sizes(NamedTuple):
    """How many images each metric is measured on; ``corrupted`` is for each of the 15 corruptions."""

    clean: int
    changed: int
    corrupted: int
    attacked: int
    ood: int


def augmentation_property(sizes: Sizes) -> Property:
    """The metrics of the study's table on so many images."""
    return Property(
        name="augmentation_study",
        title="Augmentation study",
        description="What the augmentation study compares its networks by.",
        plan=lambda context: Plan(list(_measurements(context, sizes).values())),
        metrics=lambda results: _metrics(results, _measurements(results.context, sizes)),
        functions={"predict": measure_predictions, "changed": measure_changed, "attacked": measure_attacked},
    )


def _measurements(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    """By what the images are."""

    def on(function: str, dataset: str, at_most: int, **setting: str) -> Measurement:
        return Measurement.of(function, dataset, context.examples(dataset, at_most), **setting)

    counts = {name: sizes.corrupted if name.startswith("mnist-c/") else sizes.changed for name in CHANGES}
    return {
        "clean": on("predict", context.dataset, sizes.clean),
        **{name: on("changed", context.dataset, count, change=name) for name, count in counts.items()},
        "attacked": on("attacked", context.dataset, sizes.attacked),
        **{f"ood/{name}": on("predict", name, sizes.ood) for name in context.out_of_distribution},
    }


def measure_changed(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), on images that one of :data:`CHANGES` was applied to."""
    name = str(measurement.settings["change"])
    images = CHANGES[name](shard.images, shard.rng(seed, "study", name))
    return measure_predictions(classifier, replace(shard, images=images), measurement, seed=seed, batch_size=batch_size)


def measure_attacked(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,  # noqa: ARG001
    *,
    seed: int,
    batch_size: int,
) -> Columns:
    """``min_norm``, float64 (N,): the smallest norm that fools; infinity where the attack found nothing."""
    attack = ATTACKS["pgd"].with_settings(steps=ATTACK_STEPS, rel_step_size=2.5 / ATTACK_STEPS)
    rng = shard.rng(seed, "study", "attack")
    outcome = run_attack(classifier, shard.images, shard.labels, attack, [THREAT], rng=rng, batch_size=batch_size)
    return {"min_norm": outcome.min_norm.cpu().numpy()}


def _metrics(results: Results, measurements: dict[str, Measurement]) -> list[Metric]:
    # The study draws its resamples in the measuring order, in which a smaller measurement is the beginning of a larger.
    results = replace(results, records={it: _in_measuring_order(results, it) for it in measurements.values()})
    answers = {name: predictions_of(results, it) for name, it in measurements.items() if name != "attacked"}
    clean, attacked = answers["clean"], measurements["attacked"]
    corrupted = [answers[f"mnist-c/{name}"] for name in PUBLISHED]
    ood = [it for name, it in answers.items() if name.startswith("ood/")]
    # By the log, which tells probabilities apart that round to 1.
    compute = _mean_auroc(*(-it.log_probabilities.max(axis=1) for it in (clean, *ood)))
    return [
        share_of(CLEAN, clean.correct, clean.examples, headline=True),
        *(share_of(kind, answers[kind.name].correct, answers[kind.name].examples) for kind in (ROTATED, NOISY)),
        mean_of(MNIST_C, np.mean([it.correct for it in corrupted], axis=0), corrupted[0].examples),
        share_of(ATTACKED, np.isinf(results.column(attacked, "min_norm")), results.examples(attacked)),
        Metric(
            CALIBRATION_ERROR, lambda weights: ece(clean.confidence, clean.correct, weights=weights), clean.examples
        ),
        Metric(OOD_AUROC, compute, sum((it.examples for it in ood), clean.examples), dataset="ood"),
    ]


def _in_measuring_order(results: Results, measurement: Measurement) -> pl.DataFrame:
    records = results.records[measurement]
    order = results.dataset(measurement.dataset).measuring_order()[: measurement.examples].numpy()
    return records[np.searchsorted(records["index"].to_numpy(), order)]


def _mean_auroc(inside: NDArray[np.float64], *outside: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], float]:
    """The mean over OOD datasets of the AUROC of these scores; the weights of the clean images come first."""
    figures = [prepared_auroc(inside, scores) for scores in outside]
    ends = np.cumsum([len(inside), *map(len, outside)])

    def mean(weights: NDArray[np.float64]) -> float:
        parts = [weights[start:end] for start, end in pairwise(ends)]
        own = weights[: len(inside)]
        return float(
            np.mean([figure(np.concatenate([own, part])) for figure, part in zip(figures, parts, strict=True)])
        )

    return mean
