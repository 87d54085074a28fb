"""What calibration measures: predictions on clean and on attacked images, calibrated in each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.attacks import ATTACKS
from hardy.evaluation.framework import EvaluationContext, Measurement, Plan, Results, Scalar, Skipped, view
from hardy.evaluation.predictions import members_measurement, predictions_of, test_measurement
from hardy.evaluation.properties.adversarial.measure import Sweep, attack_measurement, radii
from hardy.evaluation.validation_fits import (
    MEMBERS_FIRST,
    fitted_calibrators,
    members_first,
    no_validation_split,
    validation_measurements,
)
from hardy.metrics import confidence_and_correct
from hardy.threats import usual_radii

TEMPERATURE = {"calibrator": "temperature"}
"""The setting of what is shown beside the classifier as it is."""


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


def plan(context: EvaluationContext) -> Plan:
    skipped = no_validation_split("calibration", "calibrators", context)
    measurements = [test_measurement(context), *validation_measurements(context)]
    if context.gradients:
        measurements.append(attacked_measurement(context))
    else:
        skipped.append(
            Skipped("calibration", f"under attack: the classifier gives no gradients, only {context.access}")
        )
    if context.members and context.validation is not None:
        measurements.append(members_measurement(context, context.dataset))
    elif not context.members:
        skipped.append(Skipped("calibration", "calibrating members before averaging: the classifier is no ensemble"))
    return Plan(measurements, skipped)


def attacked_measurement(context: EvaluationContext) -> Measurement:
    """The predictions where the loss is highest within the smallest radius asked for, or a third of the usual one.

    At that many answers stay right, and the question is whether confidence falls with accuracy.
    """
    sweep = Sweep("pgd", "linf", (round(usual_radii(context.shape)["linf"] / 3, 4),))
    if context.norm in ATTACKS["pgd"].norms:
        sweep = Sweep("pgd", context.norm, context.eps[:1])
    return attack_measurement(context, sweep, context.budget.attacked_predictions, "predict_highest_loss")


def attack_setting(context: EvaluationContext) -> dict[str, Scalar]:
    """How the figures under attack are told from the others."""
    measurement = attacked_measurement(context)
    norm, attack = (measurement.settings[name] for name in ("norm", "attack"))
    return {"attack": attack, "norm": norm, "eps": radii(measurement)[0]}


@view
def answers_to(results: Results, measurement: Measurement) -> list[Answers]:
    """The predictions of a measurement as they are, after each calibrator, and on the test split of members that were
    calibrated first."""
    given = predictions_of(results, measurement)
    before = Answers({}, np.exp(given.log_probabilities), given.log_probabilities, given.confidence, given.correct)
    found = [before]
    for name, calibrator in fitted_calibrators(results).items():
        found.append(_calibrated({"calibrator": name}, calibrator.probabilities(given.logits), given.labels))
    if measurement == test_measurement(results.context):
        averaged = members_first(results, "temperature")
        if averaged is not None:
            found.append(_calibrated({**TEMPERATURE, "order": MEMBERS_FIRST}, averaged, given.labels))
    return found


def _calibrated(
    setting: Mapping[str, Scalar], probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> Answers:
    confidence, correct = confidence_and_correct(probabilities, labels)
    with np.errstate(divide="ignore"):
        return Answers(setting, probabilities, np.log(probabilities), confidence, correct)
