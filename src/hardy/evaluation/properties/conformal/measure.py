"""What prediction sets need: predictions on the test and the validation split, and the sets that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.calibration.conformal import CONFORMAL, Conformal, fit_conformal
from hardy.data.dataset import stream_of
from hardy.evaluation.framework import EvaluationContext, Plan, Results, view
from hardy.evaluation.predictions import Predictions, prediction_measurement, predictions_of, test_measurement
from hardy.evaluation.validation_fits import no_validation_split, validation_predictions
from hardy.rng import Randomness

ALPHAS = (0.1, 0.05, 0.01)
CLASS_ALPHA = 0.05
"""At which coverage is given class by class."""


@dataclass(frozen=True)
class Sets:
    """Prediction sets for the test split.

    Attributes:
        rule: how they were made.
        members: bool (N, K), which classes each holds.
        covered: bool (N,), whether it holds the true class.
    """

    rule: Conformal
    members: NDArray[np.bool_]
    covered: NDArray[np.bool_]


def plan(context: EvaluationContext) -> Plan:
    if context.validation is None:
        return Plan([], no_validation_split("conformal", "prediction sets", context))
    return Plan([test_measurement(context), prediction_measurement(context, context.validation)])


@view
def prediction_sets(results: Results) -> list[Sets]:
    """Every kind at every alpha; none where nothing can be fitted."""
    validation, context = validation_predictions(results), results.context
    if validation is None:
        return []
    answers = predictions_of(results, test_measurement(context))
    rng, rng_of_validation = _rng(results, answers), _rng(results, validation)
    found = []
    for kind in CONFORMAL:
        for alpha in ALPHAS:
            probabilities = np.exp(validation.log_probabilities)
            rule = fit_conformal(kind, probabilities, validation.labels, alpha, rng_of_validation)
            members = rule.sets(np.exp(answers.log_probabilities), rng)
            found.append(Sets(rule, members, members[np.arange(len(members)), answers.labels]))
    return found


def _rng(results: Results, answers: Predictions) -> Randomness:
    ((dataset, indices),) = answers.examples
    return Randomness(results.seed, torch.tensor(indices), ("conformal", stream_of(dataset)))
