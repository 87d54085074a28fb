"""Pictures of confidence against accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.charts import Chart, LineChart, Series
from hardy.evaluation.framework import Results
from hardy.evaluation.predictions import test_measurement
from hardy.evaluation.properties.calibration.measure import TEMPERATURE, answers_to, attacked_measurement
from hardy.evaluation.properties.calibration.metrics import BINS
from hardy.metrics import Reliability, reliability, wilson

BARS = 10
_DIAGONAL = np.array([0.0, 1.0])


def draw(results: Results) -> list[Chart]:
    context = results.context
    measured = {"": test_measurement(context)}
    if context.gradients:
        measured[" under attack"] = attacked_measurement(context)
    charts = []
    for words, measurement in measured.items():
        shown = {
            "with temperature" if way.setting else "as it is": (way.confidence, way.correct)
            for way in answers_to(results, measurement)
            if way.setting in ({}, TEMPERATURE)
        }
        charts += before_and_after(shown, words)
    return charts


def before_and_after(answers: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]], words: str) -> list[Chart]:
    """A reliability diagram, its counts, and accuracy as bars, of confidence and whether it was right; ``words`` say
    behind each title what the answers are to."""
    found = {name: reliability(*given, BINS) for name, given in answers.items()}
    tens = {name: reliability(*given, BARS) for name, given in answers.items()}
    perfect = Series("perfect calibration", _DIAGONAL, _DIAGONAL, style="reference")
    unit = (0.0, 1.0)
    return [
        LineChart(
            title=f"Reliability diagram{words}",
            caption=f"Accuracy of the answers in each of {BINS} bins of confidence, with its 95 % interval; "
            "on the diagonal confidence is honest.",
            x_label="confidence",
            y_label="accuracy",
            series=(perfect, *(_points(name, one) for name, one in found.items())),
            x_limits=unit,
            y_limits=unit,
        ),
        LineChart(
            title=f"How sure the answers are{words}",
            caption="Number of answers in each bin of confidence.",
            x_label="confidence",
            y_label="answers",
            series=tuple(
                Series(name, _centers(one), one.counts[one.counts > 0], style="bars") for name, one in found.items()
            ),
            x_limits=unit,
            log_y=True,
        ),
        LineChart(
            title=f"Confidence against accuracy{words}",
            caption=f"Accuracy of the answers in each of {BARS} bins of confidence.",
            x_label="confidence",
            y_label="accuracy",
            series=(
                perfect,
                *(
                    Series(name, _centers(one), one.accuracy[one.counts > 0], style="bars")
                    for name, one in tens.items()
                ),
            ),
            x_limits=unit,
            y_limits=unit,
        ),
    ]


def _points(name: str, bins: Reliability) -> Series:
    filled = bins.counts > 0
    counts = bins.counts[filled].astype(int)
    hits = np.round(bins.accuracy[filled] * counts).astype(int)
    bands = np.array([wilson(int(right), int(n)) for right, n in zip(hits, counts, strict=True)])
    return Series(name, bins.confidence[filled], bins.accuracy[filled], bands[:, 0], bands[:, 1], style="points")


def _centers(bins: Reliability) -> NDArray[np.float64]:
    return ((bins.edges[:-1] + bins.edges[1:]) / 2)[bins.counts > 0]
