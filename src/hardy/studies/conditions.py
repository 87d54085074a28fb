"""What a trained network is tried on: clean, rotated, noisy, corrupted and attacked images, and foreign ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.attacks import get_attack, run_attack, with_settings
from hardy.augmentations.geometry import rotate
from hardy.augmentations.noise import gaussian_noise
from hardy.corruptions import PUBLISHED, corrupt_with
from hardy.data import Dataset
from hardy.metrics import ece, prepared_auroc
from hardy.ood import SCORES
from hardy.rng import Randomness
from hardy.studies.paired import Compute
from hardy.threats import ThreatModel
from hardy.validation import Images, frozen_evaluation

ROTATION = {"degrees": 20.0}
NOISE = {"deviation": 0.25}
# Small: a network that was never trained against attacks falls to most at 0.3.
THREAT = ThreatModel("linf", 0.1)
ATTACK_STEPS = 20
_BATCH = 500

Floats = NDArray[np.float64]


class Sizes(NamedTuple):
    """How many images each figure is measured on; ``corrupted`` is for each of the 15 corruptions."""

    clean: int
    changed: int
    corrupted: int
    attacked: int
    foreign: int


class Condition(NamedTuple):
    """Images of one kind, with their labels (None where they have none) and places in their dataset."""

    name: str
    images: Images
    labels: Tensor | None
    indices: Tensor


class Figure(NamedTuple):
    """A column of the table.

    Attributes:
        name: its key.
        title: its heading.
        higher_is_better: the direction.
        compute: from one training's records to the figure as a function of weights.
        strata: from records to how many examples each stratum of the weights has.
    """

    name: str
    title: str
    higher_is_better: bool
    compute: Callable[[pl.DataFrame], Compute]
    strata: Callable[[pl.DataFrame], list[int]]


def make_conditions(test: Dataset, foreign: Sequence[Dataset], sizes: Sizes, seed: int) -> list[Condition]:
    """All conditions but the attack: the first images of each dataset's measuring order, changed once for all arms."""

    def first(name: str, count: int, change: Callable[[Images, Randomness], Images]) -> Condition:
        indices = test.measuring_order()[:count]
        images = change(test.floats(indices), Randomness(seed, indices, ("study", name)))
        return Condition(name, images, test.labels[indices], indices)

    found = [
        first("clean", sizes.clean, lambda images, _: images),
        first("rotated", sizes.changed, lambda images, rng: rotate(images, rng, **ROTATION)),
        first("noisy", sizes.changed, lambda images, rng: gaussian_noise(images, rng, **NOISE)),
    ]
    found += [
        first(f"mnist-c/{name}", sizes.corrupted, lambda images, rng, name=name: corrupt_with(images, name, None, rng))
        for name in PUBLISHED
    ]
    for dataset in foreign:
        indices = dataset.measuring_order()[: sizes.foreign]
        found.append(Condition(f"foreign/{dataset.name}", dataset.floats(indices), None, indices))
    return found


def try_on(classifier: nn.Module, conditions: Sequence[Condition], attacked: int, seed: int) -> pl.DataFrame:
    """Records: per image and condition ``correct`` and ``score`` (max softmax), also under attack.

    ``correct`` is missing where an image has no label, and ``score`` where it was attacked.
    """
    with frozen_evaluation(classifier), torch.no_grad():
        parts = [_answers(classifier, condition) for condition in conditions]
    return pl.concat([*parts, _attacked(classifier, conditions[0], attacked, seed)])


def _answers(classifier: nn.Module, condition: Condition) -> pl.DataFrame:
    logits = torch.cat([classifier(batch).float() for batch in condition.images.split(_BATCH)]).cpu()
    correct = None if condition.labels is None else (logits.argmax(1) == condition.labels.cpu()).numpy()
    return _frame(condition.name, condition.indices, correct, SCORES["max_softmax"](logits.numpy()))


def _attacked(classifier: nn.Module, clean: Condition, count: int, seed: int) -> pl.DataFrame:
    attack = with_settings(get_attack("pgd"), steps=ATTACK_STEPS, step_size=2.5 / ATTACK_STEPS)
    assert clean.labels is not None
    indices = clean.indices[:count]
    rng = Randomness(seed, indices.to(clean.images.device), ("study", "attack"))
    outcome = run_attack(classifier, clean.images[:count], clean.labels[:count], attack, [THREAT], rng=rng)
    return _frame("attacked", indices, outcome.norm.isinf().cpu().numpy(), None)


def _frame(condition: str, indices: Tensor, correct: NDArray[np.bool_] | None, score: Floats | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"condition": condition, "index": indices.cpu().numpy(), "correct": correct, "score": score},
        schema={"condition": pl.String, "index": pl.Int64, "correct": pl.Boolean, "score": pl.Float64},
    )


def _correct(records: pl.DataFrame, condition: str) -> Floats:
    return records.filter(pl.col("condition") == condition)["correct"].to_numpy().astype(np.float64)


def _scores(records: pl.DataFrame, condition: str) -> Floats:
    return records.filter(pl.col("condition") == condition)["score"].to_numpy()


def _named(records: pl.DataFrame, prefix: str) -> list[str]:
    names = records["condition"].unique(maintain_order=True)
    return [name for name in names if name.startswith(prefix)]


def _mean_of(values: Floats) -> Compute:
    return lambda weights: float(values @ weights / weights.sum())


def _accuracy(name: str, title: str) -> Figure:
    return Figure(name, title, True, lambda it: _mean_of(_correct(it, name)), lambda it: [len(_correct(it, name))])


def _corrupted(records: pl.DataFrame) -> Floats:
    """Per image, the share of the corruptions under which it is answered rightly."""
    return np.mean([_correct(records, name) for name in _named(records, "mnist-c/")], axis=0)


def _calibration_error(records: pl.DataFrame) -> Compute:
    confidence, correct = np.exp(-_scores(records, "clean")), _correct(records, "clean").astype(bool)
    return lambda weights: ece(confidence, correct, weights=weights)


def _foreign_auroc(records: pl.DataFrame) -> Compute:
    """The mean over the foreign datasets; the clean images' weights come first."""
    inside = _scores(records, "clean")
    outside = [_scores(records, name) for name in _named(records, "foreign/")]
    figures = [prepared_auroc(inside, scores) for scores in outside]
    ends = np.cumsum([len(inside), *(len(scores) for scores in outside)])

    def mean(weights: Floats) -> float:
        parts = [weights[start:end] for start, end in pairwise(ends)]
        own = weights[: len(inside)]
        return float(
            np.mean([figure(np.concatenate([own, part])) for figure, part in zip(figures, parts, strict=True)])
        )

    return mean


def _foreign_strata(records: pl.DataFrame) -> list[int]:
    return [len(_scores(records, name)) for name in ("clean", *_named(records, "foreign/"))]


FIGURES = (
    _accuracy("clean", "clean"),
    _accuracy("rotated", "rotated"),
    _accuracy("noisy", "noisy"),
    Figure("mnist_c", "MNIST-C", True, lambda it: _mean_of(_corrupted(it)), lambda it: [len(_corrupted(it))]),
    _accuracy("attacked", "attacked"),
    Figure("ece", "ECE", False, _calibration_error, lambda it: [len(_scores(it, "clean"))]),
    Figure("ood_auroc", "OOD AUROC", True, _foreign_auroc, _foreign_strata),
)
