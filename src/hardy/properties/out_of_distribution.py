"""Out-of-distribution detection: whether inputs of another kind stand out by their score."""

from __future__ import annotations

from collections.abc import Iterator

from hardy.charts import Chart, LineChart, Series
from hardy.detection import SCORES
from hardy.metrics import prepared_aupr, prepared_auroc, prepared_fpr_at_tpr, roc_curve
from hardy.properties.error_detection import score_histogram
from hardy.properties.framework import Evidence, Plan, Planned, Property, Skipped, Statistic
from hardy.properties.predictions import MEASURES, Predictions, prediction_cell, predictions_of, test_cell

HEADLINE_SCORE = "max_softmax"


def plan_out_of_distribution(plan: Plan) -> Planned:
    skipped = [Skipped("out_of_distribution", f"{name}: {reason}") for name, reason in plan.missing.items()]
    if not plan.out_of_distribution:
        return Planned([], [*skipped, Skipped("out_of_distribution", "no out-of-distribution dataset is at hand")])
    return Planned([test_cell(plan), *(prediction_cell(plan, name) for name in plan.out_of_distribution)], skipped)


def _pairs(evidence: Evidence) -> Iterator[tuple[str, Predictions, Predictions]]:
    inside = predictions_of(evidence, test_cell(evidence.plan))
    for name in evidence.plan.out_of_distribution:
        yield name, inside, predictions_of(evidence, prediction_cell(evidence.plan, name))


def statistics(evidence: Evidence) -> list[Statistic]:
    found = []
    for name, inside, outside in _pairs(evidence):
        examples = ((evidence.plan.dataset, inside.indices), (name, outside.indices))
        for score, function in SCORES.items():
            scores = function(inside.logits), function(outside.logits)
            figures = {
                "auroc": (prepared_auroc(*scores), True),
                "aupr": (prepared_aupr(*scores), True),
                "fpr_at_95_tpr": (prepared_fpr_at_tpr(*scores), False),
            }
            found += [
                Statistic(
                    metric=metric,
                    dataset=name,
                    setting={"score": score},
                    compute=compute,
                    examples=examples,
                    higher_is_better=higher,
                    headline=metric == "auroc" and score == HEADLINE_SCORE,
                )
                for metric, (compute, higher) in figures.items()
            ]
    return found


def draw(evidence: Evidence) -> list[Chart]:
    function = SCORES[HEADLINE_SCORE]
    curves, histograms = [], []
    for name, inside, outside in _pairs(evidence):
        scores = function(inside.logits), function(outside.logits)
        roc = roc_curve(*scores)
        curves.append(Series(name, roc.false_positive_rate, roc.true_positive_rate))
        histograms.append(
            score_histogram(f"Scores: {name}", HEADLINE_SCORE, **{evidence.plan.dataset: scores[0], name: scores[1]})
        )
    roc_chart = LineChart(
        title="ROC: other inputs against test images",
        caption="Share of out-of-distribution inputs caught over share of test images refused, by max softmax.",
        x_label="test images refused",
        y_label="out-of-distribution inputs caught",
        series=tuple(curves),
        x_limits=(0.0, 1.0),
        y_limits=(0.0, 1.0),
    )
    return [roc_chart, *histograms] if curves else []


OUT_OF_DISTRIBUTION = Property(
    name="out_of_distribution",
    title="Out-of-distribution detection",
    description="Whether inputs that belong to no class can be told from test images. Positive is out of distribution: "
    "FPR at 95 % TPR is the share of test images refused when 95 % of the others are caught.",
    plan=plan_out_of_distribution,
    statistics=statistics,
    draw=draw,
    measures=MEASURES,
)
