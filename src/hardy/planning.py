"""What an evaluation plans with, and the cells that follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hardy.datasets import Dataset, available
from hardy.errors import UsageError
from hardy.properties import Cell, Plan, Property, Skipped
from hardy.properties.framework import Budget

# What the registry's datasets of the role 'shift' are a shift of.
_SHIFTED = "mnist/test"
_TUPLES = ("out_of_distribution", "adversarial", "shift", "shape")


def make_plan(
    test: Dataset,
    dataset: Callable[[str], Dataset],
    data_dir: Path | None,
    classes: int,
    budget: Budget,
    limit: int | None,
    adversarial: Sequence[Path],
    members: int = 0,
) -> Plan:
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
    held_out = _held_out(test.name, dataset)
    saved = tuple(str(path) for path in adversarial)
    used = (test.name, *([held_out] if held_out else []), *shaped, *saved, *shift)
    sizes = {name: len(dataset(name)) for name in used}
    return Plan(
        test.name, held_out, tuple(shaped), missing, sizes, classes, budget, limit, saved, shift, shape, members
    )


def _held_out(test: str, dataset: Callable[[str], Dataset]) -> str | None:
    name = f"{test.rpartition('/')[0]}/held-out"
    try:
        dataset(name)
    except UsageError:
        return None
    return name


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, for the manifest."""
    return dataclasses.asdict(plan) | {name: list(getattr(plan, name)) for name in _TUPLES}


def plan_from_json(found: Mapping[str, Any]) -> Plan:
    """What :func:`plan_to_json` wrote."""
    return Plan(**{**found, **{name: tuple(found[name]) for name in _TUPLES}})


def planned_cells(chosen: Sequence[Property], plan: Plan) -> tuple[list[Cell], list[Skipped]]:
    """All cells that these properties need, each once, and what they leave out."""
    planned = [prop.plan(plan) for prop in chosen]
    cells = list(dict.fromkeys(cell for each in planned for cell in each.cells))
    return cells, [skip for each in planned for skip in each.skipped]
