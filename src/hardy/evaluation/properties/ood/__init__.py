"""Out-of-distribution detection: whether inputs of another kind stand out by their score."""

from hardy.evaluation.framework import Property
from hardy.evaluation.properties.ood import charts, measure, metrics

PROPERTY = Property(
    name="out_of_distribution",
    title="Out-of-distribution detection",
    description="Whether inputs that belong to no class can be told from test images. Positive is out of distribution: "
    "FPR at 95 % TPR is the share of test images refused when 95 % of the others are caught. Detection accuracy is the "
    "mean of the share of test images accepted and of others refused, at a threshold set on validation images.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={"detect": measure.measure_detect},
    draw=charts.draw,
    warnings=metrics.warnings,
)
