"""The scale that a headline figure is drawn on, better to the right, with chance and a reference network marked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple, TypeAlias

from hardy.evaluation.compare import identity
from hardy.evaluation.scorecard import Estimate

References: TypeAlias = Mapping[tuple[str, str, str, str], float]
"""What the reference network reached, by :func:`hardy.evaluation.compare.identity`."""

# The error from which the scale is logarithmic, so that 99.2 % and 99.9 % can be told apart, and where it ends.
_LOG_BELOW = 0.1
_SMALLEST = 1e-4


class Scale(NamedTuple):
    """Places in percent of the width: ``span`` is the interval, ``ticks`` are places with what is written there."""

    value: float
    span: tuple[float, float] | None
    chance: float | None
    reference: float | None
    ticks: tuple[tuple[float, str], ...]


def references() -> References:
    """Of the recipe ``compact`` at the quick budget and seed 0; ``benchmarks/reference_scorecard.py`` made them."""
    stored = json.loads((files("hardy.report") / "reference.json").read_text(encoding="utf-8"))
    return {tuple(key): value for *key, value in stored["estimates"]}


def scale(estimate: Estimate, known: References) -> Scale | None:
    """The scale of an estimate; None where it has no bounds."""
    if estimate.bounds is None:
        return None
    worst, best = estimate.bounds if estimate.higher_is_better is not False else estimate.bounds[::-1]
    log = abs(best - estimate.value) <= _LOG_BELOW * abs(best - worst)
    errors = [1.0, 0.1, 0.01, 0.001, _SMALLEST] if log else [1.0, 0.5, 0.0]

    def place(value: float) -> float:
        error = min(max((best - value) / (best - worst), 0.0), 1.0)
        return 100 * (math.log10(max(error, _SMALLEST)) / math.log10(_SMALLEST) if log else 1 - error)

    interval = estimate.interval()
    reference = known.get(identity(estimate))
    values = [best - error * (best - worst) for error in errors]
    share = estimate.unit == "share"
    words = [f"{round(100 * value if share else value, 6):g}" + (" %" if share else "") for value in values]
    return Scale(
        place(estimate.value),
        None if interval is None else (min(map(place, interval)), max(map(place, interval))),
        None if estimate.chance is None else place(estimate.chance),
        None if reference is None else place(reference),
        tuple((place(value), text) for value, text in zip(values, words, strict=True)),
    )
