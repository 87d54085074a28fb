"""The properties, by name, and the measures that their cells are measured with."""

from __future__ import annotations

from hardy.errors import unknown
from hardy.properties.accuracy import ACCURACY
from hardy.properties.adversarial import ADVERSARIAL
from hardy.properties.calibration import CALIBRATION
from hardy.properties.conformal import CONFORMAL_SETS
from hardy.properties.error_detection import ERROR_DETECTION
from hardy.properties.framework import Cell, Evidence, Measure, Plan, Planned, Property, Shard, Skipped, Statistic
from hardy.properties.out_of_distribution import OUT_OF_DISTRIBUTION

__all__ = [
    "MEASURES",
    "PROPERTIES",
    "Cell",
    "Evidence",
    "Measure",
    "Plan",
    "Planned",
    "Property",
    "Shard",
    "Skipped",
    "Statistic",
    "get_property",
]

PROPERTIES: dict[str, Property] = {
    prop.name: prop
    for prop in (ACCURACY, CALIBRATION, CONFORMAL_SETS, ERROR_DETECTION, OUT_OF_DISTRIBUTION, ADVERSARIAL)
}
MEASURES: dict[str, Measure] = {
    name: measure for prop in PROPERTIES.values() for name, measure in prop.measures.items()
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
