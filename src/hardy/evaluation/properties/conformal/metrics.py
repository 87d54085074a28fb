"""Prediction sets: whether they hold the true class as often as promised, and how small they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.calibration.conformal import CONFORMAL, Conformal, answers_of, fit_conformal
from hardy.data.dataset import stream_of
from hardy.evaluation.charts import Chart, LineChart, Series
from hardy.evaluation.framework import EvaluationContext, Metric, Plan, Property, Results
from hardy.evaluation.predictions import (
    MEASUREMENT_FUNCTIONS,
    Predictions,
    prediction_measurement,
    predictions_of,
    test_measurement,
)
from hardy.evaluation.validation_fits import no_validation_split, validation_predictions
from hardy.metrics import weighted_mean, wilson
from hardy.rng import Randomness

ALPHAS = (0.1, 0.05, 0.01)
CLASS_ALPHA = 0.05
"""At which coverage is given class by class."""


class Sets(NamedTuple):
    """Prediction sets for the test split: the rule, and bool (N, K)."""

    rule: Conformal
    held: NDArray[np.bool_]


def plan_conformal(context: EvaluationContext) -> Plan:
    if context.validation is None:
        return Plan([], no_validation_split("conformal", "prediction sets", context))
    return Plan([test_measurement(context), prediction_measurement(context, context.validation)])


def _sets(results: Results) -> Iterator[Sets]:
    """Every kind at every alpha; none where nothing can be fitted."""
    validation = validation_predictions(results)
    if validation is None:
        return
    answers = predictions_of(results, test_measurement(results.context))
    for kind in CONFORMAL:
        for alpha in ALPHAS:
            rule = fit_conformal(
                kind,
                np.exp(validation.log_probabilities),
                validation.labels,
                alpha,
                _rng(results, str(results.context.validation), validation),
            )
            yield Sets(
                rule,
                rule.sets(np.exp(answers.log_probabilities), _rng(results, results.context.dataset, answers)),
            )


def _rng(results: Results, dataset: str, answers: Predictions) -> Randomness:
    return Randomness(results.seed, torch.tensor(answers.indices), ("conformal", stream_of(dataset)))


def metrics(results: Results) -> list[Metric]:
    context = results.context
    if context.validation is None:
        return []
    answers = predictions_of(results, test_measurement(context))
    return [it for sets in _sets(results) for it in _figures(results, answers, sets)]


def _figures(results: Results, answers: Predictions, sets: Sets) -> list[Metric]:
    dataset, setting = results.context.dataset, {"sets": sets.rule.kind, "alpha": sets.rule.alpha}
    covered = _covered(sets, answers)
    size = sets.held.sum(axis=1)
    answer = answers_of(sets.held)
    answered, wrong = answer >= 0, answer != answers.labels

    def share(metric: str, flags: NDArray[np.bool_], rows: NDArray, *, higher: bool | None, **more: str) -> Metric:
        flags = flags[rows]
        return Metric(
            metric=metric,
            dataset=dataset,
            setting={**setting, **more},
            compute=lambda weights: weighted_mean(flags, weights=weights),
            examples=((dataset, answers.indices[rows]),),
            successes=flags,
            higher_is_better=higher,
            headline=metric == "coverage" and sets.rule.kind == "lac" and sets.rule.alpha == CLASS_ALPHA,
        )

    everything = np.arange(len(covered))
    found = [
        # Neither above nor below what was promised is better.
        share("coverage", covered, everything, higher=None),
        Metric(
            metric="mean_set_size",
            dataset=dataset,
            setting=setting,
            compute=lambda weights: weighted_mean(size, weights=weights),
            examples=((dataset, answers.indices),),
            higher_is_better=False,
        ),
        share("answered_rate", answered, everything, higher=True),
    ]
    if answered.any():
        found.append(share("error_rate_when_answered", wrong, np.flatnonzero(answered), higher=False))
    if sets.rule.alpha == CLASS_ALPHA:
        names = results.dataset(dataset).classes
        found += [
            share("class_coverage", covered, np.flatnonzero(answers.labels == label), higher=None, **{"class": name})
            for label, name in enumerate(names)
            if (answers.labels == label).any()
        ]
    return found


def _covered(sets: Sets, answers: Predictions) -> NDArray[np.bool_]:
    return sets.held[np.arange(len(answers.labels)), answers.labels]


def warnings(results: Results) -> list[str]:
    if results.context.validation is None:
        return []
    if validation_predictions(results) is None:
        return ["conformal: the validation images measured are all of one class; no prediction sets were fitted"]
    found, names = [], results.dataset(results.context.dataset).classes
    for sets in _sets(results):
        always = [names[label] if label < len(names) else f"#{label}" for label in sets.rule.always]
        if always:
            found.append(
                f"conformal: at alpha {sets.rule.alpha:g} every {sets.rule.kind.replace('_', '-')} set holds "
                f"{', '.join(always)}: too few validation images to leave a class out"
            )
    return found


def draw(results: Results) -> list[Chart]:
    if results.context.validation is None:
        return []
    answers = predictions_of(results, test_measurement(results.context))
    all_sets = list(_sets(results))
    if not all_sets:
        return []
    promised = np.array([1.0 - alpha for alpha in ALPHAS])
    coverage, by_class = [], []
    for kind in CONFORMAL:
        shares = []
        for sets in all_sets:
            if sets.rule.kind == kind:
                covered = _covered(sets, answers)
                shares.append((covered.mean(), *wilson(int(covered.sum()), len(covered))))
                if sets.rule.alpha == CLASS_ALPHA:
                    labels = np.unique(answers.labels)
                    means = np.array([covered[answers.labels == label].mean() for label in labels])
                    by_class.append(Series(_words(kind), labels.astype(float), means, style="bars"))
        share, low, high = np.array(shares).T
        coverage.append(Series(_words(kind), promised, share, low, high, style="points"))
    line = Series("as promised", promised, promised, style="reference")
    least = min(float(series.low.min()) for series in coverage if series.low is not None)
    return [
        LineChart(
            title="Coverage of prediction sets",
            caption="Share of test images whose set holds the true class, over the share promised, with its 95 % "
            "interval.",
            x_label="promised",
            y_label="covered",
            series=(line, *coverage),
            x_limits=(promised.min() - 0.01, 1.0),
            y_limits=(min(least, promised.min()) - 0.01, 1.0),
        ),
        LineChart(
            title="Coverage class by class",
            caption=f"Share of each class's test images whose set holds the true class, where "
            f"{1 - CLASS_ALPHA:.0%} are promised.",
            x_label="class",
            y_label="covered",
            series=tuple(by_class),
        ),
    ]


def _words(kind: str) -> str:
    return kind.replace("_", " ")


CONFORMAL_SETS = Property(
    name="conformal",
    title="Prediction sets",
    description="Whether sets of classes, fitted on validation images, hold the true class as often as promised, "
    "1 - alpha of the time at least. A set of one class is an answer; of none or several, the rule is to abstain.",
    plan=plan_conformal,
    metrics=metrics,
    draw=draw,
    functions=MEASUREMENT_FUNCTIONS,
    warnings=warnings,
)
