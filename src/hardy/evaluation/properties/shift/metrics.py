"""The metrics of distribution shift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardy.corruptions import CORRUPTIONS
from hardy.evaluation.framework import (
    Examples,
    Measurement,
    Metric,
    MetricKind,
    Results,
    Scalar,
    mean_of,
    share_of,
    view,
)
from hardy.evaluation.predictions import Predictions, prediction_measurement, predictions_of, test_measurement
from hardy.evaluation.properties.accuracy.metrics import accuracy_kind
from hardy.evaluation.properties.calibration.metrics import ece_metric
from hardy.evaluation.properties.error_detection.measure import SCORE
from hardy.evaluation.properties.error_detection.metrics import AUROC, against_mistakes
from hardy.evaluation.properties.shift.measure import (
    FRAMES,
    PUBLISHED_DATASET,
    Condition,
    conditions,
    move_measurement,
    moves,
    natural_shifts,
)
from hardy.evaluation.properties.shift.reference import CLEAN, ERRORS, REFERENCE
from hardy.metrics import prepared_auroc
from hardy.ood import SCORES

REFUSED = 0.01
"""The share of validation images that the threshold refuses."""

REFUSAL_RATE = MetricKind.share("refusal_rate", "Refusal rate", higher_is_better=None)
FLIP_RATE = MetricKind.share("flip_rate", "Answers that flip from one frame to the next", higher_is_better=False)
MEAN_ACCURACY = MetricKind.share("mean_accuracy", "Mean accuracy over corruptions", higher_is_better=True)
CORRUPTION_ERROR = MetricKind("mean_corruption_error", "Mean corruption error, the reference being 1", False)
RELATIVE_CORRUPTION_ERROR = MetricKind(
    "relative_mean_corruption_error", "Mean rise of the error under corruption, the reference being 1", False
)


def metrics(results: Results) -> list[Metric]:
    context, found = results.context, _summaries(results)
    for condition in conditions(context):
        setting = {"corruption": condition.corruption, "severity": condition.severity}
        found += _under(results, condition.measurement, setting)
    for name in natural_shifts(context):
        found += _under(results, prediction_measurement(context, name), {})
    found += _refusals(results, test_measurement(context), {})
    return [*found, *(_flip_rate(results, move) for move in moves(results.context))]


@view
def refusal_threshold(results: Results) -> float | None:
    """The score above which at most 1 % of the validation images lie; None where there are none."""
    if results.context.validation is None:
        return None
    validation = predictions_of(results, prediction_measurement(results.context, results.context.validation))
    return float(np.quantile(SCORES[SCORE](validation.logits), 1.0 - REFUSED, method="higher"))


def _under(results: Results, measurement: Measurement, setting: Mapping[str, Scalar]) -> list[Metric]:
    """Accuracy, calibration, error detection and refusals on one measurement of predictions."""
    answers = predictions_of(results, measurement)
    confidence, correct, examples = answers.confidence, answers.correct, answers.examples
    elsewhere = "other people's digits" if results.context.subjects == "digits" else "images from elsewhere"
    accuracy = accuracy_kind(results.context, "" if setting else f"Are {elsewhere} recognized?")
    auroc = against_mistakes(prepared_auroc, SCORES[SCORE](answers.logits), ~correct)
    return [
        share_of(accuracy, correct, examples, setting=setting, headline=not setting),
        ece_metric(results, confidence, correct, examples, setting),
        Metric(
            AUROC,
            auroc,
            examples,
            {**setting, "score": SCORE},
            event=1.0 / max(min(int(correct.sum()), int((~correct).sum())), 1),
        ),
        *_refusals(results, measurement, setting),
    ]


def _refusals(results: Results, measurement: Measurement, setting: Mapping[str, Scalar]) -> list[Metric]:
    answers, threshold = predictions_of(results, measurement), refusal_threshold(results)
    if threshold is None:
        return []
    refused = SCORES[SCORE](answers.logits) > threshold
    setting = {**setting, "score": SCORE, "refused_validation": REFUSED}
    return [share_of(REFUSAL_RATE, refused, answers.examples, setting=setting)]


def _flip_rate(results: Results, move: str) -> Metric:
    measurement = move_measurement(results.context, move)
    flips = results.column(measurement, "flips") / (FRAMES - 1)
    examples, setting = results.examples(measurement), {"move": move, "frames": FRAMES}
    return mean_of(FLIP_RATE, flips, examples, setting=setting, event=1.0 / len(flips), top=1.0)


def _summaries(results: Results) -> list[Metric]:
    """The means over the families at their default severity, and those relative to the reference."""
    at_default = [it for it in conditions(results.context) if it.severity == CORRUPTIONS[it.corruption].default]
    published = [it for it in at_default if CORRUPTIONS[it.corruption].published]
    held_out = [it for it in at_default if not CORRUPTIONS[it.corruption].published]
    found = [_mean_accuracy(results, published, "MNIST-C", headline=True)] if published else []
    if held_out:
        found.append(_mean_accuracy(results, held_out, "held out", headline=False))
    # The reference was measured on MNIST alone.
    if results.context.dataset == "mnist/test":
        found += _relative_to_reference(results, published)
    return found


def _mean_accuracy(results: Results, over: Sequence[Condition], families: str, *, headline: bool) -> Metric:
    context = results.context
    examples, accuracies = _together(context.dataset, [predictions_of(results, it.measurement) for it in over])
    return Metric(
        replace(MEAN_ACCURACY, chance=1 / context.classes, question=f"Are corrupted {context.subjects} recognized?"),
        lambda weights: float(accuracies(weights).mean()),
        examples,
        {"families": families, "corruptions": len(over)},
        _dataset_of(over),
        event=1.0 / min(len(predictions_of(results, it.measurement).labels) for it in over),
        headline=headline,
    )


def _relative_to_reference(results: Results, published: Sequence[Condition]) -> list[Metric]:
    # The reference was measured under hardy's corruptions, which the published files were not made with.
    published = [it for it in published if it.measurement.function == "corrupted"]
    if not published:
        return []
    corrupted = [predictions_of(results, it.measurement) for it in published]
    clean = predictions_of(results, test_measurement(results.context))
    own = corrupted[0].indices
    # Records are sorted by index, so the clean answers on the same examples are found by their place.
    examples, accuracies = _together(clean.dataset, [*corrupted, clean.at(np.searchsorted(clean.indices, own))])
    reference = np.array([ERRORS[it.corruption] for it in published])

    def mean_corruption_error(weights: NDArray[np.float64]) -> float:
        return float(((1.0 - accuracies(weights))[:-1] / reference).mean())

    def relative(weights: NDArray[np.float64]) -> float:
        errors = 1.0 - accuracies(weights)
        return float(((errors[:-1] - errors[-1]) / (reference - CLEAN)).mean())

    setting = {"reference": REFERENCE, "corruptions": len(published)}
    dataset, event = _dataset_of(published), float((1.0 / reference).mean()) / len(own)
    return [
        Metric(CORRUPTION_ERROR, mean_corruption_error, examples, setting, dataset, event=event, top=np.inf),
        Metric(RELATIVE_CORRUPTION_ERROR, relative, examples, setting, dataset),
    ]


def _together(
    base: str,
    answers: Sequence[Predictions],
) -> tuple[Examples, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """The images of ``base`` behind several predictions, each once, and each accuracy as a function of weights."""
    # Image i of a published file is test image i, corrupted: all of them are one set of images, and are drawn together.
    union = np.unique(np.concatenate([each.indices for each in answers]))
    places = [np.searchsorted(union, each.indices) for each in answers]
    correct = [each.correct.astype(np.float64) for each in answers]

    def accuracies(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        own = [weights[place] for place in places]
        return np.array([right @ each / max(each.sum(), 1.0) for right, each in zip(correct, own, strict=True)])

    return ((base, union),), accuracies


def _dataset_of(over: Sequence[Condition]) -> str:
    """The dataset that all are measured on; where some have published images, both kinds."""
    names = {PUBLISHED_DATASET if it.measurement.function == "predict" else it.measurement.dataset for it in over}
    return ", ".join(sorted(names))


def warnings(results: Results) -> list[str]:
    """Which files pass for a published dataset without a published hash to hold them against."""
    measured = dict.fromkeys(it.measurement.dataset for it in conditions(results.context))
    named = [name for name in measured if name.startswith(f"{PUBLISHED_DATASET}/")]
    unverified = [name for name in named if results.dataset(name).unverified]
    if not unverified:
        return []
    reason = results.dataset(unverified[0]).unverified
    labels = f"the labels are those of {results.context.dataset}, but the images may not be as published"
    return [f"distribution_shift: {', '.join(unverified)}: {reason}; {labels}"]
