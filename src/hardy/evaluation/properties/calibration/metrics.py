"""The metrics of calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Examples, Metric, MetricKind, Results, Scalar, mean_of, share_of, view
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.evaluation.properties.accuracy.metrics import accuracy_kind
from hardy.evaluation.properties.calibration.measure import (
    ATTACK,
    EPS,
    NORM,
    TEMPERATURE,
    Answers,
    answers_to,
    attacked_measurement,
)
from hardy.evaluation.validation_fits import fitted_calibrators
from hardy.metrics import (
    NoiseFloor,
    calibration_p_value,
    clopper_pearson,
    ece,
    ece_noise_floor,
    prepared_brier_parts,
    prepared_class_wise_ece,
    prepared_debiased_ece,
    prepared_debiased_squared_calibration_error,
    prepared_ece,
    prepared_max_calibration_error,
    prepared_rms_calibration_error,
)
from hardy.rng import host_generator

BINS = 15
ECE = MetricKind.share("ece", "Expected calibration error", higher_is_better=False)
CLASS_WISE_ECE = MetricKind.share("class_wise_ece", "Expected calibration error by class", higher_is_better=False)
NOISE_FLOOR = MetricKind.share(
    "ece_noise_floor", "Calibration error of a perfectly calibrated classifier", higher_is_better=None
)
P_VALUE = MetricKind(
    "calibration_p_value", "Chance of such a calibration error if calibrated", higher_is_better=None, bounds=(0.0, 1.0)
)
NLL = MetricKind("nll", "Negative log-likelihood", higher_is_better=False)
BRIER = MetricKind("brier", "Brier score", higher_is_better=False)
BRIER_RELIABILITY = MetricKind("brier_reliability", "Brier score: reliability", higher_is_better=False)
BRIER_RESOLUTION = MetricKind("brier_resolution", "Brier score: resolution", higher_is_better=True)
BRIER_UNCERTAINTY = MetricKind("brier_uncertainty", "Brier score: uncertainty", higher_is_better=None)
# Less what chance makes of it, an error may come out below zero.
DEBIASED_ECE = MetricKind("debiased_ece", "Expected calibration error less chance", False, unit="share")
BINNED = (
    (MetricKind.share("rms_calibration_error", "RMS calibration error", False), prepared_rms_calibration_error),
    (MetricKind.share("max_calibration_error", "Maximum calibration error", False), prepared_max_calibration_error),
    (DEBIASED_ECE, prepared_debiased_ece),
    (
        MetricKind("debiased_squared_calibration_error", "Squared calibration error less chance", False),
        prepared_debiased_squared_calibration_error,
    ),
)


def metrics(results: Results) -> list[Metric]:
    attacked = attacked_measurement(results.context)
    given = predictions_of(results, attacked)
    ways = answers_to(results, test_measurement(results.context))
    found = [metric for place, way in enumerate(ways) for metric in _clean(results, place, way)]
    for way in answers_to(results, attacked):
        setting = {"attack": ATTACK, "norm": NORM, "eps": EPS, **way.setting}
        compute = prepared_ece(way.confidence, way.correct, BINS)
        found.append(Metric(ECE, compute, given.examples, {"bins": BINS, **setting}))
        found += _proper_scores(way, given.labels, given.examples, setting)
    return found


def _clean(results: Results, place: int, way: Answers) -> list[Metric]:
    given = predictions_of(results, test_measurement(results.context))
    confidence, correct, setting = way.confidence, way.correct, {"bins": BINS, **way.setting}
    make = partial(Metric, examples=given.examples, setting=setting)
    question = "Can its confidence be trusted once calibrated?" if way.setting else "Can its confidence be trusted?"
    shown = way.setting in ({}, TEMPERATURE)
    parts = prepared_brier_parts(way.probabilities, given.labels, BINS)
    floor = noise_floor(results, place)
    worse = int((floor.values >= ece(confidence, correct, BINS) - 1e-12).sum())
    by_mass = {"bins": BINS, "binning": "mass", **way.setting}
    found = [
        make(replace(ECE, question=question), prepared_ece(confidence, correct, BINS), headline=shown),
        make(ECE, prepared_ece(confidence, correct, BINS, "mass"), setting=by_mass),
        *(make(kind, prepare(confidence, correct, BINS)) for kind, prepare in BINNED),
        make(CLASS_WISE_ECE, prepared_class_wise_ece(way.probabilities, given.labels, BINS)),
        *_proper_scores(way, given.labels, given.examples, way.setting),
        make(BRIER_RELIABILITY, lambda weights: parts(weights).reliability),
        make(BRIER_RESOLUTION, lambda weights: parts(weights).resolution),
        # The interval of the floor is the spread of a calibrated model's ECE, not a resampling of examples.
        make(NOISE_FLOOR, lambda _: floor.mean, interval=(floor.low, floor.high)),
        # And that of the p-value comes from how many draws it is counted in.
        make(
            P_VALUE,
            lambda _: calibration_p_value(ece(confidence, correct, BINS), floor),
            interval=clopper_pearson(worse, len(floor.values)),
        ),
    ]
    if way.setting:
        return [*found, share_of(accuracy_kind(results.context), correct, given.examples, setting=way.setting)]
    return [*found, make(BRIER_UNCERTAINTY, lambda weights: parts(weights).uncertainty)]


def _proper_scores(
    way: Answers, labels: NDArray[np.int64], examples: Examples, setting: Mapping[str, Scalar]
) -> list[Metric]:
    cross_entropy = -way.log_probabilities[np.arange(len(labels)), labels]
    truth = np.eye(way.probabilities.shape[1])[labels]
    squares = ((way.probabilities - truth) ** 2).sum(axis=1)
    return [
        mean_of(kind, values, examples, setting=setting) for kind, values in ((NLL, cross_entropy), (BRIER, squares))
    ]


@view
def noise_floor(results: Results, place: int) -> NoiseFloor:
    """What a perfectly calibrated classifier shows that is as confident on the test split as these answers are."""
    confidence = answers_to(results, test_measurement(results.context))[place].confidence
    return ece_noise_floor(confidence, BINS, rng=host_generator(results.seed, "noise floor"))


def warnings(results: Results) -> list[str]:
    answers = predictions_of(results, test_measurement(results.context))
    floor = noise_floor(results, 0)
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
