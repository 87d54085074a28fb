"""Distribution shift: corruptions, digits from elsewhere, and whether the answer holds still when the image moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.corruptions import CORRUPTIONS
from hardy.evaluation.framework import EvaluationContext, Measurement, Metric, Plan, Property, Results, Scalar
from hardy.evaluation.predictions import MEASUREMENT_FUNCTIONS, prediction_measurement, predictions_of, test_measurement
from hardy.evaluation.properties.shift.charts import draw
from hardy.evaluation.properties.shift.measure import (
    FRAMES,
    MOVES,
    PUBLISHED_DATASET,
    Condition,
    conditions,
    left_out,
    measure_consistency,
    measure_corrupted,
    move_measurement,
)
from hardy.evaluation.properties.shift.reference import CLEAN, ERRORS, REFERENCE
from hardy.metrics import ece, prepared_auroc, weighted_mean
from hardy.ood import SCORES

SCORE = "max_softmax"
BINS = 15
# The share of validation images that the threshold refuses.
REFUSED = 0.01


def natural_shifts(context: EvaluationContext) -> list[str]:
    """The datasets at hand that show the same classes and come from elsewhere."""
    return [name for name in context.shift if not name.startswith(f"{PUBLISHED_DATASET}/")]


def plan_shift(context: EvaluationContext) -> Plan:
    validation = [prediction_measurement(context, context.validation)] if context.validation else []
    natural = [prediction_measurement(context, name) for name in natural_shifts(context)]
    moves = [move_measurement(context, move) for move in MOVES]
    measurements = [
        test_measurement(context),
        *validation,
        *(it.measurement for it in conditions(context)),
        *natural,
        *moves,
    ]
    return Plan(measurements, left_out(context))


def metrics(results: Results) -> list[Metric]:
    threshold = refusal_threshold(results)
    found = _summaries(results)
    for condition in conditions(results.context):
        setting = {"corruption": condition.corruption, "severity": condition.severity}
        found += _under(results, condition.measurement, setting, threshold)
    for name in natural_shifts(results.context):
        found += _under(results, prediction_measurement(results.context, name), {}, threshold)
    if threshold is not None:
        found.append(_refusals(results, test_measurement(results.context), {}, threshold))
    return [*found, *(_flip_rate(results, move) for move in MOVES)]


def refusal_threshold(results: Results) -> float | None:
    """The score above which at most 1 % of the validation images lie; None where there are none."""
    if results.context.validation is None:
        return None
    validation = predictions_of(results, prediction_measurement(results.context, results.context.validation))
    return float(np.quantile(SCORES[SCORE](validation.logits), 1.0 - REFUSED, method="higher"))


def _under(
    results: Results, measurement: Measurement, setting: Mapping[str, Scalar], threshold: float | None
) -> list[Metric]:
    """Accuracy, calibration, error detection and refusals on one cell of predictions."""
    answers = predictions_of(results, measurement)
    confidence, correct = answers.confidence, answers.correct
    score = SCORES[SCORE](answers.logits)
    auroc = prepared_auroc(score[correct], score[~correct])
    make = partial(Metric, dataset=measurement.dataset, examples=((measurement.dataset, answers.indices),))
    found = [
        make(
            metric="accuracy",
            setting=setting,
            compute=lambda weights: weighted_mean(correct, weights=weights),
            successes=correct,
            higher_is_better=True,
            headline=not setting,
        ),
        make(
            metric="ece",
            setting={**setting, "bins": BINS},
            compute=lambda weights: ece(confidence, correct, BINS, weights=weights),
            higher_is_better=False,
        ),
        make(
            metric="auroc",
            setting={**setting, "score": SCORE},
            # The metric takes the right answers' weights first, then the wrong ones'.
            compute=lambda weights: auroc(np.concatenate([weights[correct], weights[~correct]])),
            higher_is_better=True,
        ),
    ]
    return found if threshold is None else [*found, _refusals(results, measurement, setting, threshold)]


def _refusals(results: Results, measurement: Measurement, setting: Mapping[str, Scalar], threshold: float) -> Metric:
    answers = predictions_of(results, measurement)
    refused = SCORES[SCORE](answers.logits) > threshold
    return Metric(
        metric="refusal_rate",
        dataset=measurement.dataset,
        setting={**setting, "score": SCORE, "refused_validation": REFUSED},
        compute=lambda weights: weighted_mean(refused, weights=weights),
        examples=((measurement.dataset, answers.indices),),
        successes=refused,
        higher_is_better=None,
    )


def _flip_rate(results: Results, move: str) -> Metric:
    measurement = move_measurement(results.context, move)
    flips = results.records[measurement]["flips"].to_numpy() / (FRAMES - 1)
    return Metric(
        metric="flip_rate",
        dataset=measurement.dataset,
        setting={"move": move, "frames": FRAMES},
        compute=lambda weights: weighted_mean(flips, weights=weights),
        examples=((measurement.dataset, results.records[measurement]["index"].to_numpy()),),
        higher_is_better=False,
    )


class _Together(NamedTuple):
    """Several cells' right answers as a function of one vector of weights; cells of the same examples share theirs."""

    examples: tuple[tuple[str, NDArray[np.int64]], ...]
    correct: tuple[tuple[NDArray[np.intp], NDArray[np.bool_]], ...]

    def accuracies(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, one a cell, in the order of the cells."""
        found = np.empty(sum(len(places) for places, _ in self.correct))
        start = 0
        for places, rows in self.correct:
            part = weights[start : start + rows.shape[1]]
            found[places] = rows @ part / part.sum()
            start += len(part)
        return found


class _Right(NamedTuple):
    """Which examples of a dataset are answered rightly."""

    dataset: str
    indices: NDArray[np.int64]
    correct: NDArray[np.bool_]


def _right(results: Results, measurement: Measurement) -> _Right:
    answers = predictions_of(results, measurement)
    return _Right(measurement.dataset, answers.indices, answers.correct)


def _together(found: Sequence[_Right]) -> _Together:
    names = list(dict.fromkeys(each.dataset for each in found))
    groups = [[place for place, each in enumerate(found) if each.dataset == name] for name in names]
    return _Together(
        tuple((name, found[group[0]].indices) for name, group in zip(names, groups, strict=True)),
        tuple((np.array(group), np.stack([found[place].correct for place in group])) for group in groups),
    )


def _summaries(results: Results) -> list[Metric]:
    """The means over the families at their default severity, and those relative to the reference."""
    at_default = [it for it in conditions(results.context) if it.severity == CORRUPTIONS[it.corruption].default]
    published = [it for it in at_default if CORRUPTIONS[it.corruption].published]
    held_out = [it for it in at_default if not CORRUPTIONS[it.corruption].published]
    found = [_mean_accuracy(results, published, "MNIST-C", headline=True)] if published else []
    if held_out:
        found.append(_mean_accuracy(results, held_out, "held out"))
    # The reference was measured on MNIST alone.
    if results.context.dataset == "mnist/test":
        found += _relative_to_reference(results, published)
    return found


def _mean_accuracy(results: Results, over: Sequence[Condition], families: str, *, headline: bool = False) -> Metric:
    together = _together([_right(results, it.measurement) for it in over])
    return Metric(
        metric="mean_accuracy",
        dataset=_dataset_of(over),
        setting={"families": families, "corruptions": len(over)},
        compute=lambda weights: float(together.accuracies(weights).mean()),
        examples=together.examples,
        higher_is_better=True,
        headline=headline,
    )


def _relative_to_reference(results: Results, published: Sequence[Condition]) -> list[Metric]:
    corrupted_measurements = [_right(results, it.measurement) for it in published]
    clean = _right(results, test_measurement(results.context))
    own = next((each.indices for each in corrupted_measurements if each.dataset == clean.dataset), clean.indices)
    # Records are sorted by index, so the clean answers on the same examples are found by their place.
    shared = np.searchsorted(clean.indices, own)
    clean = _Right(clean.dataset, own, clean.correct[shared])
    together = _together([*corrupted_measurements, clean])
    reference = np.array([ERRORS[it.corruption] for it in published])

    def errors(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        *corrupted, unharmed = 1.0 - together.accuracies(weights)
        return np.array(corrupted), unharmed

    def mean_corruption_error(weights: NDArray[np.float64]) -> float:
        return float((errors(weights)[0] / reference).mean())

    def relative(weights: NDArray[np.float64]) -> float:
        corrupted, unharmed = errors(weights)
        return float(((corrupted - unharmed) / (reference - CLEAN)).mean())

    figures = {"mean_corruption_error": mean_corruption_error, "relative_mean_corruption_error": relative}
    return [
        Metric(
            metric=metric,
            dataset=_dataset_of(published),
            setting={"reference": REFERENCE, "corruptions": len(published)},
            compute=compute,
            examples=together.examples,
            higher_is_better=False,
        )
        for metric, compute in figures.items()
    ]


def _dataset_of(over: Sequence[Condition]) -> str:
    """The dataset that all are measured on; where some have published images, both kinds."""
    names = {PUBLISHED_DATASET if it.measurement.function == "predict" else it.measurement.dataset for it in over}
    return ", ".join(sorted(names))


DISTRIBUTION_SHIFT = Property(
    name="distribution_shift",
    title="Distribution shift",
    description="What is left of accuracy, calibration and error detection when images are corrupted as in MNIST-C or "
    "come from elsewhere, and how often the answer flips while an image moves a little.",
    plan=plan_shift,
    metrics=metrics,
    draw=draw,
    functions={"corrupted": measure_corrupted, "consistency": measure_consistency, **MEASUREMENT_FUNCTIONS},
)
