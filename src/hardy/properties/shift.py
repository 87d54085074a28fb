"""Distribution shift: corruptions, digits from elsewhere, and whether the answer holds still when the image moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.corruptions import CORRUPTIONS
from hardy.detection import SCORES
from hardy.metrics import ece, prepared_auroc, weighted_mean
from hardy.properties.corrupting import (
    FRAMES,
    MOVES,
    PUBLISHED_DATASET,
    Condition,
    conditions,
    left_out,
    measure_consistency,
    measure_corrupted,
    move_cell,
)
from hardy.properties.framework import Cell, Evidence, Plan, Planned, Property, Scalar, Statistic
from hardy.properties.predictions import MEASURES, prediction_cell, predictions_of, test_cell
from hardy.properties.shift_pictures import draw
from hardy.properties.shift_reference import CLEAN, ERRORS, REFERENCE

SCORE = "max_softmax"
BINS = 15
# The share of held-out images that the threshold refuses.
REFUSED = 0.01


def natural_shifts(plan: Plan) -> list[str]:
    """The datasets at hand that show the same classes and come from elsewhere."""
    return [name for name in plan.shift if not name.startswith(f"{PUBLISHED_DATASET}/")]


def plan_shift(plan: Plan) -> Planned:
    held_out = [prediction_cell(plan, plan.held_out)] if plan.held_out else []
    natural = [prediction_cell(plan, name) for name in natural_shifts(plan)]
    moves = [move_cell(plan, move) for move in MOVES]
    cells = [test_cell(plan), *held_out, *(it.cell for it in conditions(plan)), *natural, *moves]
    return Planned(cells, left_out(plan))


def statistics(evidence: Evidence) -> list[Statistic]:
    threshold = refusal_threshold(evidence)
    found = _summaries(evidence)
    for condition in conditions(evidence.plan):
        setting = {"corruption": condition.corruption, "severity": condition.severity}
        found += _under(evidence, condition.cell, setting, threshold)
    for name in natural_shifts(evidence.plan):
        found += _under(evidence, prediction_cell(evidence.plan, name), {}, threshold)
    if threshold is not None:
        found.append(_refusals(evidence, test_cell(evidence.plan), {}, threshold))
    return [*found, *(_flip_rate(evidence, move) for move in MOVES)]


def refusal_threshold(evidence: Evidence) -> float | None:
    """The score above which at most 1 % of the held-out images lie; None where there are none."""
    if evidence.plan.held_out is None:
        return None
    held_out = predictions_of(evidence, prediction_cell(evidence.plan, evidence.plan.held_out))
    return float(np.quantile(SCORES[SCORE](held_out.logits), 1.0 - REFUSED, method="higher"))


def _under(evidence: Evidence, cell: Cell, setting: Mapping[str, Scalar], threshold: float | None) -> list[Statistic]:
    """Accuracy, calibration, error detection and refusals on one cell of predictions."""
    answers = predictions_of(evidence, cell)
    confidence, correct = answers.confidence, answers.correct
    score = SCORES[SCORE](answers.logits)
    auroc = prepared_auroc(score[correct], score[~correct])
    make = partial(Statistic, dataset=cell.dataset, examples=((cell.dataset, answers.indices),))
    found = [
        make(
            metric="accuracy",
            setting=setting,
            compute=lambda weights: weighted_mean(correct, weights=weights),
            successes=correct,
            higher_is_better=True,
            headline=not setting,
        ),
        make(
            metric="ece",
            setting={**setting, "bins": BINS},
            compute=lambda weights: ece(confidence, correct, BINS, weights=weights),
            higher_is_better=False,
        ),
        make(
            metric="auroc",
            setting={**setting, "score": SCORE},
            # The metric takes the right answers' weights first, then the wrong ones'.
            compute=lambda weights: auroc(np.concatenate([weights[correct], weights[~correct]])),
            higher_is_better=True,
        ),
    ]
    return found if threshold is None else [*found, _refusals(evidence, cell, setting, threshold)]


def _refusals(evidence: Evidence, cell: Cell, setting: Mapping[str, Scalar], threshold: float) -> Statistic:
    answers = predictions_of(evidence, cell)
    refused = SCORES[SCORE](answers.logits) > threshold
    return Statistic(
        metric="refusal_rate",
        dataset=cell.dataset,
        setting={**setting, "score": SCORE, "refused_held_out": REFUSED},
        compute=lambda weights: weighted_mean(refused, weights=weights),
        examples=((cell.dataset, answers.indices),),
        successes=refused,
        higher_is_better=None,
    )


def _flip_rate(evidence: Evidence, move: str) -> Statistic:
    cell = move_cell(evidence.plan, move)
    flips = evidence.records[cell]["flips"].to_numpy() / (FRAMES - 1)
    return Statistic(
        metric="flip_rate",
        dataset=cell.dataset,
        setting={"move": move, "frames": FRAMES},
        compute=lambda weights: weighted_mean(flips, weights=weights),
        examples=((cell.dataset, evidence.records[cell]["index"].to_numpy()),),
        higher_is_better=False,
    )


class _Together(NamedTuple):
    """Several cells' right answers as a function of one vector of weights; cells of the same examples share theirs."""

    examples: tuple[tuple[str, NDArray[np.int64]], ...]
    correct: tuple[tuple[NDArray[np.intp], NDArray[np.bool_]], ...]

    def accuracies(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64, one a cell, in the order of the cells."""
        found = np.empty(sum(len(places) for places, _ in self.correct))
        start = 0
        for places, rows in self.correct:
            part = weights[start : start + rows.shape[1]]
            found[places] = rows @ part / part.sum()
            start += len(part)
        return found


class _Right(NamedTuple):
    """Which examples of a dataset are answered rightly."""

    dataset: str
    indices: NDArray[np.int64]
    correct: NDArray[np.bool_]


def _right(evidence: Evidence, cell: Cell) -> _Right:
    answers = predictions_of(evidence, cell)
    return _Right(cell.dataset, answers.indices, answers.correct)


def _together(found: Sequence[_Right]) -> _Together:
    names = list(dict.fromkeys(each.dataset for each in found))
    groups = [[place for place, each in enumerate(found) if each.dataset == name] for name in names]
    return _Together(
        tuple((name, found[group[0]].indices) for name, group in zip(names, groups, strict=True)),
        tuple((np.array(group), np.stack([found[place].correct for place in group])) for group in groups),
    )


def _summaries(evidence: Evidence) -> list[Statistic]:
    """The means over the families at their default severity, and those relative to the reference."""
    at_default = [it for it in conditions(evidence.plan) if it.severity == CORRUPTIONS[it.corruption].default]
    published = [it for it in at_default if CORRUPTIONS[it.corruption].published]
    held_out = [it for it in at_default if not CORRUPTIONS[it.corruption].published]
    found = [_mean_accuracy(evidence, published, "MNIST-C", headline=True)] if published else []
    if held_out:
        found.append(_mean_accuracy(evidence, held_out, "held out"))
    # The reference was measured on MNIST alone.
    if evidence.plan.dataset == "mnist/test":
        found += _relative_to_reference(evidence, published)
    return found


def _mean_accuracy(
    evidence: Evidence, over: Sequence[Condition], families: str, *, headline: bool = False
) -> Statistic:
    together = _together([_right(evidence, it.cell) for it in over])
    return Statistic(
        metric="mean_accuracy",
        dataset=_dataset_of(over),
        setting={"families": families, "corruptions": len(over)},
        compute=lambda weights: float(together.accuracies(weights).mean()),
        examples=together.examples,
        higher_is_better=True,
        headline=headline,
    )


def _relative_to_reference(evidence: Evidence, published: Sequence[Condition]) -> list[Statistic]:
    corrupted_cells = [_right(evidence, it.cell) for it in published]
    clean = _right(evidence, test_cell(evidence.plan))
    own = next((each.indices for each in corrupted_cells if each.dataset == clean.dataset), clean.indices)
    # Records are sorted by index, so the clean answers on the same examples are found by their place.
    shared = np.searchsorted(clean.indices, own)
    clean = _Right(clean.dataset, own, clean.correct[shared])
    together = _together([*corrupted_cells, clean])
    reference = np.array([ERRORS[it.corruption] for it in published])

    def errors(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        *corrupted, unharmed = 1.0 - together.accuracies(weights)
        return np.array(corrupted), unharmed

    def mean_corruption_error(weights: NDArray[np.float64]) -> float:
        return float((errors(weights)[0] / reference).mean())

    def relative(weights: NDArray[np.float64]) -> float:
        corrupted, unharmed = errors(weights)
        return float(((corrupted - unharmed) / (reference - CLEAN)).mean())

    figures = {"mean_corruption_error": mean_corruption_error, "relative_mean_corruption_error": relative}
    return [
        Statistic(
            metric=metric,
            dataset=_dataset_of(published),
            setting={"reference": REFERENCE, "corruptions": len(published)},
            compute=compute,
            examples=together.examples,
            higher_is_better=False,
        )
        for metric, compute in figures.items()
    ]


def _dataset_of(over: Sequence[Condition]) -> str:
    """The dataset that all are measured on; where some have published images, both kinds."""
    names = {PUBLISHED_DATASET if it.cell.measure == "predict" else it.cell.dataset for it in over}
    return ", ".join(sorted(names))


DISTRIBUTION_SHIFT = Property(
    name="distribution_shift",
    title="Distribution shift",
    description="What is left of accuracy, calibration and error detection when images are corrupted as in MNIST-C or "
    "come from elsewhere, and how often the answer flips while an image moves a little.",
    plan=plan_shift,
    statistics=statistics,
    draw=draw,
    measures={"corrupted": measure_corrupted, "consistency": measure_consistency, **MEASURES},
)
