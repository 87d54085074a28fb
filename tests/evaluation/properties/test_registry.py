"""Properties of one's own are measured like hardy's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.classifiers import small_classifier
from helpers.evaluations import measure
from torch import nn

from hardy.errors import UsageError
from hardy.evaluation.framework import (
    Columns,
    EvaluationContext,
    Measurement,
    Metric,
    MetricKind,
    Plan,
    Results,
    Shard,
    mean_of,
)
from hardy.evaluation.predictions import prediction_measurement, predictions_of
from hardy.evaluation.properties import PROPERTIES, measurement_functions, register_property

BRIGHTNESS = MetricKind("brightness", "Mean brightness", higher_is_better=None, bounds=(0.0, 1.0))
CONFIDENCE = MetricKind.share("mean_confidence", "Mean confidence", higher_is_better=None)


def measure_brightness(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    return {"brightness": shard.images.mean((1, 2, 3)).cpu().numpy()}


def measurement_of(context: EvaluationContext) -> Measurement:
    return Measurement.of("measure brightness", context.dataset, context.examples(context.dataset, 30))


@pytest.fixture
def registered() -> Iterator[None]:
    @register_property(
        "brightness",
        "Brightness",
        "How bright the test images are.",
        plan=lambda context: Plan([measurement_of(context)]),
        functions={"measure brightness": measure_brightness},
    )
    def metrics(results: Results) -> list[Metric]:
        measurement = measurement_of(results.context)
        return [mean_of(BRIGHTNESS, results.column(measurement, "brightness"), results.examples(measurement))]

    @register_property("confidence", "Confidence", "How sure the answers are.")
    def confidence(results: Results) -> list[Metric]:
        answers = predictions_of(results, prediction_measurement(results.context, results.context.dataset))
        return [mean_of(CONFIDENCE, answers.confidence, answers.examples)]

    assert callable(metrics)
    assert callable(confidence)
    yield
    PROPERTIES.remove("brightness")
    PROPERTIES.remove("confidence")


def test_names_are_near_or_told() -> None:
    with pytest.raises(UsageError, match="unknown property 'calibratoin'; did you mean calibration"):
        PROPERTIES.find("calibratoin")


@pytest.mark.usefixtures("registered")
def test_a_property_of_ones_own_is_measured(tmp_path: Path) -> None:
    card = measure(tmp_path / "run", classifier=small_classifier(), properties=["confidence", "brightness"], limit=20)
    assert card.properties == ["brightness", "confidence"]
    brightness, confidence = card.estimates
    assert (brightness.metric, brightness.n, brightness.title) == ("brightness", 20, "Mean brightness")
    low, high = brightness.interval() or (0.0, 0.0)
    assert 0.05 < low < brightness.value < high < 0.3
    assert (confidence.metric, confidence.unit) == ("mean_confidence", "share")


@pytest.mark.usefixtures("registered")
def test_taken_names_are_refused() -> None:
    with pytest.raises(UsageError, match="there is a property 'accuracy' already"):
        register_property("accuracy", "Accuracy", "Again.")(lambda _: [])
    with pytest.raises(UsageError, match="there is a measurement function 'measure brightness' already"):
        register_property("other", "Other", "Another.", functions={"measure brightness": lambda *_, **__: {}})
    assert "other" not in PROPERTIES


def test_without_the_property_its_functions_are_gone() -> None:
    assert "measure brightness" not in measurement_functions()
    assert np.isin(["predict", "attack", "detect"], list(measurement_functions())).all()
