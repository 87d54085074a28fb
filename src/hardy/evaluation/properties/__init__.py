"""The properties, by name, and how users add their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from hardy.errors import UsageError
from hardy.evaluation.framework import MeasurementFunction, Metric, Property, Results
from hardy.evaluation.predictions import PREDICTION_FUNCTIONS
from hardy.evaluation.properties import (
    accuracy,
    adversarial,
    calibration,
    certified,
    conformal,
    error_detection,
    ood,
    shift,
    system,
)
from hardy.registry import Registry

Metrics: TypeAlias = Callable[[Results], list[Metric]]

PROPERTIES: Registry[Property] = Registry(
    "property",
    [
        it.PROPERTY
        for it in (accuracy, calibration, conformal, error_detection, ood, shift, adversarial, certified, system)
    ],
)


def measurement_functions() -> dict[str, MeasurementFunction]:
    """What measurements are made with, by name: the functions of all properties."""
    return {name: function for prop in PROPERTIES.values() for name, function in prop.functions.items()}


def register_property(name: str, title: str, description: str, **more: Any) -> Callable[[Metrics], Metrics]:
    """Registers a property of one's own, whose metrics the decorated function returns.

    Args:
        name: what it is called in code and on the command line.
        title: what it is called in the report.
        description: what it says about a classifier, in sentences.
        more: other attributes of :class:`Property`; without ``plan`` and ``functions`` the predictions on the test
            split are measured.

    Raises:
        UsageError: the name is taken, or one of ``functions`` has the name of another property's.

    >>> from hardy.evaluation.framework import MetricKind, mean_of
    >>> from hardy.evaluation.predictions import predictions_of, test_measurement
    >>> KIND = MetricKind.share("mean_confidence", "Mean confidence", higher_is_better=None)
    >>> @register_property("confidence", title="Confidence", description="How sure the answers are.")
    ... def metrics(results):
    ...     answers = predictions_of(results, test_measurement(results.context))
    ...     return [mean_of(KIND, answers.confidence, answers.examples)]
    >>> PROPERTIES.find("confidence").title
    'Confidence'
    >>> PROPERTIES.remove("confidence")
    """
    given = {"plan": accuracy.PROPERTY.plan, "functions": PREDICTION_FUNCTIONS, **more}
    known = measurement_functions()
    for taken, function in given["functions"].items():
        if known.get(taken, function) is not function:
            raise UsageError(f"there is a measurement function '{taken}' already; choose another name")

    def register(metrics: Metrics) -> Metrics:
        PROPERTIES.add(Property(name, title, description, metrics=metrics, **given))
        return metrics

    return register
