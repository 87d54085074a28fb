"""Distribution shift: corruptions, images from elsewhere, and whether the answer stays while the image moves."""

from hardy.evaluation.framework import Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties.shift import charts, measure, metrics

PROPERTY = Property(
    name="distribution_shift",
    title="Distribution shift",
    description="What is left of accuracy, calibration and error detection when images are corrupted as in MNIST-C or "
    "come from elsewhere, and how often the answer flips while an image moves a little.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={
        "corrupted": measure.measure_corrupted,
        "consistency": measure.measure_consistency,
        **PREDICTION_FUNCTIONS,
    },
    draw=charts.draw,
    warnings=metrics.warnings,
)
