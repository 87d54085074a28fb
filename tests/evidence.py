"""Records made by hand, whose figures are known, and how to find those figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from hardy.charts import Chart
from hardy.datasets import Dataset
from hardy.properties import PROPERTIES, Cell, Evidence, Plan, Property, Statistic
from hardy.properties.calibration import attacked_cell
from hardy.properties.predictions import prediction_cell
from hardy.records import frame

INSIDE, OUTSIDE = "toy/test", "other/test"


def images_of(count: int) -> torch.Tensor:
    return torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2)


def evidence_of(
    logits: NDArray,
    labels: NDArray,
    outside: NDArray | None = None,
    *,
    classes: int = 3,
    more: dict[Cell, pl.DataFrame] | None = None,
    seed: int = 0,
) -> Evidence:
    """Records of predictions on a toy dataset, in an order of its indices that is not the order of the rows."""
    count, places = len(labels), np.arange(len(labels))
    plan = Plan(
        dataset=INSIDE,
        held_out=None,
        out_of_distribution=() if outside is None else (OUTSIDE,),
        missing={},
        sizes={INSIDE: count} | ({} if outside is None else {OUTSIDE: len(outside)}),
        classes=logits.shape[1],
        budget="full",
    )
    names = tuple("abcdefgh"[:classes])
    sets = {INSIDE: Dataset(INSIDE, images_of(count), torch.from_numpy(labels), names)}
    records = {prediction_cell(plan, INSIDE): frame(places, labels, {"logits": logits.astype(np.float32)})}
    attacked = attacked_cell(plan)
    records[attacked] = records[prediction_cell(plan, INSIDE)].head(attacked.examples)
    if outside is not None:
        unlabelled = np.full(len(outside), -1)
        sets[OUTSIDE] = Dataset(OUTSIDE, images_of(len(outside)), torch.from_numpy(unlabelled), names)
        cell = prediction_cell(plan, OUTSIDE)
        records[cell] = frame(np.arange(len(outside)), unlabelled, {"logits": outside.astype(np.float32)})
    return Evidence(plan, records | (more or {}), sets.__getitem__, seed)


def random_evidence(count: int = 300, seed: int = 0) -> tuple[Evidence, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    logits = (2.0 * rng.normal(size=(count, 3)) + 2.0 * np.eye(3)[labels]).astype(np.float32)
    return evidence_of(logits, labels, rng.normal(size=(80, 3))), logits, labels


def values_of(prop: Property, evidence: Evidence) -> dict[tuple, float]:
    return {
        (statistic.metric, *sorted(statistic.setting.items())): statistic.compute(np.ones(statistic.n))
        for statistic in prop.statistics(evidence)
    }


def found(prop: str, evidence: Evidence, metric: str, **setting: object) -> Statistic:
    (statistic,) = [
        statistic
        for statistic in PROPERTIES[prop].statistics(evidence)
        if statistic.metric == metric and setting.items() <= dict(statistic.setting).items()
    ]
    return statistic


def value(statistic: Statistic) -> float:
    return statistic.compute(np.ones(statistic.n))


def chart(charts: Sequence[Chart], title: str) -> Chart:
    (one,) = [candidate for candidate in charts if candidate.title.startswith(title)]
    return one


def softmax(logits: NDArray) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(axis=1, keepdims=True)


def certain(labels: NDArray, classes: int = 3, size: float = 5.0) -> NDArray[np.float32]:
    """Logits of a classifier that answers ``labels``."""
    return (size * np.eye(classes)[labels]).astype(np.float32)
