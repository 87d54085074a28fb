"""The pictures of distribution shift."""

from __future__ import annotations

import numpy as np
import torch

from hardy.corruptions import CORRUPTIONS, Corruption, corrupt_with
from hardy.evaluation.charts import Chart, Gallery, LineChart, Picture, Series, Table, picture_of, plain
from hardy.evaluation.framework import Results
from hardy.evaluation.predictions import Predictions, predictions_of, test_measurement
from hardy.evaluation.properties.shift.measure import Condition, conditions
from hardy.metrics import auroc, ece, wilson
from hardy.ood import SCORES
from hardy.rng import Randomness


def draw(results: Results) -> list[Chart]:
    measured = conditions(results.context)
    at_default = [it for it in measured if it.severity == CORRUPTIONS[it.corruption].default]
    charts: list[Chart] = [_bars(results, at_default), _table(results, at_default)] if at_default else []
    if len(measured) > len(at_default):
        charts += [_curves(results, measured, published=published) for published in (True, False)]
    return [*charts, *_sheets(results)]


def _bars(results: Results, shown: list[Condition]) -> LineChart:
    answers = [predictions_of(results, it.measurement) for it in shown]
    places = np.arange(len(shown), dtype=np.float64)
    bands = np.array([wilson(int(each.correct.sum()), len(each.correct)) for each in answers])
    clean = predictions_of(results, test_measurement(results.context)).correct.mean()
    return LineChart(
        title="Accuracy under each corruption",
        caption=f"At its default severity, with its 95 % interval; the line is the accuracy without any, {clean:.2%}. "
        "Those of MNIST-C come first, then those that its authors left out.",
        x_label="",
        y_label="accuracy",
        series=(
            Series("accuracy", places, np.array([each.correct.mean() for each in answers]), *bands.T, style="bars"),
            Series("without corruption", places, np.full(len(places), clean), style="reference"),
        ),
        y_limits=(0.0, 1.0),
        x_names=tuple(plain(it.corruption) for it in shown),
    )


def _table(results: Results, shown: list[Condition]) -> Table:
    rows = [
        (
            f"{plain(it.corruption)} {it.severity}",
            it.measurement.dataset,
            *_figures(predictions_of(results, it.measurement)),
        )
        for it in shown
    ]
    return Table(
        title="Under each corruption",
        caption="At its default severity; error detection is the area under the ROC curve of max softmax for the "
        "classifier's own mistakes.",
        header=("corruption", "images", "accuracy", "calibration error", "error detection"),
        rows=(
            ("none", results.context.dataset, *_figures(predictions_of(results, test_measurement(results.context)))),
            *rows,
        ),
    )


def _figures(answers: Predictions) -> tuple[str, str, str]:
    score, right = SCORES["max_softmax"](answers.logits), answers.correct
    found = auroc(score[right], score[~right])
    detection = "–" if np.isnan(found) else f"{found:.3f}"
    return f"{right.mean():.2%}", f"{ece(answers.confidence, right):.2%}", detection


def _curves(results: Results, measured: list[Condition], *, published: bool) -> LineChart:
    names = [
        name
        for name, it in CORRUPTIONS.items()
        if it.published == published and len(it.severities) > 1 and any(each.corruption == name for each in measured)
    ]
    clean = predictions_of(results, test_measurement(results.context)).correct.mean()
    series = []
    for name in names:
        found = [predictions_of(results, it.measurement).correct for it in measured if it.corruption == name]
        bands = np.array([wilson(int(right.sum()), len(right)) for right in found])
        y = np.array([clean, *(right.mean() for right in found)])
        low, high = (np.array([clean, *bound]) for bound in bands.T)
        series.append(Series(plain(name), np.arange(len(y), dtype=np.float64), y, low, high))
    return LineChart(
        title=f"Accuracy over the severity, {'MNIST-C' if published else 'held-out families'}",
        caption="0 is the image as it is; each with its 95 % interval.",
        x_label="severity",
        y_label="accuracy",
        series=tuple(series),
        y_limits=(0.0, 1.0),
    )


def _sheets(results: Results) -> list[Chart]:
    """One test image under every corruption that is defined for it, at every severity."""
    dataset = results.dataset(results.context.dataset)
    index = dataset.measuring_order()[:1]
    image, rng = dataset.floats(index), Randomness(results.seed, index)
    defined = [it for it in CORRUPTIONS.values() if not it.reason_undefined(tuple(image.shape[1:]))]
    most = max(len(it.severities) for it in CORRUPTIONS.values())
    rows = [_pictures(it, image, rng) for it in defined if len(it.severities) == most]
    single = tuple(picture for it in defined if len(it.severities) == 1 for picture in _pictures(it, image, rng))
    original = Picture(picture_of(image[0].numpy()), "as it is")
    sheets: list[Chart] = [
        Gallery(
            title="Corruptions without severities",
            caption="One test image, and what each corruption that has one strength only makes of it.",
            columns=(),
            rows=((original, *single),),
        )
    ]
    if rows:
        sheets.append(
            Gallery(
                title="Corruptions at every severity",
                caption="The same image. A star marks the default severity, which for MNIST-C is the published one.",
                columns=tuple(f"severity {number}" for number in range(1, most + 1)),
                rows=tuple(rows),
            )
        )
    return sheets


def _pictures(corruption: Corruption, image: torch.Tensor, rng: Randomness) -> tuple[Picture, ...]:
    several = len(corruption.severities) > 1
    return tuple(
        Picture(
            picture_of(corrupt_with(image, corruption.name, severity, rng)[0].numpy()),
            plain(corruption.name) + " *" * (several and severity == corruption.default),
        )
        for severity in corruption.severities
    )
