"""The study's figures: an adversarial example, and confidence against accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import log_softmax, softmax

from hardy.calibration import fit_calibrator
from hardy.evaluation.charts import Chart, Gallery, Picture, picture_of
from hardy.evaluation.predictions import predictions_of
from hardy.evaluation.properties.calibration.charts import before_and_after
from hardy.studies.framework import Measured
from hardy.studies.mlss.measured import EXAMPLE_ATTACK, EXAMPLE_THREAT, EXAMPLES

_SHOWN, _BARS = ("ensemble", "cnn"), ("ensemble", "cnn")


def example_gallery(arms: Mapping[str, Measured]) -> Gallery | None:
    """Figure 1: an image, the attack's change and the sum, with what the network answers; None where none was found."""
    rows = [row for name in _SHOWN if name in arms and (row := _example(name, arms[name])) is not None]
    norm, eps = EXAMPLE_THREAT
    if not rows:
        return None
    return Gallery(
        "Figure 1",
        f"An adversarial example of {EXAMPLE_ATTACK} ({norm}, eps {eps:g}), as in the study: the image, what the "
        f"attack changes, and the sum, clipped to pixels from 0 to 1. The first of {EXAMPLES} test images that is "
        "fooled; beneath, the answer and its confidence.",
        ("image", "change", "adversarial image"),
        tuple(rows),
    )


def _example(name: str, arm: Measured) -> tuple[Picture, ...] | None:
    found = [it for it in arm.results.records if it.function == "mlss_example"]
    if not found:
        return None
    (measurement,) = found
    results = arm.results
    source = results.dataset(measurement.dataset)
    records = results.records[measurement]
    labels = records["label"].to_numpy()
    clean, attacked = (results.column(measurement, column) for column in ("clean", "attacked"))
    fooled = np.flatnonzero((clean.argmax(1) == labels) & (attacked.argmax(1) != labels))
    if not len(fooled):
        return None
    place = fooled[0]
    index = int(records["index"][int(place)])
    image = source.floats(slice(index, index + 1)).numpy()[0]
    adversarial = results.column(measurement, "adversarial")[place].reshape(image.shape)

    def answer(logits: np.ndarray) -> str:
        probabilities = softmax(logits.astype(np.float64))
        return f"{name}: {source.classes[int(probabilities.argmax())]}, {probabilities.max():.0%}"

    return (
        Picture(picture_of(image), answer(clean[place])),
        Picture(picture_of(adversarial - image), "", signed=True),
        Picture(picture_of(adversarial), answer(attacked[place])),
    )


def confidence_bars(arms: Mapping[str, Measured]) -> list[Chart]:
    """Accuracy by bins of confidence, before and after temperature."""
    charts: list[Chart] = []
    for name in _BARS:
        measured = (
            {it.dataset: it for it in arms[name].results.records if it.function == "predict"} if name in arms else {}
        )
        context = arms[name].results.context if name in arms else None
        if context is None or context.validation not in measured:
            continue
        results = arms[name].results
        clean, validation = (predictions_of(results, measured[it]) for it in (context.dataset, context.validation))
        temperature = fit_calibrator("temperature", validation.logits, validation.labels)
        answers = {
            "as it is": np.exp(log_softmax(clean.logits.astype(np.float64), axis=1)),
            "with temperature": temperature(clean.logits),
        }
        shown = {way: (it.max(axis=1), it.argmax(axis=1) == clean.labels) for way, it in answers.items()}
        charts += before_and_after(shown, f" of {name}")[1:]
    return charts
