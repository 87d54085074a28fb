"""The metrics of adversarial robustness: which images stay right within a radius."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hardy.evaluation.framework import Measurement, Metric, MetricKind, Results, share_of
from hardy.evaluation.predictions import prediction_measurement, predictions_of
from hardy.evaluation.properties.adversarial.measure import radii, standard_measurements, study_measurements

# The radii whose union is published for several norms at once: Maini, Wong and Kolter, ICML 2020, arXiv:1909.04068.
UNION = {"linf": 0.3, "l2": 2.0, "l1": 10.0}
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
        _robust_accuracy(results, measurement, eps)
        for measurement in [*study_measurements(context), *standard_measurements(context)]
        for eps in radii(measurement)
    ]
    return [*found, *_union(results), *(_transfer_accuracy(results, name) for name in context.adversarial)]


def _robust_accuracy(results: Results, measurement: Measurement, eps: float) -> Metric:
    attack, norm = (measurement.settings[name] for name in ("attack", "norm"))
    return share_of(
        ROBUST_ACCURACY,
        results.column(measurement, "norm") > eps,
        results.examples(measurement),
        setting={"attack": attack, "norm": norm, "eps": eps},
        headline=attack == "standard" and UNION[str(norm)] == eps,
    )


def _union(results: Results) -> list[Metric]:
    """Staying right in all norms, example by example."""
    measurements = standard_measurements(results.context)
    if len(measurements) < len(UNION):
        return []
    robust = [results.column(it, "norm") > UNION[str(it.settings["norm"])] for it in measurements]
    setting = {"attack": "standard", "norm": "union", "radii": ", ".join(f"{n} {e:g}" for n, e in UNION.items())}
    examples = results.examples(measurements[0])
    return [share_of(UNION_ACCURACY, np.all(robust, axis=0), examples, setting=setting, headline=True)]


def _transfer_accuracy(results: Results, name: str) -> Metric:
    answers = predictions_of(results, prediction_measurement(results.context, name))
    return share_of(TRANSFER_ACCURACY, answers.correct, answers.examples, headline=True)
