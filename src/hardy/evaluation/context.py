"""What an evaluation plans with, and the measurements that follow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hardy.data import Dataset, available
from hardy.errors import UsageError
from hardy.evaluation.budget import BUDGETS, Budget, find_budget
from hardy.evaluation.framework import EvaluationContext, Measurement, Property, Skipped

# What the registry's datasets of the role 'shift' are a shift of.
_SHIFTED = "mnist/test"


def make_context(
    test: Dataset,
    dataset: Callable[[str], Dataset],
    data_dir: Path | None,
    classes: int,
    budget: Budget,
    limit: int | None,
    adversarial: Sequence[Path],
    members: int = 0,
) -> EvaluationContext:
    """What there is to measure on: the test split, the validation split, and the other datasets that are at hand.

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
    """The context as JSON values, for the manifest; a budget of hardy's own by its name."""
    found = json.loads(json.dumps(dataclasses.asdict(context)))
    return found | ({"budget": context.budget.name} if context.budget in BUDGETS.values() else {})


def context_from_json(found: Mapping[str, Any]) -> EvaluationContext:
    """What :func:`context_to_json` wrote."""
    budget = found["budget"]
    budget = find_budget(budget) if isinstance(budget, str) else Budget(**_with_tuples(budget))
    return EvaluationContext(**_with_tuples({**found, "budget": budget}))


def _with_tuples(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def planned_measurements(
    chosen: Sequence[Property], context: EvaluationContext
) -> tuple[list[Measurement], list[Skipped]]:
    """All measurements that these properties need, each once, and what they leave out."""
    planned = [prop.plan(context) for prop in chosen]
    measurements = list(dict.fromkeys(measurement for each in planned for measurement in each.measurements))
    return measurements, [skip for each in planned for skip in each.skipped]
