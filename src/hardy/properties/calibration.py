"""Calibration: whether a confidence of 90 % is right nine times in ten."""

from __future__ import annotations

from functools import partial

import numpy as np

from hardy.charts import Chart, LineChart, Series
from hardy.metrics import (
    brier,
    ece,
    ece_noise_floor,
    max_calibration_error,
    nll,
    reliability,
    rms_calibration_error,
    wilson,
)
from hardy.properties.framework import Evidence, Plan, Planned, Property, Statistic
from hardy.properties.predictions import MEASURES, predictions_of, test_cell
from hardy.randomness import host_generator

BINS = 15


def plan_calibration(plan: Plan) -> Planned:
    return Planned([test_cell(plan)])


def statistics(evidence: Evidence) -> list[Statistic]:
    cell = test_cell(evidence.plan)
    answers = predictions_of(evidence, cell)
    confidence, probabilities = answers.confidence, np.exp(answers.log_probabilities)
    make = partial(Statistic, dataset=cell.dataset, examples=((cell.dataset, answers.indices),))
    floor = ece_noise_floor(confidence, BINS, rng=host_generator(evidence.seed, "noise floor"))
    binned = {
        "ece": ece,
        "rms_calibration_error": rms_calibration_error,
        "max_calibration_error": max_calibration_error,
    }
    return [
        *[
            make(
                metric=name,
                setting={"bins": BINS},
                compute=lambda weights, figure=figure: figure(confidence, answers.correct, BINS, weights=weights),
                higher_is_better=False,
                headline=name == "ece",
            )
            for name, figure in binned.items()
        ],
        make(
            metric="nll",
            compute=lambda weights: nll(answers.log_probabilities, answers.labels, weights=weights),
            higher_is_better=False,
        ),
        make(
            metric="brier",
            compute=lambda weights: brier(probabilities, answers.labels, weights=weights),
            higher_is_better=False,
        ),
        # The interval of the floor is the spread of a calibrated model's ECE, not a resampling of examples.
        make(
            metric="ece_noise_floor",
            setting={"bins": BINS},
            compute=lambda _: floor.mean,
            interval=(floor.low, floor.high),
            higher_is_better=None,
        ),
    ]


def warnings(evidence: Evidence) -> list[str]:
    answers = predictions_of(evidence, test_cell(evidence.plan))
    floor = ece_noise_floor(answers.confidence, BINS, rng=host_generator(evidence.seed, "noise floor"))
    found = ece(answers.confidence, answers.correct, BINS)
    if found > floor.high:
        return []
    warning = (
        f"calibration: an ECE of {found:.2%} is within what a perfectly calibrated classifier shows on "
        f"{len(answers.labels):,} images ({floor.low:.2%} to {floor.high:.2%}); it ranks nobody"
    )
    return [warning]


def draw(evidence: Evidence) -> list[Chart]:
    answers = predictions_of(evidence, test_cell(evidence.plan))
    bins = reliability(answers.confidence, answers.correct, BINS)
    filled = bins.counts > 0
    counts = bins.counts[filled].astype(int)
    hits = np.round(bins.accuracy[filled] * counts).astype(int)
    bands = np.array([wilson(int(right), int(n)) for right, n in zip(hits, counts, strict=True)])
    diagonal = np.array([0.0, 1.0])
    centres = (bins.edges[:-1] + bins.edges[1:]) / 2
    return [
        LineChart(
            title="Reliability diagram",
            caption=f"Accuracy of the answers in each of {BINS} bins of confidence, with its 95 % interval; "
            "on the diagonal confidence is honest.",
            x_label="confidence",
            y_label="accuracy",
            series=(
                Series("perfect calibration", diagonal, diagonal, style="reference"),
                Series(
                    "accuracy", bins.confidence[filled], bins.accuracy[filled], bands[:, 0], bands[:, 1], style="points"
                ),
            ),
            x_limits=(0.0, 1.0),
            y_limits=(0.0, 1.0),
        ),
        LineChart(
            title="How sure the answers are",
            caption="Number of answers in each bin of confidence.",
            x_label="confidence",
            y_label="answers",
            series=(Series("answers", centres[filled], bins.counts[filled], style="bars"),),
            x_limits=(0.0, 1.0),
            log_y=True,
        ),
    ]


CALIBRATION = Property(
    name="calibration",
    title="Calibration",
    description="Whether confidence can be taken at its word: of the answers that are 90 % sure, 90 % should be right.",
    plan=plan_calibration,
    statistics=statistics,
    draw=draw,
    measures=MEASURES,
    warnings=warnings,
)
