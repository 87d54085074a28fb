"""Certified robustness: which answers stay right within a radius whatever anybody finds."""

from hardy.evaluation.framework import Property
from hardy.evaluation.properties.adversarial.measure import measure_attack
from hardy.evaluation.properties.certified import charts, detection, measure, metrics

PROPERTY = Property(
    name="certified",
    title="Certified robustness",
    description="The share of test images that are answered rightly and are shown to stay so within the radius: no "
    "attack, known or not, can lower it. What is neither certified nor broken by an attack, nobody knows. The same of "
    "detection: how well outliers are told from test images by their score, whatever is done to them.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={"certify": measure.measure_certified, "attack": measure_attack, **detection.FUNCTIONS},
    draw=charts.draw,
    warnings=metrics.contradictions,
    skipped=metrics.without_bounds,
    needs="gradients",
)
