"""What properties fit on the held-out images: the cell of their predictions, and the fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.calibration import (
    CALIBRATORS,
    Calibrator,
    average_probabilities,
    check_disjoint,
    fit_calibrator,
    fit_member_calibrators,
)
from hardy.properties.framework import Cell, Evidence, Plan, Skipped
from hardy.properties.predictions import (
    Predictions,
    member_logits_of,
    members_cell,
    prediction_cell,
    predictions_of,
)

MEMBERS_FIRST = "members first"
"""The order of calibrating an ensemble's members and then averaging them."""


def held_out_cells(plan: Plan) -> list[Cell]:
    """The predictions on the held-out images, and for an ensemble its members'; none where nothing is held out."""
    if plan.held_out is None:
        return []
    members = [members_cell(plan, plan.held_out)] if plan.members else []
    return [prediction_cell(plan, plan.held_out), *members]


def nothing_held_out(name: str, what: str, plan: Plan) -> list[Skipped]:
    """What is left out where no images are held out, with the reason."""
    if plan.held_out is not None:
        return []
    return [Skipped(name, f"{what}: {plan.dataset.rpartition('/')[0]} has no held-out images to fit on")]


def held_out_predictions(evidence: Evidence) -> Predictions | None:
    """What the classifier answers on the held-out images; None where nothing can be fitted on them.

    That is where there are none, or where a limit left fewer than two classes.

    Raises:
        UsageError: some of the images are in the test split too.
    """
    plan = evidence.plan
    if plan.held_out is None:
        return None
    check_disjoint(evidence.dataset(plan.held_out), evidence.dataset(plan.dataset))
    answers = predictions_of(evidence, prediction_cell(plan, plan.held_out))
    return answers if len(np.unique(answers.labels)) > 1 else None


def fitted_calibrators(evidence: Evidence) -> dict[str, Calibrator]:
    """Every calibrator, fitted on the held-out images; none where nothing can be fitted.

    Raises:
        UsageError: some of the images are in the test split too.
    """
    answers = held_out_predictions(evidence)
    if answers is None:
        return {}
    return {name: fit_calibrator(name, answers.logits, answers.labels) for name in CALIBRATORS}


def members_first(evidence: Evidence, name: str) -> NDArray[np.float64] | None:
    """Probabilities on the test split, (N, K), of members calibrated each for itself and then averaged, or None."""
    plan, answers = evidence.plan, held_out_predictions(evidence)
    if answers is None or plan.held_out is None or not plan.members:
        return None
    calibrators = fit_member_calibrators(name, member_logits_of(evidence, plan.held_out), answers.labels)
    return average_probabilities(calibrators, member_logits_of(evidence, plan.dataset))
