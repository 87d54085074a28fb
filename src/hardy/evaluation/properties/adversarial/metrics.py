"""The metrics of adversarial robustness: which images stay right within a radius."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hardy.evaluation.framework import Measurement, Metric, MetricKind, Results, share_of
from hardy.evaluation.predictions import prediction_measurement, predictions_of
from hardy.evaluation.properties.adversarial.masking import suspicions, worst_norm
from hardy.evaluation.properties.adversarial.measure import (
    radii,
    radii_of,
    simple_measurements,
    standard_measurements,
)

WORST = "worst of all"
ROBUST_ACCURACY = MetricKind.share(
    "robust_accuracy", "Robust accuracy", higher_is_better=True, question="Does it withstand attacks?"
)
UNION_ACCURACY = replace(ROBUST_ACCURACY, question="Does it withstand attacks in every norm at once?")
TRANSFER_ACCURACY = MetricKind.share(
    "transfer_accuracy",
    "Transfer accuracy",
    higher_is_better=True,
    question="Does it withstand images made against another network?",
)


def metrics(results: Results) -> list[Metric]:
    context = results.context
    found = [
        metric
        for measurement in [*simple_measurements(context), *standard_measurements(context)]
        for eps in radii(measurement)
        for metric in _robust_accuracy(results, measurement, eps)
    ]
    return [*found, *_union(results), *(_transfer_accuracy(results, name) for name in context.adversarial)]


def _robust_accuracy(results: Results, measurement: Measurement, eps: float) -> list[Metric]:
    """What the attack leaves; where that is suspect, first what is left by all that was tried on each example."""
    attack, norm = (measurement.settings[name] for name in ("attack", "norm"))
    headline = attack == "standard" and eps in radii_of(results.context)[norm]  # type: ignore[index]
    standing = results.column(measurement, "norm") > eps
    doubts = suspicions(results, measurement) if standing.any() else ()
    examples, place = results.examples(measurement), {"norm": norm, "eps": eps}
    shown = share_of(
        ROBUST_ACCURACY,
        standing,
        examples,
        setting={"attack": attack, **place},
        headline=headline and not doubts,
        warnings=doubts,
    )
    if not (headline and doubts):
        return [shown]
    left = worst_norm(results, measurement) > eps
    words = f"{attack} alone leaves {standing.mean():.1%}; this is the worst that anything tried found of each image"
    worst = replace(
        share_of(ROBUST_ACCURACY, left, examples, setting={"attack": WORST, **place}, headline=True),
        warnings=(*doubts, words),
    )
    return [worst, shown]


def _union(results: Results) -> list[Metric]:
    """Staying right in all norms, example by example, as Maini, Wong and Kolter have it (ICML 2020, arXiv:1909.04068).

    On MNIST their radii are the usual ones."""
    measurements, largest = standard_measurements(results.context), radii_of(results.context)
    if len(largest) < 2 or len(measurements) < len(largest):
        return []
    doubts = tuple(dict.fromkeys(words for it in measurements for words in suspicions(results, it)))
    norms = [worst_norm(results, it) if doubts else results.column(it, "norm") for it in measurements]
    robust = [norm > radii(it)[-1] for norm, it in zip(norms, measurements, strict=True)]
    words = ", ".join(f"{norm} {eps[-1]:g}" for norm, eps in largest.items())
    setting = {"attack": WORST if doubts else "standard", "norm": "union", "radii": words}
    examples = results.examples(measurements[0])
    return [share_of(UNION_ACCURACY, np.all(robust, axis=0), examples, setting=setting, headline=True, warnings=doubts)]


def _transfer_accuracy(results: Results, name: str) -> Metric:
    answers = predictions_of(results, prediction_measurement(results.context, name))
    return share_of(TRANSFER_ACCURACY, answers.correct, answers.examples, headline=True)
