"""The metrics of calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Compute, Examples, Metric, MetricKind, Results, Scalar, mean_of, share_of, view
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.evaluation.properties.accuracy.metrics import accuracy_kind
from hardy.evaluation.properties.calibration.measure import (
    TEMPERATURE,
    Answers,
    answers_to,
    attack_setting,
    attacked_measurement,
)
from hardy.evaluation.validation_fits import fitted_calibrators
from hardy.metrics import (
    NoiseFloor,
    calibration_p_value,
    class_noise_floors,
    ece,
    ece_noise_floor,
    noise_floors,
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
FLOOR_DRAWS = 300
"""Of the noise floor of an error under attack or shift, which has no p-value."""

ECE = MetricKind.share("ece", "Expected calibration error", higher_is_better=False)
CLASS_WISE_ECE = MetricKind.share("class_wise_ece", "Expected calibration error by class", higher_is_better=False)
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
DEBIASED_SQUARED = MetricKind("debiased_squared_calibration_error", "Squared calibration error less chance", False)
RMS = MetricKind.share("rms_calibration_error", "RMS calibration error", False)
MAXIMUM = MetricKind.share("max_calibration_error", "Maximum calibration error", False)
BIASED = (
    "chance adds to this figure, and resampling adds it once more, so no interval covers; the range by chance is what "
    "a perfectly calibrated classifier shows"
)
UNEVEN = (
    "it is distributed otherwise at perfect calibration than away from it, and no interval here covers both; "
    "calibration_p_value says whether it is chance"
)
COUNTED = "a p-value speaks of these examples alone"
UNEVEN_RESOLUTION = "chance adds to the spread between bins, so that resampling adds it once more"
OF_LABELS = "it says how often each label occurs, and nothing of the classifier"


def metrics(results: Results) -> list[Metric]:
    ways = answers_to(results, test_measurement(results.context))
    found = [metric for place, way in enumerate(ways) for metric in _clean(results, place, way)]
    if not results.context.gradients:
        return found
    attacked = attacked_measurement(results.context)
    given = predictions_of(results, attacked)
    for way in answers_to(results, attacked):
        setting = {**attack_setting(results.context), **way.setting}
        found.append(ece_metric(results, way.confidence, way.correct, given.examples, setting))
        found += _proper_scores(way, given.labels, given.examples, setting)
    return found


def _clean(results: Results, place: int, way: Answers) -> list[Metric]:
    given = predictions_of(results, test_measurement(results.context))
    confidence, correct, setting = way.confidence, way.correct, {"bins": BINS, **way.setting}
    make = partial(Metric, examples=given.examples, setting=setting)
    question = "Can its confidence be trusted once calibrated?" if way.setting else "Can its confidence be trusted?"
    shown = way.setting in ({}, TEMPERATURE)
    parts = prepared_brier_parts(way.probabilities, given.labels, BINS)
    floors = noise_floor(results, place)
    by_mass = {"bins": BINS, "binning": "mass", **way.setting}

    def biased(kind: MetricKind, compute: Compute, floor: str = "", **more: Any) -> Metric:
        return make(kind, compute, no_interval=BIASED, chance_band=floors[floor or kind.name].band, **more)

    found = [
        biased(replace(ECE, question=question), prepared_ece(confidence, correct, BINS), headline=shown),
        biased(ECE, prepared_ece(confidence, correct, BINS, "mass"), "ece_mass", setting=by_mass),
        biased(RMS, prepared_rms_calibration_error(confidence, correct, BINS)),
        biased(MAXIMUM, prepared_max_calibration_error(confidence, correct, BINS)),
        biased(CLASS_WISE_ECE, prepared_class_wise_ece(way.probabilities, given.labels, BINS)),
        make(DEBIASED_ECE, prepared_debiased_ece(confidence, correct, BINS), no_interval=UNEVEN),
        make(
            DEBIASED_SQUARED,
            prepared_debiased_squared_calibration_error(confidence, correct, BINS),
            no_interval=UNEVEN,
        ),
        *_proper_scores(way, given.labels, given.examples, way.setting),
        biased(BRIER_RELIABILITY, lambda weights: parts(weights).reliability),
        make(BRIER_RESOLUTION, lambda weights: parts(weights).resolution, no_interval=UNEVEN_RESOLUTION),
        make(
            P_VALUE,
            lambda _: calibration_p_value(ece(confidence, correct, BINS), floors["ece"]),
            no_interval=COUNTED,
        ),
    ]
    if way.setting:
        return [*found, share_of(accuracy_kind(results.context), correct, given.examples, setting=way.setting)]
    return [*found, make(BRIER_UNCERTAINTY, lambda weights: parts(weights).uncertainty, no_interval=OF_LABELS)]


def ece_metric(
    results: Results,
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    examples: Examples,
    setting: Mapping[str, Scalar],
) -> Metric:
    """The expected calibration error of some answers, beside its noise floor."""
    floor = ece_noise_floor(confidence, BINS, FLOOR_DRAWS, rng=host_generator(results.seed, "noise floor"))
    return Metric(
        ECE,
        prepared_ece(confidence, correct, BINS),
        examples,
        {"bins": BINS, **setting},
        no_interval=BIASED,
        chance_band=floor.band,
    )


def _proper_scores(
    way: Answers, labels: NDArray[np.int64], examples: Examples, setting: Mapping[str, Scalar]
) -> list[Metric]:
    cross_entropy = -way.log_probabilities[np.arange(len(labels)), labels]
    truth = np.eye(way.probabilities.shape[1])[labels]
    squares = ((way.probabilities - truth) ** 2).sum(axis=1)
    # One more image can be as badly answered as any of these images could be.
    worst = float(-way.log_probabilities[np.isfinite(way.log_probabilities)].min()) / len(labels)
    return [
        mean_of(NLL, cross_entropy, examples, setting=setting, event=worst, top=np.inf),
        mean_of(BRIER, squares, examples, setting=setting, event=2.0 / len(labels), top=2.0),
    ]


@view
def noise_floor(results: Results, place: int) -> dict[str, NoiseFloor]:
    """What a perfectly calibrated classifier shows that is as confident on the test split as these answers are."""
    way = answers_to(results, test_measurement(results.context))[place]
    return noise_floors(way.confidence, BINS, rng=host_generator(results.seed, "noise floor")) | class_noise_floors(
        way.probabilities, BINS, rng=host_generator(results.seed, "noise floor by class")
    )


def warnings(results: Results) -> list[str]:
    answers = predictions_of(results, test_measurement(results.context))
    floor = noise_floor(results, 0)["ece"]
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
