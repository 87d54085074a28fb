"""Which classes are taken for which, and the most confident mistakes."""

from __future__ import annotations

import numpy as np
import torch

from hardy.evaluation.charts import Chart, Gallery, Matrix, Picture, class_names, picture_of
from hardy.evaluation.framework import Results
from hardy.evaluation.predictions import predictions_of, test_measurement

PICTURES = 24
PICTURES_PER_ROW = 8
MOST_CLASSES = 30
"""A confusion matrix of more cannot be read."""


def draw(results: Results) -> list[Chart]:
    dataset = results.dataset(results.context.dataset)
    answers = predictions_of(results, test_measurement(results.context))
    counts = np.zeros((len(dataset.classes), answers.logits.shape[1]), np.int64)
    np.add.at(counts, (answers.labels, answers.predicted), 1)
    names = class_names(dataset.classes, counts.shape[1])
    charts: list[Chart] = []
    if counts.shape[0] == counts.shape[1] <= MOST_CLASSES:
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
    if len(wrong) and results.context.access != "logits":
        confidence = answers.confidence
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:PICTURES]
        images = dataset.floats(torch.from_numpy(answers.indices[worst])).numpy()
        pictures = [
            Picture(
                picture_of(image),
                f"{names[answers.labels[i]]} taken for {names[answers.predicted[i]]}, {confidence[i]:.1%} sure",
                classes=(names[answers.labels[i]], names[answers.predicted[i]]),
            )
            for image, i in zip(images, worst, strict=True)
        ]
        rows = [tuple(pictures[i : i + PICTURES_PER_ROW]) for i in range(0, len(pictures), PICTURES_PER_ROW)]
        charts.append(
            Gallery(
                title="The most confident mistakes",
                caption=f"The {len(worst)} most confident of {len(wrong)} mistakes. Some labels are themselves wrong.",
                columns=(),
                rows=tuple(rows),
            )
        )
    return charts
