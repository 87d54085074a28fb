"""The properties, by name, and the measures that their cells are measured with."""

from __future__ import annotations

from hardy.errors import unknown
from hardy.evaluation.framework import (
    EvaluationContext,
    Measurement,
    MeasurementFunction,
    Metric,
    Plan,
    Property,
    Results,
    Shard,
    Skipped,
)
from hardy.evaluation.properties.accuracy.metrics import ACCURACY
from hardy.evaluation.properties.adversarial.metrics import ADVERSARIAL
from hardy.evaluation.properties.calibration.metrics import CALIBRATION
from hardy.evaluation.properties.conformal.metrics import CONFORMAL_SETS
from hardy.evaluation.properties.error_detection.metrics import ERROR_DETECTION
from hardy.evaluation.properties.ood.metrics import OUT_OF_DISTRIBUTION
from hardy.evaluation.properties.shift.metrics import DISTRIBUTION_SHIFT

__all__ = [
    "MEASUREMENT_FUNCTIONS",
    "PROPERTIES",
    "Measurement",
    "Results",
    "MeasurementFunction",
    "EvaluationContext",
    "Plan",
    "Property",
    "Shard",
    "Skipped",
    "Metric",
    "get_property",
]

PROPERTIES: dict[str, Property] = {
    prop.name: prop
    for prop in (
        ACCURACY,
        CALIBRATION,
        CONFORMAL_SETS,
        ERROR_DETECTION,
        OUT_OF_DISTRIBUTION,
        DISTRIBUTION_SHIFT,
        ADVERSARIAL,
    )
}
MEASUREMENT_FUNCTIONS: dict[str, MeasurementFunction] = {
    name: measure for prop in PROPERTIES.values() for name, measure in prop.functions.items()
}


def get_property(name: str) -> Property:
    """The property of that name; dashes may stand for underscores.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    name = name.replace("-", "_")
    if name not in PROPERTIES:
        raise unknown("property", name, PROPERTIES)
    return PROPERTIES[name]
