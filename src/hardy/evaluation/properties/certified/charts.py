"""The attack above, the certificate below: what is between, nobody knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.charts import Chart, LineChart, Series, Table
from hardy.evaluation.framework import Results
from hardy.evaluation.properties.certified import detection
from hardy.evaluation.properties.certified.metrics import Certified, certified_of
from hardy.metrics import wilson

_NAMES = {"branching": "certified", "intervals": "certified by intervals alone"}


def draw(results: Results) -> list[Chart]:
    found: list[Chart] = [chart for each in certified_of(results) for chart in (_curve(each), _counts(each))]
    return found + detection.draw(results)


def _curve(each: Certified) -> LineChart:
    eps = np.array([0.0, *each.eps])
    right = each.radii["branching"] >= 0
    series = [_share("not broken by PGD", eps, [right & (each.broken > radius) for radius in eps])]
    series += [_share(name, eps, [each.certified(radius, method) for radius in eps]) for method, name in _NAMES.items()]
    return LineChart(
        title=f"Attack above, certificate below, {each.norm}",
        caption=f"Share of {len(right):,} test images that PGD cannot mislead within the radius, and that are shown to "
        "withstand everything, each with its 95 % interval. What lies between, nobody knows.",
        x_label=f"eps ({each.norm}, pixels in [0, 1])",
        y_label="accuracy",
        series=tuple(series),
        y_limits=(0.0, 1.0),
    )


def _share(name: str, eps: NDArray, flags: list[NDArray[np.bool_]]) -> Series:
    bands = np.array([wilson(int(it.sum()), len(it)) for it in flags])
    return Series(name, eps, np.array([it.mean() for it in flags]), bands[:, 0], bands[:, 1])


def _counts(each: Certified) -> Table:
    counts = {eps: each.verdicts(eps) for eps in each.eps}
    return Table(
        title=f"Verdicts, {each.norm}",
        caption="How many test images ended how, at each radius; each image is counted once.",
        header=("eps", "wrong", "intervals", "relaxation", "branching", "falsified", "unknown"),
        rows=tuple((f"{eps:g}", *(str(int(it.sum())) for it in found.values())) for eps, found in counts.items()),
    )
