"""Records made by hand, whose figures are known, and how to find those figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from hardy.data import Dataset
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import Chart
from hardy.evaluation.framework import EvaluationContext, Measurement, Metric, Property, Results
from hardy.evaluation.predictions import members_measurement, prediction_measurement
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.calibration.measure import attacked_measurement
from hardy.evaluation.records import frame
from hardy.ood import SCORES
from hardy.rng import host_generator

INSIDE, OUTSIDE, VALIDATION = "toy/test", "other/test", "toy/validation"


def images_of(count: int) -> torch.Tensor:
    return torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2)


def results_of(
    logits: NDArray,
    labels: NDArray,
    outside: NDArray | None = None,
    *,
    classes: int = 3,
    validation: tuple[NDArray, NDArray] | None = None,
    members: tuple[NDArray, NDArray] | None = None,
    more: dict[Measurement, pl.DataFrame] | None = None,
    seed: int = 0,
) -> Results:
    """Records of predictions on a toy dataset, in an order of its indices that is not the order of the rows.

    ``validation`` are logits and labels there; ``members`` the members' logits, (M, N, K), on both.
    """
    count, places = len(labels), np.arange(len(labels))
    context = EvaluationContext(
        dataset=INSIDE,
        validation=None if validation is None else VALIDATION,
        out_of_distribution=() if outside is None else (OUTSIDE,),
        missing={},
        sizes={INSIDE: count}
        | ({} if outside is None else {OUTSIDE: len(outside)})
        | ({} if validation is None else {VALIDATION: len(validation[1])}),
        classes=logits.shape[1],
        budget=BUDGETS["full"],
        members=0 if members is None else len(members[0]),
    )
    names = tuple("abcdefgh"[:classes])
    sets = {INSIDE: Dataset(INSIDE, images_of(count), torch.from_numpy(labels), names)}
    records = {prediction_measurement(context, INSIDE): frame(places, labels, {"logits": logits.astype(np.float32)})}
    attacked = attacked_measurement(context)
    records[attacked] = records[prediction_measurement(context, INSIDE)].head(attacked.examples)
    if outside is not None:
        unlabeled = np.full(len(outside), -1)
        sets[OUTSIDE] = Dataset(OUTSIDE, images_of(len(outside)), torch.from_numpy(unlabeled), names)
        for found in _detect_measurements(context):
            answers, truth = (outside, unlabeled) if found.dataset == OUTSIDE else (logits, labels)
            scores = {name: score(answers) for name, score in SCORES.items()}
            rows = np.arange(len(truth))
            columns = {"logits": answers.astype(np.float32)} | scores
            records[found] = frame(rows, truth, columns)
    if validation is not None:
        there, truth = validation
        images = torch.rand(len(truth), 1, 2, 2, generator=torch.Generator().manual_seed(0))
        sets[VALIDATION] = Dataset(VALIDATION, images, torch.from_numpy(truth), names)
        records[prediction_measurement(context, VALIDATION)] = frame(
            np.arange(len(truth)), truth, {"logits": there.astype(np.float32)}
        )
    for name, answers in zip((INSIDE, VALIDATION), members or (), strict=False):
        columns = {"logits": answers.transpose(1, 0, 2).reshape(answers.shape[1], -1).astype(np.float32)}
        records[members_measurement(context, name)] = frame(
            np.arange(answers.shape[1]), sets[name].labels.numpy(), columns
        )
    return Results(context, records | (more or {}), sets.__getitem__, seed)


def _detect_measurements(context: EvaluationContext) -> Sequence[Measurement]:
    return PROPERTIES["out_of_distribution"].plan(context).measurements


def random_results(count: int = 300, seed: int = 0) -> tuple[Results, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    logits = (2.0 * rng.normal(size=(count, 3)) + 2.0 * np.eye(3)[labels]).astype(np.float32)
    return results_of(logits, labels, rng.normal(size=(80, 3))), logits, labels


def answers(n: int, *purpose: str, temperature: float = 2.0) -> tuple[NDArray, NDArray]:
    """Logits of three classes that are ``temperature`` times too large, and labels."""
    rng = host_generator(0, *purpose)
    logits = 2.0 * temperature * rng.normal(size=(n, 3))
    truth = softmax(logits / temperature).cumsum(axis=1)
    return logits, (truth < rng.random((n, 1))).sum(axis=1).clip(max=2)


def calibratable_results(n: int = 900, *, temperature: float = 2.0, **more: object) -> Results:
    logits, labels = answers(n, "test", temperature=temperature)
    validation = answers(1500, "held out", temperature=temperature)
    return results_of(logits, labels, validation=validation, **more)  # type: ignore[arg-type]


def ensemble_results() -> Results:
    members = []
    for name, n in (("test", 400), ("held out", 600)):
        logits, labels = answers(n, name)
        noise = 2.0 * host_generator(1, name).normal(size=(3, n, 3))
        members.append((logits + noise, labels))
    means = [np.asarray(logsumexp(log_softmax(given, axis=2), axis=0)) - math.log(3) for given, _ in members]
    return results_of(
        means[0], members[0][1], validation=(means[1], members[1][1]), members=(members[0][0], members[1][0])
    )


def values_of(prop: Property, results: Results) -> dict[tuple, float]:
    return {(metric.kind.name, *sorted(metric.setting.items())): value(metric) for metric in prop.metrics(results)}


def found(prop: str, results: Results, name: str, **setting: object) -> Metric:
    """The metric with these settings; of several that with the fewest besides, which must be one."""
    candidates = [
        metric
        for metric in PROPERTIES[prop].metrics(results)
        if metric.kind.name == name and setting.items() <= dict(metric.setting).items()
    ]
    fewest = min(len(metric.setting) for metric in candidates)
    (metric,) = [metric for metric in candidates if len(metric.setting) == fewest]
    return metric


def value(metric: Metric) -> float:
    return metric.compute(np.ones(metric.n))


def chart(charts: Sequence[Chart], title: str) -> Chart:
    (one,) = [candidate for candidate in charts if candidate.title.startswith(title)]
    return one


def softmax(logits: NDArray) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(axis=1, keepdims=True)


def certain(labels: NDArray, classes: int = 3, size: float = 5.0) -> NDArray[np.float32]:
    """Logits of a classifier that answers ``labels``."""
    return (size * np.eye(classes)[labels]).astype(np.float32)
