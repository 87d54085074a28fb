"""Prediction sets: whether they hold the true class as often as promised, and how small they are."""

from hardy.evaluation.framework import Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties.conformal import charts, measure, metrics

PROPERTY = Property(
    name="conformal",
    title="Prediction sets",
    description="Whether sets of classes, fitted on validation images, hold the true class as often as promised, "
    "1 - alpha of the time at least. A set of one class is an answer; of none or several, the rule is to abstain.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions=PREDICTION_FUNCTIONS,
    draw=charts.draw,
    warnings=metrics.warnings,
    needs="logits",
)
