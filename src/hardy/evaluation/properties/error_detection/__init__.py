"""Error detection: whether the classifier's own mistakes stand out by their score."""

from hardy.evaluation.framework import Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties.error_detection import charts, measure, metrics

PROPERTY = Property(
    name="error_detection",
    title="Error detection",
    description="Whether the classifier's mistakes can be told from its right answers by how unsure it is.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions=PREDICTION_FUNCTIONS,
    draw=charts.draw,
    warnings=metrics.warnings,
    needs="logits",
)
