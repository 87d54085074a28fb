"""Adversarial robustness: which answers stay right when somebody looks for the worst image within a radius."""

from hardy.evaluation.framework import Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties.adversarial import charts, masking, measure, metrics

PROPERTY = Property(
    name="adversarial",
    title="Adversarial robustness",
    description="The share of test images that are answered rightly and stay so under all that the attack finds. "
    "'standard' is the worst case over APGD-CE, targeted APGD, targeted FAB and Square, as in AutoAttack.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={"attack": measure.measure_attack, "masking": masking.measure_masking, **PREDICTION_FUNCTIONS},
    draw=charts.draw,
    warnings=masking.masking_warnings,
    needs="gradients",
)
