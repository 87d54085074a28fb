"""Accuracy: overall, by class, and which classes are taken for which."""

from hardy.evaluation.framework import Plan, Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS, test_measurement
from hardy.evaluation.properties.accuracy import charts, metrics, slices

PROPERTY = Property(
    name="accuracy",
    title="Accuracy",
    description="The share of test images whose most probable class is the true one.",
    plan=lambda context: Plan([test_measurement(context)]),
    metrics=lambda results: [*metrics.metrics(results), *slices.metrics(results)],
    functions=PREDICTION_FUNCTIONS,
    draw=charts.draw,
    warnings=slices.warnings,
    needs="logits",
)
