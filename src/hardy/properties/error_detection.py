"""Error detection: whether the classifier's own mistakes stand out by their score."""

from __future__ import annotations

from functools import partial

import numpy as np

from hardy.charts import Chart, Histogram, LineChart, Series
from hardy.detection import SCORES
from hardy.metrics import (
    prepared_aurc,
    prepared_auroc,
    prepared_excess_aurc,
    prepared_risk_at_coverage,
    risk_coverage,
    roc_curve,
)
from hardy.properties.framework import Evidence, Plan, Planned, Property, Statistic
from hardy.properties.predictions import MEASURES, predictions_of, test_cell

SCORE = "max_softmax"
COVERAGES = (0.99, 0.95, 0.9)
POINTS = 400


def plan_error_detection(plan: Plan) -> Planned:
    return Planned([test_cell(plan)])


def statistics(evidence: Evidence) -> list[Statistic]:
    cell = test_cell(evidence.plan)
    answers = predictions_of(evidence, cell)
    score, wrong = SCORES[SCORE](answers.logits), ~answers.correct
    make = partial(Statistic, dataset=cell.dataset, examples=((cell.dataset, answers.indices),))
    auroc = prepared_auroc(score[~wrong], score[wrong])
    return [
        make(
            metric="auroc",
            setting={"score": SCORE},
            # The metric takes the right answers' weights first, then the wrong ones'.
            compute=lambda weights: auroc(np.concatenate([weights[~wrong], weights[wrong]])),
            higher_is_better=True,
            headline=True,
        ),
        make(metric="aurc", setting={"score": SCORE}, compute=prepared_aurc(score, wrong), higher_is_better=False),
        make(
            metric="excess_aurc",
            setting={"score": SCORE},
            compute=prepared_excess_aurc(score, wrong),
            higher_is_better=False,
        ),
        *[
            make(
                metric="risk_at_coverage",
                setting={"score": SCORE, "coverage": coverage},
                compute=prepared_risk_at_coverage(score, wrong, coverage),
                higher_is_better=False,
            )
            for coverage in COVERAGES
        ],
    ]


def draw(evidence: Evidence) -> list[Chart]:
    answers = predictions_of(evidence, test_cell(evidence.plan))
    score, wrong = SCORES[SCORE](answers.logits), ~answers.correct
    curve, best = risk_coverage(score, wrong), risk_coverage(wrong.astype(float), wrong)
    charts: list[Chart] = [
        LineChart(
            title="Risk and coverage",
            caption="Share of mistakes among the answers given, when only the surest are answered.",
            x_label="share of images answered",
            y_label="share of mistakes",
            series=(
                Series(SCORE.replace("_", " "), *_thinned(curve.coverage, curve.risk)),
                Series("best possible", *_thinned(best.coverage, best.risk), style="reference"),
            ),
            x_limits=(0.0, 1.0),
        )
    ]
    if wrong.any() and not wrong.all():
        roc = roc_curve(score[~wrong], score[wrong])
        charts.append(
            LineChart(
                title="ROC: mistakes against right answers",
                caption="Share of mistakes caught over share of right answers refused, at every threshold.",
                x_label="right answers refused",
                y_label="mistakes caught",
                series=(Series(SCORE.replace("_", " "), roc.false_positive_rate, roc.true_positive_rate),),
                x_limits=(0.0, 1.0),
                y_limits=(0.0, 1.0),
            )
        )
        charts.append(
            score_histogram("Scores of right answers and of mistakes", SCORE, right=score[~wrong], wrong=score[wrong])
        )
    return charts


def score_histogram(title: str, name: str, **scores: np.ndarray) -> Histogram:
    """Several score distributions over common bins."""
    together = np.concatenate(list(scores.values()))
    edges = np.linspace(together.min(), together.max(), 41)
    return Histogram(
        title=title,
        caption="Higher is more suspicious. The less the two overlap, the better the score tells them apart.",
        x_label=f"suspicion ({name.replace('_', ' ')})",
        edges=edges,
        shares={key: np.histogram(values, edges)[0] / len(values) for key, values in scores.items()},
    )


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return x[kept], y[kept]


ERROR_DETECTION = Property(
    name="error_detection",
    title="Error detection",
    description="Whether the classifier's mistakes can be told from its right answers by how unsure it is.",
    plan=plan_error_detection,
    statistics=statistics,
    draw=draw,
    measures=MEASURES,
)
