"""What properties fit on the validation split: the predictions there, and the fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.calibration import CALIBRATORS, Calibrator, average_probabilities, fit_calibrator, fit_member_calibrators
from hardy.evaluation.framework import EvaluationContext, Measurement, Results, Skipped, view
from hardy.evaluation.predictions import (
    Predictions,
    member_logits_of,
    members_measurement,
    prediction_measurement,
    predictions_of,
)

MEMBERS_FIRST = "members first"
"""The order of calibrating an ensemble's members and then averaging them."""


def validation_measurements(context: EvaluationContext) -> list[Measurement]:
    """The predictions on the validation split, and for an ensemble its members'; none where there is no such split."""
    if context.validation is None:
        return []
    members = [members_measurement(context, context.validation)] if context.members else []
    return [prediction_measurement(context, context.validation), *members]


def no_validation_split(name: str, what: str, context: EvaluationContext) -> list[Skipped]:
    """What is left out where there is no validation split, with the reason."""
    if context.validation is not None:
        return []
    return [Skipped(name, f"{what}: {context.dataset.rpartition('/')[0]} has no validation split to fit on")]


@view
def validation_predictions(results: Results) -> Predictions | None:
    """What the classifier answers on the validation split; None where nothing can be fitted on it.

    That is where there is none, or where a limit left fewer than two classes.
    """
    context = results.context
    if context.validation is None:
        return None
    answers = predictions_of(results, prediction_measurement(context, context.validation))
    return answers if len(np.unique(answers.labels)) > 1 else None


@view
def fitted_calibrators(results: Results) -> dict[str, Calibrator]:
    """Every calibrator, fitted on the validation split; none where nothing can be fitted."""
    answers = validation_predictions(results)
    if answers is None:
        return {}
    return {name: fit_calibrator(name, answers.logits, answers.labels) for name in CALIBRATORS}


def members_first(results: Results, name: str) -> NDArray[np.float64] | None:
    """Probabilities on the test split, (N, K), of members calibrated one by one and then averaged, or None."""
    context, answers = results.context, validation_predictions(results)
    if answers is None or context.validation is None or not context.members:
        return None
    calibrators = fit_member_calibrators(name, member_logits_of(results, context.validation), answers.labels)
    return average_probabilities(calibrators, member_logits_of(results, context.dataset))
