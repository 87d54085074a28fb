"""Prediction sets: whether they hold the true class as often as promised, and how small they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.charts import Chart, LineChart, Series
from hardy.conformal import CONFORMAL, Conformal, answers_of, fit_conformal
from hardy.metrics import weighted_mean, wilson
from hardy.properties.framework import Evidence, Plan, Planned, Property, Statistic
from hardy.properties.held_out import held_out_predictions, nothing_held_out
from hardy.properties.predictions import MEASURES, Predictions, prediction_cell, predictions_of, test_cell
from hardy.randomness import Randomness

ALPHAS = (0.1, 0.05, 0.01)
CLASS_ALPHA = 0.05
"""At which coverage is given class by class."""


class Sets(NamedTuple):
    """Prediction sets for the test split: the rule, and bool (N, K)."""

    rule: Conformal
    held: NDArray[np.bool_]


def plan_conformal(plan: Plan) -> Planned:
    if plan.held_out is None:
        return Planned([], nothing_held_out("conformal", "prediction sets", plan))
    return Planned([test_cell(plan), prediction_cell(plan, plan.held_out)])


def _sets(evidence: Evidence) -> Iterator[Sets]:
    """Every kind at every alpha; none where nothing can be fitted."""
    held_out = held_out_predictions(evidence)
    if held_out is None:
        return
    answers = predictions_of(evidence, test_cell(evidence.plan))
    for kind in CONFORMAL:
        for alpha in ALPHAS:
            rule = fit_conformal(
                kind,
                np.exp(held_out.log_probabilities),
                held_out.labels,
                alpha,
                _rng(evidence, str(evidence.plan.held_out), held_out),
            )
            yield Sets(
                rule,
                rule.sets(np.exp(answers.log_probabilities), _rng(evidence, evidence.plan.dataset, answers)),
            )


def _rng(evidence: Evidence, dataset: str, answers: Predictions) -> Randomness:
    return Randomness(evidence.seed, torch.tensor(answers.indices), ("conformal", dataset))


def statistics(evidence: Evidence) -> list[Statistic]:
    plan = evidence.plan
    if plan.held_out is None:
        return []
    answers = predictions_of(evidence, test_cell(plan))
    return [it for sets in _sets(evidence) for it in _figures(evidence, answers, sets)]


def _figures(evidence: Evidence, answers: Predictions, sets: Sets) -> list[Statistic]:
    dataset, setting = evidence.plan.dataset, {"sets": sets.rule.kind, "alpha": sets.rule.alpha}
    covered = _covered(sets, answers)
    size = sets.held.sum(axis=1)
    answer = answers_of(sets.held)
    answered, wrong = answer >= 0, answer != answers.labels

    def share(metric: str, flags: NDArray[np.bool_], rows: NDArray, *, higher: bool | None, **more: str) -> Statistic:
        flags = flags[rows]
        return Statistic(
            metric=metric,
            dataset=dataset,
            setting={**setting, **more},
            compute=lambda weights: weighted_mean(flags, weights=weights),
            examples=((dataset, answers.indices[rows]),),
            successes=flags,
            higher_is_better=higher,
            headline=metric == "coverage" and sets.rule.kind == "lac",
        )

    everything = np.arange(len(covered))
    found = [
        # Neither above nor below what was promised is better.
        share("coverage", covered, everything, higher=None),
        Statistic(
            metric="mean_set_size",
            dataset=dataset,
            setting=setting,
            compute=lambda weights: weighted_mean(size, weights=weights),
            examples=((dataset, answers.indices),),
            higher_is_better=False,
        ),
        share("answered_rate", answered, everything, higher=True),
    ]
    if answered.any():
        found.append(share("error_rate_when_answered", wrong, np.flatnonzero(answered), higher=False))
    if sets.rule.alpha == CLASS_ALPHA:
        names = evidence.dataset(dataset).classes
        found += [
            share("class_coverage", covered, np.flatnonzero(answers.labels == label), higher=None, **{"class": name})
            for label, name in enumerate(names)
            if (answers.labels == label).any()
        ]
    return found


def _covered(sets: Sets, answers: Predictions) -> NDArray[np.bool_]:
    return sets.held[np.arange(len(answers.labels)), answers.labels]


def warnings(evidence: Evidence) -> list[str]:
    if evidence.plan.held_out is None:
        return []
    found, names = [], evidence.dataset(evidence.plan.dataset).classes
    for sets in _sets(evidence):
        always = [names[label] if label < len(names) else f"#{label}" for label in sets.rule.always]
        if always:
            found.append(
                f"conformal: at alpha {sets.rule.alpha:g} every {sets.rule.kind.replace('_', '-')} set holds "
                f"{', '.join(always)}: too few held-out images to leave a class out"
            )
    return found


def draw(evidence: Evidence) -> list[Chart]:
    if evidence.plan.held_out is None:
        return []
    answers = predictions_of(evidence, test_cell(evidence.plan))
    all_sets = list(_sets(evidence))
    if not all_sets:
        return []
    promised = np.array([1.0 - alpha for alpha in ALPHAS])
    coverage, by_class = [], []
    for kind in CONFORMAL:
        shares = []
        for sets in all_sets:
            if sets.rule.kind == kind:
                covered = _covered(sets, answers)
                shares.append((covered.mean(), *wilson(int(covered.sum()), len(covered))))
                if sets.rule.alpha == CLASS_ALPHA:
                    labels = np.unique(answers.labels)
                    means = np.array([covered[answers.labels == label].mean() for label in labels])
                    by_class.append(Series(_words(kind), labels.astype(float), means, style="bars"))
        share, low, high = np.array(shares).T
        coverage.append(Series(_words(kind), promised, share, low, high, style="points"))
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
            series=tuple(by_class),
        ),
    ]


def _words(kind: str) -> str:
    return kind.replace("_", " ")


CONFORMAL_SETS = Property(
    name="conformal",
    title="Prediction sets",
    description="Whether sets of classes, fitted on held-out images, hold the true class as often as promised, "
    "1 - alpha of the time at least. A set of one class is an answer; of none or several, the rule is to abstain.",
    plan=plan_conformal,
    statistics=statistics,
    draw=draw,
    measures=MEASURES,
    warnings=warnings,
)
