"""Calibration: whether a confidence of 90 % is right nine times in ten, before and after calibrating."""

from hardy.evaluation.framework import Property
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties.adversarial.measure import measure_attacked_predictions
from hardy.evaluation.properties.calibration import charts, measure, metrics

PROPERTY = Property(
    name="calibration",
    title="Calibration",
    description="Whether confidence can be taken at its word: of the answers that are 90 % sure, 90 % should be right. "
    "Before calibrating, and after each calibrator, fitted on validation images.",
    plan=measure.plan,
    metrics=metrics.metrics,
    functions={"predict_highest_loss": measure_attacked_predictions, **PREDICTION_FUNCTIONS},
    draw=charts.draw,
    warnings=metrics.warnings,
    needs="logits",
)
