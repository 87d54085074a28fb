"""The AUROC of every score, and how one of them tells other inputs from test images."""

from __future__ import annotations

from hardy.evaluation.charts import Chart, LineChart, Series, Table, plain
from hardy.evaluation.framework import Results
from hardy.evaluation.properties.error_detection.charts import score_histogram
from hardy.evaluation.properties.ood.measure import (
    headline_score,
    inside_measurement,
    outside_measurements,
    scores_of,
)
from hardy.metrics import auroc, roc_curve


def draw(results: Results) -> list[Chart]:
    score, curves, histograms = headline_score(results), [], []
    negative = results.column(inside_measurement(results.context), score)
    for outside in outside_measurements(results.context):
        if outside.setting:
            continue
        positive = results.column(outside.measurement, score)
        roc = roc_curve(negative, positive)
        curves.append(Series(outside.name, roc.false_positive_rate, roc.true_positive_rate))
        scores = {results.context.dataset: negative, outside.name: positive}
        histograms.append(score_histogram(f"Scores: {outside.name}", score, **scores))
    charts: list[Chart] = [_table(results)]
    if curves:
        roc_chart = LineChart(
            title="ROC: other inputs against test images",
            caption=f"Share of out-of-distribution inputs caught over share of test images refused, by {plain(score)}.",
            x_label="test images refused",
            y_label="out-of-distribution inputs caught",
            series=tuple(curves),
            x_limits=(0.0, 1.0),
            y_limits=(0.0, 1.0),
        )
        charts += [roc_chart, *histograms]
    return charts


def _table(results: Results) -> Table:
    inside, outsides = inside_measurement(results.context), outside_measurements(results.context)
    rows = []
    for score in scores_of(results):
        negative = results.column(inside, score)
        found = (auroc(negative, results.column(it.measurement, score)) for it in outsides)
        rows.append((plain(score), *(f"{value:.4f}" for value in found)))
    half = "Half a digit may still be that digit." if results.context.subjects == "digits" else ""
    return Table(
        title="AUROC of every score",
        caption="The chance that an out-of-distribution input is more suspicious than a test image. The combination "
        "and ODIN were fitted on synthetic outliers (no strokes among them), all others on training images alone. "
        f"Scores that the classifier does not allow are left out. {half}".rstrip(),
        header=("score", *(it.name for it in outsides)),
        rows=tuple(rows),
    )
