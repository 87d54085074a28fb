"""Error detection: whether the classifier's own mistakes stand out by their score."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.charts import Chart, Histogram, LineChart, Series
from hardy.evaluation.framework import EvaluationContext, Metric, Plan, Property, Results, Skipped
from hardy.evaluation.predictions import (
    MEASUREMENT_FUNCTIONS,
    Predictions,
    member_logits_of,
    members_measurement,
    predictions_of,
    test_measurement,
)
from hardy.evaluation.validation_fits import no_validation_split, validation_measurements, validation_predictions
from hardy.metrics import (
    prepared_aupr,
    prepared_aurc,
    prepared_auroc,
    prepared_coverage_at_bounded_risk,
    prepared_coverage_at_risk,
    prepared_excess_aurc,
    prepared_fpr_at_tpr,
    prepared_risk_at_coverage,
    risk_coverage,
    roc_curve,
)
from hardy.ood import SCORES
from hardy.ood.learned_score import fit_learned_score, mistake_features
from hardy.ood.member_scores import MEMBER_SCORES

SCORE = "max_softmax"
LOGIT_SCORES = (SCORE, "margin", "entropy", "energy")
LEARNED = "learned"
COVERAGES = (0.99, 0.95, 0.9)
RISK = 0.001
POINTS = 400

Scores = dict[str, NDArray[np.float64]]


def plan_error_detection(context: EvaluationContext) -> Plan:
    skipped = no_validation_split("error_detection", "the learned score", context)
    measurements = [test_measurement(context), *validation_measurements(context)]
    if context.members:
        measurements.append(members_measurement(context, context.dataset))
    else:
        skipped.append(Skipped("error_detection", "disagreement and mutual information: the classifier is no ensemble"))
    return Plan(measurements, skipped)


def error_scores(results: Results) -> tuple[Predictions, Scores]:
    """The predictions on the test split, and how suspicious each is by each score."""
    context = results.context
    answers = predictions_of(results, test_measurement(context))
    members = member_logits_of(results, context.dataset) if context.members else None
    # The logits of an ensemble are log probabilities, whose energy is always 0: it takes the mean of its members'.
    size = answers.logits if members is None else members.mean(axis=0)
    found = {name: SCORES[name](size if name == "energy" else answers.logits) for name in LOGIT_SCORES}
    if members is not None:
        found |= {name: score(members) for name, score in MEMBER_SCORES.items()}
    validation = validation_predictions(results)
    # With fewer than two mistakes, or right answers, there is nothing to learn.
    if (
        validation is not None
        and context.validation is not None
        and 2 <= validation.correct.sum() <= len(validation.correct) - 2
    ):
        members_there = member_logits_of(results, context.validation) if context.members else None
        learned = fit_learned_score(mistake_features(validation.logits, members_there), ~validation.correct)
        found[LEARNED] = learned(mistake_features(answers.logits, members))
    return answers, found


def metrics(results: Results) -> list[Metric]:
    answers, scores = error_scores(results)
    return [statistic for name in scores for statistic in _figures(results, answers, name, scores[name])]


def _figures(results: Results, answers: Predictions, name: str, score: NDArray[np.float64]) -> list[Metric]:
    context, wrong = results.context, ~answers.correct
    seen = {"fitted_on": context.validation} if name == LEARNED and context.validation is not None else {}
    setting = {"score": name, **seen}
    make = partial(Metric, dataset=context.dataset, examples=((context.dataset, answers.indices),))
    right_and_wrong = score[~wrong], score[wrong]
    two_samples = {
        "auroc": (prepared_auroc(*right_and_wrong), True),
        "aupr": (prepared_aupr(*right_and_wrong), True),
        "fpr_at_95_tpr": (prepared_fpr_at_tpr(*right_and_wrong), False),
    }
    return [
        *[
            make(
                metric=metric,
                setting=setting,
                # The metric takes the right answers' weights first, then the wrong ones'.
                compute=lambda weights, figure=figure: figure(np.concatenate([weights[~wrong], weights[wrong]])),
                higher_is_better=higher,
                headline=metric == "auroc" and name == SCORE,
            )
            for metric, (figure, higher) in two_samples.items()
        ],
        make(metric="aurc", setting=setting, compute=prepared_aurc(score, wrong), higher_is_better=False),
        make(metric="excess_aurc", setting=setting, compute=prepared_excess_aurc(score, wrong), higher_is_better=False),
        *[
            make(
                metric="risk_at_coverage",
                setting={**setting, "coverage": coverage},
                compute=prepared_risk_at_coverage(score, wrong, coverage),
                higher_is_better=False,
            )
            for coverage in COVERAGES
        ],
        *[
            make(
                metric=metric,
                setting={**setting, "risk": RISK},
                compute=prepare(score, wrong, RISK),
                higher_is_better=True,
            )
            for metric, prepare in (
                ("coverage_at_risk", prepared_coverage_at_risk),
                ("coverage_at_bounded_risk", prepared_coverage_at_bounded_risk),
            )
        ],
    ]


def warnings(results: Results) -> list[str]:
    if results.context.validation is None or LEARNED in error_scores(results)[1]:
        return []
    warning = (
        f"error_detection: no score was learned; what was measured of {results.context.validation} has fewer than two "
        "mistakes, two right answers or two classes"
    )
    return [warning]


def draw(results: Results) -> list[Chart]:
    answers, scores = error_scores(results)
    wrong = ~answers.correct
    curves = {name: risk_coverage(score, wrong) for name, score in scores.items()}
    best = risk_coverage(wrong.astype(float), wrong)
    charts: list[Chart] = [
        LineChart(
            title="Risk and coverage",
            caption="Share of mistakes among the answers given, when only the surest are answered.",
            x_label="share of images answered",
            y_label="share of mistakes",
            series=(
                *(Series(_words(name), *_thinned(curve.coverage, curve.risk)) for name, curve in curves.items()),
                Series("best possible", *_thinned(best.coverage, best.risk), style="reference"),
            ),
            x_limits=(0.0, 1.0),
        )
    ]
    if wrong.any() and not wrong.all():
        rocs = {name: roc_curve(score[~wrong], score[wrong]) for name, score in scores.items()}
        charts.append(
            LineChart(
                title="ROC: mistakes against right answers",
                caption="Share of mistakes caught over share of right answers refused, at every threshold.",
                x_label="right answers refused",
                y_label="mistakes caught",
                series=tuple(
                    Series(_words(name), roc.false_positive_rate, roc.true_positive_rate) for name, roc in rocs.items()
                ),
                x_limits=(0.0, 1.0),
                y_limits=(0.0, 1.0),
            )
        )
        score = scores[SCORE]
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
        x_label=f"suspicion ({_words(name)})",
        edges=edges,
        shares={key: np.histogram(values, edges)[0] / len(values) for key, values in scores.items()},
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return x[kept], y[kept]


ERROR_DETECTION = Property(
    name="error_detection",
    title="Error detection",
    description="Whether the classifier's mistakes can be told from its right answers by how unsure it is.",
    plan=plan_error_detection,
    metrics=metrics,
    draw=draw,
    functions=MEASUREMENT_FUNCTIONS,
    warnings=warnings,
)
