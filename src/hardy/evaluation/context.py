"""What an evaluation plans with, and the cells that follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hardy.data import Dataset, available
from hardy.errors import UsageError
from hardy.evaluation.framework import Budget
from hardy.evaluation.properties import EvaluationContext, Measurement, Property, Skipped

# What the registry's datasets of the role 'shift' are a shift of.
_SHIFTED = "mnist/test"
_TUPLES = ("out_of_distribution", "adversarial", "shift", "shape")


def make_context(
    test: Dataset,
    dataset: Callable[[str], Dataset],
    data_dir: Path | None,
    classes: int,
    budget: Budget,
    limit: int | None,
    adversarial: Sequence[str | Path],
    members: int = 0,
) -> EvaluationContext:
    """What there is to measure on: the test split, what is held out, and the other datasets that are at hand.

    Raises:
        DataError: the user's folder does not exist, or data is damaged.
    """
    reasons = available(data_dir, "out-of-distribution")
    reasons.pop(test.name, None)
    shape = tuple(test.images.shape[1:])
    shaped = [name for name, reason in reasons.items() if not reason and tuple(dataset(name).images.shape[1:]) == shape]
    missing = {
        name: reason or f"its images are {tuple(dataset(name).images.shape[1:])}, those of {test.name} are {shape}"
        for name, reason in reasons.items()
        if name not in shaped
    }
    shift = tuple(
        name
        for name, reason in available(data_dir, "shift").items()
        if not reason and test.name == _SHIFTED and tuple(dataset(name).images.shape[1:]) == shape
    )
    validation = _validation(test.name, dataset)
    saved = tuple(str(path) for path in adversarial)
    used = (test.name, *([validation] if validation else []), *shaped, *saved, *shift)
    sizes = {name: len(dataset(name)) for name in used}
    return EvaluationContext(
        test.name, validation, tuple(shaped), missing, sizes, classes, budget, limit, saved, shift, shape, members
    )


def _validation(test: str, dataset: Callable[[str], Dataset]) -> str | None:
    name = f"{test.rpartition('/')[0]}/validation"
    try:
        dataset(name)
    except UsageError:
        return None
    return name


def context_to_json(context: EvaluationContext) -> dict[str, Any]:
    """The plan as JSON values, for the manifest."""
    return dataclasses.asdict(context) | {name: list(getattr(context, name)) for name in _TUPLES}


def context_from_json(found: Mapping[str, Any]) -> EvaluationContext:
    """What :func:`context_to_json` wrote."""
    return EvaluationContext(**{**found, **{name: tuple(found[name]) for name in _TUPLES}})


def planned_measurements(
    chosen: Sequence[Property], context: EvaluationContext
) -> tuple[list[Measurement], list[Skipped]]:
    """All cells that these properties need, each once, and what they leave out."""
    planned = [prop.plan(context) for prop in chosen]
    measurements = list(dict.fromkeys(measurement for each in planned for measurement in each.measurements))
    return measurements, [skip for each in planned for skip in each.skipped]
