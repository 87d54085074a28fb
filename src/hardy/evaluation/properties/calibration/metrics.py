"""Calibration: whether a confidence of 90 % is right nine times in ten, before and after calibrating."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.calibration import Calibrator
from hardy.evaluation.charts import Chart
from hardy.evaluation.framework import (
    Budget,
    EvaluationContext,
    Measurement,
    Metric,
    Plan,
    Property,
    Results,
    Scalar,
    Skipped,
)
from hardy.evaluation.predictions import (
    MEASUREMENT_FUNCTIONS,
    Predictions,
    members_measurement,
    predictions_of,
    test_measurement,
)
from hardy.evaluation.properties.adversarial.measure import attack_measurement, measure_attacked_predictions
from hardy.evaluation.properties.calibration.charts import before_and_after
from hardy.evaluation.validation_fits import (
    MEMBERS_FIRST,
    fitted_calibrators,
    members_first,
    no_validation_split,
    validation_measurements,
)
from hardy.metrics import (
    Figure,
    NoiseFloor,
    calibration_p_value,
    clopper_pearson,
    confidence_and_correct,
    ece,
    ece_noise_floor,
    prepared_brier_parts,
    prepared_class_wise_ece,
    prepared_debiased_ece,
    prepared_debiased_squared_calibration_error,
    prepared_ece,
    prepared_max_calibration_error,
    prepared_rms_calibration_error,
    weighted_mean,
)
from hardy.rng import host_generator

BINS = 15
ATTACKED_EXAMPLES: dict[Budget, int] = {"quick": 100, "standard": 500, "full": 1000}
# Small enough that many images stand: what is asked is whether confidence falls with accuracy.
ATTACK, NORM, EPS = "pgd", "linf", 0.1
BINNED = {
    "rms_calibration_error": prepared_rms_calibration_error,
    "max_calibration_error": prepared_max_calibration_error,
    "debiased_ece": prepared_debiased_ece,
    "debiased_squared_calibration_error": prepared_debiased_squared_calibration_error,
}


class Answers(NamedTuple):
    """What a classifier says of some images, calibrated in some way.

    Attributes:
        setting: which way; empty before calibrating.
        probabilities: float64 (N, K).
        log_probabilities: float64 (N, K).
        confidence: float64 (N,).
        correct: bool (N,).
    """

    setting: Mapping[str, Scalar]
    probabilities: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


def attacked_measurement(context: EvaluationContext) -> Measurement:
    """The predictions on attacked images."""
    return attack_measurement(context, ATTACK, NORM, (EPS,), ATTACKED_EXAMPLES[context.budget], "predict_attacked")


def plan_calibration(context: EvaluationContext) -> Plan:
    skipped = no_validation_split("calibration", "calibrators", context)
    measurements = [test_measurement(context), attacked_measurement(context), *validation_measurements(context)]
    if context.members and context.validation is not None:
        measurements.append(members_measurement(context, context.dataset))
    elif not context.members:
        skipped.append(Skipped("calibration", "calibrating members before averaging: the classifier is no ensemble"))
    return Plan(measurements, skipped)


def _before(answers: Predictions) -> Answers:
    return Answers(
        {}, np.exp(answers.log_probabilities), answers.log_probabilities, answers.confidence, answers.correct
    )


def _after(setting: Mapping[str, Scalar], probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Answers:
    confidence, correct = confidence_and_correct(probabilities, labels)
    with np.errstate(divide="ignore"):
        return Answers(setting, probabilities, np.log(probabilities), confidence, correct)


def _ways(answers: Predictions, calibrators: Mapping[str, Calibrator]) -> Iterator[Answers]:
    """Before calibrating, then after each calibrator."""
    yield _before(answers)
    for name, calibrator in calibrators.items():
        yield _after({"calibrator": name}, calibrator.probabilities(answers.logits), answers.labels)


def metrics(results: Results) -> list[Metric]:
    measurement, attacked = test_measurement(results.context), attacked_measurement(results.context)
    answers, under_attack = predictions_of(results, measurement), predictions_of(results, attacked)
    calibrators = fitted_calibrators(results)
    ways = list(_ways(answers, calibrators))
    averaged = members_first(results, "temperature")
    if averaged is not None:
        ways.append(_after({"calibrator": "temperature", "order": MEMBERS_FIRST}, averaged, answers.labels))
    found = [it for way in ways for it in _clean_figures(results, measurement, answers, way)]
    attack = {"attack": ATTACK, "norm": NORM, "eps": EPS}
    for way in _ways(under_attack, calibrators):
        made = partial(_made, attacked, under_attack, {**attack, **way.setting})
        found.append(made("ece", prepared_ece(way.confidence, way.correct, BINS), bins=BINS))
        found += _proper_scores(made, way, under_attack.labels)
    return found


def _made(
    measurement: Measurement,
    answers: Predictions,
    setting: Mapping[str, Scalar],
    metric: str,
    compute: Figure,
    *,
    higher_is_better: bool | None = False,
    headline: bool = False,
    interval: tuple[float, float] | None = None,
    successes: NDArray[np.bool_] | None = None,
    **more: Scalar,
) -> Metric:
    return Metric(
        metric=metric,
        dataset=measurement.dataset,
        compute=compute,
        examples=((measurement.dataset, answers.indices),),
        higher_is_better=higher_is_better,
        setting={**more, **setting},
        successes=successes,
        interval=interval,
        headline=headline,
    )


def _clean_figures(results: Results, measurement: Measurement, answers: Predictions, way: Answers) -> list[Metric]:
    made = partial(_made, measurement, answers, way.setting)
    confidence, correct = way.confidence, way.correct
    floor = _floor(results, confidence)
    worse = int((floor.values >= ece(confidence, correct, BINS) - 1e-12).sum())
    shown = way.setting in ({}, {"calibrator": "temperature"})
    parts = prepared_brier_parts(way.probabilities, answers.labels, BINS)
    found = [
        made("ece", prepared_ece(confidence, correct, BINS), bins=BINS, headline=shown),
        made("ece", prepared_ece(confidence, correct, BINS, "mass"), bins=BINS, binning="mass"),
        *[made(name, prepare(confidence, correct, BINS), bins=BINS) for name, prepare in BINNED.items()],
        made("class_wise_ece", prepared_class_wise_ece(way.probabilities, answers.labels, BINS), bins=BINS),
        *_proper_scores(made, way, answers.labels),
        made("brier_reliability", lambda weights: parts(weights).reliability, bins=BINS),
        made("brier_resolution", lambda weights: parts(weights).resolution, bins=BINS, higher_is_better=True),
        # The interval of the floor is the spread of a calibrated model's ECE, not a resampling of examples.
        made(
            "ece_noise_floor",
            lambda _: floor.mean,
            bins=BINS,
            interval=(floor.low, floor.high),
            higher_is_better=None,
        ),
        # And that of the p-value comes from how many draws it is counted in.
        made(
            "calibration_p_value",
            lambda _: calibration_p_value(ece(confidence, correct, BINS), floor),
            bins=BINS,
            interval=clopper_pearson(worse, len(floor.values)),
            higher_is_better=None,
        ),
    ]
    if way.setting:
        found.append(
            made(
                "accuracy",
                lambda weights: weighted_mean(correct, weights=weights),
                higher_is_better=True,
                successes=correct,
            )
        )
    else:
        found.append(
            made("brier_uncertainty", lambda weights: parts(weights).uncertainty, bins=BINS, higher_is_better=None)
        )
    return found


def _proper_scores(made: Callable[..., Metric], way: Answers, labels: NDArray[np.int64]) -> list[Metric]:
    rows = np.arange(len(labels))
    surprise = -way.log_probabilities[rows, labels]
    truth = np.eye(way.probabilities.shape[1])[labels]
    squares = ((way.probabilities - truth) ** 2).sum(axis=1)
    return [
        made("nll", lambda weights: weighted_mean(surprise, weights=weights)),
        made("brier", lambda weights: weighted_mean(squares, weights=weights)),
    ]


def _floor(results: Results, confidence: NDArray[np.float64]) -> NoiseFloor:
    return ece_noise_floor(confidence, BINS, rng=host_generator(results.seed, "noise floor"))


def warnings(results: Results) -> list[str]:
    answers = predictions_of(results, test_measurement(results.context))
    floor = _floor(results, answers.confidence)
    found = ece(answers.confidence, answers.correct, BINS)
    warned = []
    if found <= floor.high:
        warned.append(
            f"calibration: an ECE of {found:.2%} is within what a perfectly calibrated classifier shows on "
            f"{len(answers.labels):,} images ({floor.low:.2%} to {floor.high:.2%}); it ranks nobody"
        )
    calibrators = fitted_calibrators(results)
    if results.context.validation is not None and not calibrators:
        warned.append("calibration: the validation images measured are all of one class; no calibrator was fitted")
    elif calibrators and calibrators["temperature"].arrays["temperature"] == 1.0:
        warned.append("calibration: no temperature helps on the validation images; it was kept at 1")
    return warned


def draw(results: Results) -> list[Chart]:
    charts = []
    calibrators = {name: one for name, one in fitted_calibrators(results).items() if name == "temperature"}
    for words, measurement in (
        ("", test_measurement(results.context)),
        (" under attack", attacked_measurement(results.context)),
    ):
        shown = {
            "with temperature" if way.setting else "as it is": (way.confidence, way.correct)
            for way in _ways(predictions_of(results, measurement), calibrators)
        }
        charts += before_and_after(shown, BINS, words)
    return charts


CALIBRATION = Property(
    name="calibration",
    title="Calibration",
    description="Whether confidence can be taken at its word: of the answers that are 90 % sure, 90 % should be right. "
    "Before calibrating, and after each calibrator, fitted on validation images.",
    plan=plan_calibration,
    metrics=metrics,
    draw=draw,
    functions={"predict_attacked": measure_attacked_predictions, **MEASUREMENT_FUNCTIONS},
    warnings=warnings,
)
