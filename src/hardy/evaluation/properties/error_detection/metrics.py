"""The metrics of error detection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Compute, Metric, MetricKind, Results
from hardy.evaluation.predictions import predictions_of, test_measurement
from hardy.evaluation.properties.error_detection.measure import LEARNED, SCORE, error_scores
from hardy.metrics import (
    Figure,
    prepared_aupr,
    prepared_aurc,
    prepared_auroc,
    prepared_coverage_at_bounded_risk,
    prepared_coverage_at_risk,
    prepared_excess_aurc,
    prepared_fpr_at_tpr,
    prepared_risk_at_coverage,
)

COVERAGES = (0.99, 0.95, 0.9)
RISK = 0.001
CHOSEN = "its threshold is chosen on the images that it is measured on, so it says what the score could do at best"

AUROC = MetricKind("auroc", "Area under the ROC curve", higher_is_better=True, bounds=(0.0, 1.0), chance=0.5)
AUPR = MetricKind("aupr", "Area under the precision-recall curve", higher_is_better=True, bounds=(0.0, 1.0))
FPR = MetricKind.share(
    "fpr_at_95_tpr", "False positive rate at 95 % true positives", higher_is_better=False, chance=0.95
)
AURC = MetricKind("aurc", "Area under the risk-coverage curve", higher_is_better=False)
EXCESS_AURC = MetricKind("excess_aurc", "Area above the best risk-coverage curve", higher_is_better=False)
RISK_AT_COVERAGE = MetricKind.share("risk_at_coverage", "Risk at coverage", higher_is_better=False)
COVERAGE_AT_RISK = MetricKind.share("coverage_at_risk", "Coverage at risk", higher_is_better=True)
COVERAGE_AT_BOUNDED_RISK = MetricKind.share(
    "coverage_at_bounded_risk", "Coverage at a risk surely bounded", higher_is_better=True
)


def metrics(results: Results) -> list[Metric]:
    return [it for name, score in error_scores(results).items() for it in _metrics(results, name, score)]


def _metrics(results: Results, name: str, score: NDArray[np.float64]) -> list[Metric]:
    context, answers = results.context, predictions_of(results, test_measurement(results.context))
    wrong = ~answers.correct
    setting = {"score": name} | ({"fitted_on": context.validation} if name == LEARNED and context.validation else {})
    at_risk = {**setting, "risk": RISK}
    make = partial(Metric, examples=answers.examples, setting=setting)
    # One more mistake, or one more right answer, moves a rank figure by at most the share of its own kind.
    few = 1.0 / max(min(int(wrong.sum()), int((~wrong).sum())), 1)
    auroc = replace(AUROC, question="Does it spot its own mistakes?")
    aupr = replace(AUPR, chance=float(wrong.mean()))
    return [
        make(auroc, against_mistakes(prepared_auroc, score, wrong), event=few, headline=name == SCORE),
        make(aupr, against_mistakes(prepared_aupr, score, wrong), event=few),
        make(FPR, against_mistakes(prepared_fpr_at_tpr, score, wrong), event=few),
        make(AURC, prepared_aurc(score, wrong), event=1.0 / len(wrong)),
        make(EXCESS_AURC, prepared_excess_aurc(score, wrong), event=1.0 / len(wrong)),
        *(
            make(
                RISK_AT_COVERAGE,
                prepared_risk_at_coverage(score, wrong, at),
                setting={**setting, "coverage": at},
                event=1.0 / (at * len(wrong)),
            )
            for at in COVERAGES
        ),
        make(COVERAGE_AT_RISK, prepared_coverage_at_risk(score, wrong, RISK), setting=at_risk, no_interval=CHOSEN),
        make(
            COVERAGE_AT_BOUNDED_RISK,
            prepared_coverage_at_bounded_risk(score, wrong, RISK),
            setting=at_risk,
            no_interval=CHOSEN,
        ),
    ]


def against_mistakes(
    prepare: Callable[[NDArray, NDArray], Figure], score: NDArray[np.float64], wrong: NDArray[np.bool_]
) -> Compute:
    """How well a score, (N,), tells mistakes from right answers, as a function of weights in the order of examples."""
    compute = prepare(score[~wrong], score[wrong])
    # It takes the right answers' weights first, then the mistakes'.
    return lambda weights: compute(np.concatenate([weights[~wrong], weights[wrong]]))


def warnings(results: Results) -> list[str]:
    if results.context.validation is None or LEARNED in error_scores(results):
        return []
    warning = (
        f"error_detection: no score was learned; what was measured of {results.context.validation} has fewer than two "
        "mistakes, two right answers or two classes"
    )
    return [warning]
