"""What error detection needs: predictions, those of an ensemble's members, and how suspicious each answer is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import EvaluationContext, Plan, Results, Skipped, view
from hardy.evaluation.predictions import member_logits_of, members_measurement, predictions_of, test_measurement
from hardy.evaluation.validation_fits import no_validation_split, validation_measurements, validation_predictions
from hardy.ood import SCORES
from hardy.ood.learned_score import fit_learned_score, mistake_features
from hardy.ood.member_scores import MEMBER_SCORES

SCORE = "max_softmax"
LOGIT_SCORES = (SCORE, "margin", "entropy", "energy")
LEARNED = "learned"


def plan(context: EvaluationContext) -> Plan:
    skipped = no_validation_split("error_detection", "the learned score", context)
    measurements = [test_measurement(context), *validation_measurements(context)]
    if context.members:
        measurements.append(members_measurement(context, context.dataset))
    else:
        skipped.append(Skipped("error_detection", "disagreement and mutual information: the classifier is no ensemble"))
    return Plan(measurements, skipped)


@view
def error_scores(results: Results) -> dict[str, NDArray[np.float64]]:
    """How suspicious each prediction on the test split is, float64 (N,), by each score."""
    context = results.context
    logits = predictions_of(results, test_measurement(context)).logits
    members = member_logits_of(results, context.dataset) if context.members else None
    # The logits of an ensemble are log probabilities, whose energy is always 0: it takes the mean of its members'.
    size = logits if members is None else members.mean(axis=0)
    found = {name: SCORES[name](size if name == "energy" else logits) for name in LOGIT_SCORES}
    if members is not None:
        found |= {name: score(members) for name, score in MEMBER_SCORES.items()}
    validation = validation_predictions(results)
    # With fewer than two mistakes, or right answers, there is nothing to learn.
    if (
        validation is not None
        and context.validation is not None
        and 2 <= validation.correct.sum() <= len(validation.correct) - 2
    ):
        members_there = member_logits_of(results, context.validation) if context.members else None
        learned = fit_learned_score(mistake_features(validation.logits, members_there), ~validation.correct)
        found[LEARNED] = learned(mistake_features(logits, members))
    return found
