"""Accuracy: overall, by class, and what is taken for what."""

from __future__ import annotations

import numpy as np

from hardy.data import Dataset
from hardy.evaluation.charts import Chart, Gallery, Matrix, Picture
from hardy.evaluation.framework import EvaluationContext, Metric, Plan, Property, Results
from hardy.evaluation.predictions import MEASUREMENT_FUNCTIONS, Predictions, predictions_of, test_measurement

PICTURES = 24
PICTURES_A_ROW = 8


def plan_accuracy(context: EvaluationContext) -> Plan:
    return Plan([test_measurement(context)])


def metrics(results: Results) -> list[Metric]:
    measurement = test_measurement(results.context)
    answers = predictions_of(results, measurement)
    names = results.dataset(measurement.dataset).classes
    overall = _share(measurement.dataset, answers, np.ones(len(answers.labels), bool), metric="accuracy", headline=True)
    by_class = [
        _share(measurement.dataset, answers, answers.labels == number, metric="class_accuracy", name=name)
        for number, name in enumerate(names)
        if (answers.labels == number).any()
    ]
    return [overall, *by_class]


def _share(
    dataset: str, answers: Predictions, chosen: np.ndarray, *, metric: str, name: str = "", headline: bool = False
) -> Metric:
    correct = answers.correct[chosen]
    return Metric(
        metric=metric,
        dataset=dataset,
        setting={"class": name} if name else {},
        compute=lambda weights: float(np.average(correct, weights=weights)),
        examples=((dataset, answers.indices[chosen]),),
        successes=correct,
        higher_is_better=True,
        headline=headline,
    )


def draw(results: Results) -> list[Chart]:
    measurement = test_measurement(results.context)
    dataset = results.dataset(measurement.dataset)
    answers = predictions_of(results, measurement)
    counts = np.zeros((len(dataset.classes), answers.logits.shape[1]), np.int64)
    np.add.at(counts, (answers.labels, answers.predicted), 1)
    names = class_names(dataset, counts.shape[1])
    charts: list[Chart] = []
    if counts.shape[0] == counts.shape[1] <= 30:
        charts.append(
            Matrix(
                title="Confusion matrix",
                caption=f"What each of the {len(answers.labels):,} images was taken for.",
                row_label="true class",
                column_label="predicted class",
                names=names,
                counts=counts,
            )
        )
    wrong = np.flatnonzero(~answers.correct)
    if len(wrong):
        confidence = answers.confidence
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:PICTURES]
        pictures = [
            Picture(
                image=picture_of(
                    dataset.floats(slice(int(answers.indices[i]), int(answers.indices[i]) + 1))[0].numpy()
                ),
                caption=f"{names[answers.labels[i]]} taken for {names[answers.predicted[i]]}, {confidence[i]:.1%} sure",
                classes=(names[answers.labels[i]], names[answers.predicted[i]]),
            )
            for i in worst
        ]
        rows = [tuple(pictures[i : i + PICTURES_A_ROW]) for i in range(0, len(pictures), PICTURES_A_ROW)]
        charts.append(
            Gallery(
                title="The most confident mistakes",
                caption=f"The surest {len(worst)} of {len(wrong)} mistakes. Some labels are wrong themselves.",
                columns=(),
                rows=tuple(rows),
            )
        )
    return charts


def class_names(dataset: Dataset, classes: int) -> tuple[str, ...]:
    """What a classifier's classes are called; those that the dataset does not have are numbered."""
    return (*dataset.classes, *(f"#{number}" for number in range(len(dataset.classes), classes)))


def picture_of(image: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W) or (H, W, 3)."""
    return image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)


ACCURACY = Property(
    name="accuracy",
    title="Accuracy",
    description="The share of test images whose most probable class is the true one.",
    plan=plan_accuracy,
    metrics=metrics,
    draw=draw,
    functions=MEASUREMENT_FUNCTIONS,
)
