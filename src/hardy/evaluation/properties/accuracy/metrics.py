"""The metrics of accuracy."""

from __future__ import annotations

from dataclasses import replace

from hardy.evaluation.framework import EvaluationContext, Metric, MetricKind, Results, share_of
from hardy.evaluation.predictions import predictions_of, test_measurement

CLASS_ACCURACY = MetricKind.share("class_accuracy", "Accuracy on one class", higher_is_better=True)


def accuracy_kind(context: EvaluationContext, question: str = "") -> MetricKind:
    """Accuracy over so many classes as the classifier knows."""
    chance = 1 / context.classes
    return MetricKind.share("accuracy", "Accuracy", higher_is_better=True, chance=chance, question=question)


def metrics(results: Results) -> list[Metric]:
    context = results.context
    answers = predictions_of(results, test_measurement(context))
    kind = accuracy_kind(context, f"Are {context.subjects} recognized?")
    by_class = replace(CLASS_ACCURACY, chance=kind.chance)
    found = [share_of(kind, answers.correct, answers.examples, headline=True)]
    for label, name in enumerate(results.dataset(context.dataset).classes):
        own = answers.at(answers.labels == label)
        if len(own.labels):
            found.append(share_of(by_class, own.correct, own.examples, setting={"class": name}))
    return found
