"""Risk and coverage, ROC curves and the scores of mistakes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hardy.evaluation.charts import Chart, Histogram, LineChart, Series, plain
from hardy.evaluation.framework import Results
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.evaluation.properties.error_detection.measure import SCORE, error_scores
from hardy.metrics import risk_coverage, roc_curve

POINTS = 400


def draw(results: Results) -> list[Chart]:
    scores = error_scores(results)
    wrong = ~predictions_of(results, test_measurement(results.context)).correct
    curves = {name: risk_coverage(score, wrong) for name, score in scores.items()}
    best = risk_coverage(wrong.astype(float), wrong)
    charts: list[Chart] = [
        LineChart(
            title="Risk and coverage",
            caption="Share of mistakes among the answers given, when only the least suspicious are given.",
            x_label="share of images answered",
            y_label="share of mistakes",
            series=(
                *(Series(plain(name), *_thinned(curve.coverage, curve.risk)) for name, curve in curves.items()),
                Series("best possible", *_thinned(best.coverage, best.risk), style="reference"),
            ),
            x_limits=(0.0, 1.0),
        )
    ]
    if wrong.any() and not wrong.all():
        caption = "Share of mistakes caught over share of right answers refused, at every threshold."
        rocs = {plain(name): (score[~wrong], score[wrong]) for name, score in scores.items()}
        charts.append(roc_chart("ROC: mistakes against right answers", caption, "right answers", "mistakes", rocs))
        score = scores[SCORE]
        title = "Scores of right answers and of mistakes"
        charts.append(score_histogram(title, SCORE, right=score[~wrong], wrong=score[wrong]))
    return charts


def roc_chart(
    title: str, caption: str, negatives: str, positives: str, scores: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> LineChart:
    """ROC curves, by name, of the scores of negatives and of positives."""
    rocs = {name: roc_curve(*both) for name, both in scores.items()}
    return LineChart(
        title=title,
        caption=caption,
        x_label=f"{negatives} refused",
        y_label=f"{positives} caught",
        series=tuple(Series(name, roc.false_positive_rate, roc.true_positive_rate) for name, roc in rocs.items()),
        x_limits=(0.0, 1.0),
        y_limits=(0.0, 1.0),
    )


def score_histogram(title: str, name: str, **scores: np.ndarray) -> Histogram:
    """Several score distributions over common bins."""
    together = np.concatenate(list(scores.values()))
    edges = np.linspace(together.min(), together.max(), 41)
    return Histogram(
        title=title,
        caption="Higher is more suspicious. The less the two overlap, the better the score tells them apart.",
        x_label=f"score ({plain(name)})",
        edges=edges,
        shares={key: np.histogram(values, edges)[0] / len(values) for key, values in scores.items()},
    )


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return x[kept], y[kept]
