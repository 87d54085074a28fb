"""The AUROC of every score, and how one of them tells other inputs from test images."""

from __future__ import annotations

from hardy.evaluation.charts import Chart, Table, plain
from hardy.evaluation.framework import Results
from hardy.evaluation.properties.error_detection.charts import roc_chart, score_histogram
from hardy.evaluation.properties.ood.measure import (
    headline_score,
    inside_measurement,
    outside_measurements,
    scores_of,
)
from hardy.metrics import auroc


def draw(results: Results) -> list[Chart]:
    score, test = headline_score(results), results.context.dataset
    negative = results.column(inside_measurement(results.context), score)
    scores = {
        outside.name: (negative, results.column(outside.measurement, score))
        for outside in outside_measurements(results.context)
        if not outside.setting
    }
    if not scores:
        return [_table(results)]
    caption = f"Share of out-of-distribution inputs caught over share of test images refused, by {plain(score)}."
    title, inputs = "ROC: other inputs against test images", "out-of-distribution inputs"
    histograms = [
        score_histogram(f"Scores: {name}", score, **{test: inside, name: outside})
        for name, (inside, outside) in scores.items()
    ]
    return [_table(results), roc_chart(title, caption, "test images", inputs, scores), *histograms]


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
        caption="The chance that an out-of-distribution input is more suspicious than a test image. The discriminator, "
        "the combination and ODIN were fitted on synthetic outliers (no strokes among them), all others on training "
        f"images alone. Scores that the classifier does not allow are left out. {half}".rstrip(),
        header=("score", *(it.name for it in outsides)),
        rows=tuple(rows),
    )
