"""Records made by hand, whose figures are known, and how to find those figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from hardy.charts import Chart
from hardy.datasets import Dataset
from hardy.detection import SCORES
from hardy.properties import PROPERTIES, Cell, Evidence, Plan, Property, Statistic
from hardy.properties.calibration import attacked_cell
from hardy.properties.predictions import members_cell, prediction_cell
from hardy.records import frame

INSIDE, OUTSIDE, HELD_OUT = "toy/test", "other/test", "toy/held-out"


def images_of(count: int) -> torch.Tensor:
    return torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2)


def evidence_of(
    logits: NDArray,
    labels: NDArray,
    outside: NDArray | None = None,
    *,
    classes: int = 3,
    held_out: tuple[NDArray, NDArray] | None = None,
    members: tuple[NDArray, NDArray] | None = None,
    more: dict[Cell, pl.DataFrame] | None = None,
    seed: int = 0,
) -> Evidence:
    """Records of predictions on a toy dataset, in an order of its indices that is not the order of the rows.

    ``held_out`` are logits and labels there; ``members`` the members' logits, (M, N, K), on both.
    """
    count, places = len(labels), np.arange(len(labels))
    plan = Plan(
        dataset=INSIDE,
        held_out=None if held_out is None else HELD_OUT,
        out_of_distribution=() if outside is None else (OUTSIDE,),
        missing={},
        sizes={INSIDE: count}
        | ({} if outside is None else {OUTSIDE: len(outside)})
        | ({} if held_out is None else {HELD_OUT: len(held_out[1])}),
        classes=logits.shape[1],
        budget="full",
        members=0 if members is None else len(members[0]),
    )
    names = tuple("abcdefgh"[:classes])
    sets = {INSIDE: Dataset(INSIDE, images_of(count), torch.from_numpy(labels), names)}
    records = {prediction_cell(plan, INSIDE): frame(places, labels, {"logits": logits.astype(np.float32)})}
    attacked = attacked_cell(plan)
    records[attacked] = records[prediction_cell(plan, INSIDE)].head(attacked.examples)
    if outside is not None:
        unlabelled = np.full(len(outside), -1)
        sets[OUTSIDE] = Dataset(OUTSIDE, images_of(len(outside)), torch.from_numpy(unlabelled), names)
        for found in _detect_cells(plan):
            answers, truth = (outside, unlabelled) if found.dataset == OUTSIDE else (logits, labels)
            scores = {name: score(answers) for name, score in SCORES.items()}
            rows = np.arange(len(truth))
            columns = {"logits": answers.astype(np.float32)} | scores
            records[found] = frame(rows, truth, columns)
    if held_out is not None:
        there, truth = held_out
        images = torch.rand(len(truth), 1, 2, 2, generator=torch.Generator().manual_seed(0))
        sets[HELD_OUT] = Dataset(HELD_OUT, images, torch.from_numpy(truth), names)
        records[prediction_cell(plan, HELD_OUT)] = frame(
            np.arange(len(truth)), truth, {"logits": there.astype(np.float32)}
        )
    for name, answers in zip((INSIDE, HELD_OUT), members or (), strict=False):
        columns = {"logits": answers.transpose(1, 0, 2).reshape(answers.shape[1], -1).astype(np.float32)}
        records[members_cell(plan, name)] = frame(np.arange(answers.shape[1]), sets[name].labels.numpy(), columns)
    return Evidence(plan, records | (more or {}), sets.__getitem__, seed)


def _detect_cells(plan: Plan) -> Sequence[Cell]:
    return PROPERTIES["out_of_distribution"].plan(plan).cells


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
    """The statistic with these settings; of several that with the fewest besides, which must be one."""
    candidates = [
        statistic
        for statistic in PROPERTIES[prop].statistics(evidence)
        if statistic.metric == metric and setting.items() <= dict(statistic.setting).items()
    ]
    fewest = min(len(statistic.setting) for statistic in candidates)
    (statistic,) = [statistic for statistic in candidates if len(statistic.setting) == fewest]
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
