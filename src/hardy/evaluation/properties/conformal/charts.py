"""Coverage of prediction sets against what was promised."""

from __future__ import annotations

import numpy as np

from hardy.evaluation.charts import Chart, LineChart, Series, plain
from hardy.evaluation.framework import Results
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.evaluation.properties.conformal.measure import CLASS_ALPHA, Sets, prediction_sets
from hardy.metrics import wilson


def draw(results: Results) -> list[Chart]:
    by_kind: dict[str, list[Sets]] = {}
    for sets in prediction_sets(results):
        by_kind.setdefault(sets.rule.kind, []).append(sets)
    if not by_kind:
        return []
    labels = predictions_of(results, test_measurement(results.context)).labels
    coverage = [_coverage(kind, found) for kind, found in by_kind.items()]
    promised = coverage[0].x
    line = Series("as promised", promised, promised, style="reference")
    least = min(float(series.low.min()) for series in coverage if series.low is not None)
    return [
        LineChart(
            title="Coverage of prediction sets",
            caption="Share of test images whose set holds the true class, over the share promised, with its 95 % "
            "interval.",
            x_label="promised",
            y_label="covered",
            series=(line, *coverage),
            x_limits=(promised.min() - 0.01, 1.0),
            y_limits=(min(least, promised.min()) - 0.01, 1.0),
        ),
        LineChart(
            title="Coverage class by class",
            caption=f"Share of each class's test images whose set holds the true class, where "
            f"{1 - CLASS_ALPHA:.0%} are promised.",
            x_label="class",
            y_label="covered",
            series=tuple(
                _by_class(kind, sets, labels)
                for kind, found in by_kind.items()
                for sets in found
                if sets.rule.alpha == CLASS_ALPHA
            ),
        ),
    ]


def _coverage(kind: str, found: list[Sets]) -> Series:
    promised = np.array([1.0 - sets.rule.alpha for sets in found])
    low, high = np.array([wilson(int(sets.covered.sum()), len(sets.covered)) for sets in found]).T
    return Series(plain(kind), promised, np.array([sets.covered.mean() for sets in found]), low, high, style="points")


def _by_class(kind: str, sets: Sets, labels: np.ndarray) -> Series:
    present = np.unique(labels)
    means = np.array([sets.covered[labels == label].mean() for label in present])
    return Series(plain(kind), present.astype(float), means, style="bars")
