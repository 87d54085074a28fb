"""The whole system: what a bundle answers, wrongly or not at all, when somebody attacks all of its rules together."""

from hardy.evaluation.framework import Property
from hardy.evaluation.properties.system import charts, measure, metrics

PROPERTY = Property(
    name="system",
    title="The whole system under attack",
    description="What a bundle does when somebody attacks its classifier, calibrator, detector, prediction sets and "
    "preprocessing together: to make it answer wrongly, to make it refuse what it answers, and to make it answer what "
    "belongs to no class. An image on which nothing was found counts as the bundle answers it unperturbed.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={"system": measure.measure_system},
    draw=charts.draw,
    warnings=metrics.warnings,
)
