"""The metrics of prediction sets."""

from __future__ import annotations

from functools import partial

from hardy.calibration.conformal import CONFORMAL, answers_of, coverage_band
from hardy.evaluation.framework import Metric, MetricKind, Results, mean_of, share_of
from hardy.evaluation.predictions import Predictions, predictions_of, test_measurement
from hardy.evaluation.properties.conformal.measure import CLASS_ALPHA, Sets, prediction_sets
from hardy.evaluation.validation_fits import validation_predictions

# Neither above nor below what was promised is better.
COVERAGE = MetricKind.share(
    "coverage", "Coverage", higher_is_better=None, question="Do prediction sets hold the true class?"
)
CLASS_COVERAGE = MetricKind.share("class_coverage", "Class coverage", higher_is_better=None)
MEAN_SET_SIZE = MetricKind("mean_set_size", "Mean set size", higher_is_better=False)
ANSWERED_RATE = MetricKind.share("answered_rate", "Answered rate", higher_is_better=True)
ERROR_RATE_WHEN_ANSWERED = MetricKind.share(
    "error_rate_when_answered", "Error rate when answered", higher_is_better=False
)


def metrics(results: Results) -> list[Metric]:
    if results.context.validation is None:
        return []
    answers = predictions_of(results, test_measurement(results.context))
    classes = results.dataset(results.context.dataset).classes
    return [it for sets in prediction_sets(results) for it in _metrics(results, answers, sets, classes)]


def _metrics(results: Results, answers: Predictions, sets: Sets, classes: tuple[str, ...]) -> list[Metric]:
    rule, examples, answer = sets.rule, answers.examples, answers_of(sets.members)
    setting = {"sets": rule.kind, "alpha": rule.alpha}
    share, answered = partial(share_of, setting=setting), answer >= 0
    validation = validation_predictions(results)
    fitted_on = 0 if validation is None else len(validation.labels)
    # Class by class the thresholds are many, and their coverages add up to no known distribution.
    band = None if CONFORMAL[rule.kind].by_class else coverage_band(fitted_on, len(answer), rule.alpha)
    found = [
        share(
            COVERAGE,
            sets.covered,
            examples,
            chance_band=band,
            headline=rule.kind == "lac" and rule.alpha == CLASS_ALPHA,
        ),
        mean_of(
            MEAN_SET_SIZE,
            sets.members.sum(axis=1),
            examples,
            setting=setting,
            event=sets.members.shape[1] / len(sets.members),
            top=float(sets.members.shape[1]),
        ),
        share(ANSWERED_RATE, answered, examples),
    ]
    if answered.any():
        wrong = (answer != answers.labels)[answered]
        found.append(share(ERROR_RATE_WHEN_ANSWERED, wrong, answers.at(answered).examples))
    if rule.alpha == CLASS_ALPHA:
        for label, name in enumerate(classes):
            chosen = answers.labels == label
            if chosen.any():
                of_class = {**setting, "class": name}
                found.append(share(CLASS_COVERAGE, sets.covered[chosen], answers.at(chosen).examples, setting=of_class))
    return found


def warnings(results: Results) -> list[str]:
    if results.context.validation is None:
        return []
    if validation_predictions(results) is None:
        return ["conformal: the validation images measured are all of one class; no prediction sets were fitted"]
    found, names = [], results.dataset(results.context.dataset).classes
    for sets in prediction_sets(results):
        always = [names[label] if label < len(names) else f"#{label}" for label in sets.rule.always]
        if always:
            found.append(
                f"conformal: at alpha {sets.rule.alpha:g} every {sets.rule.kind.replace('_', '-')} set holds "
                f"{', '.join(always)}: too few validation images to leave a class out"
            )
    return found
