"""Distrust: whether 'robust' may mean 'attacked badly'. What is found stands beside the figures, and as warnings.

A classifier whose gradients mislead looks robust to whoever follows them. The checks are those of Athalye, Carlini and
Wagner, ICML 2018, arXiv:1802.00420, and Carlini et al. 2019, arXiv:1902.06705: attacks that ought to be weaker must not
find what stronger ones miss, and no classifier is robust where every image can be made gray.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.attacks import ATTACKS, SUITES, Attack, run_attack
from hardy.attacks.masking import Signs, in_words
from hardy.attacks.pgd import highest_loss
from hardy.evaluation.framework import Columns, Measurement, Results, Shard, view
from hardy.evaluation.properties.adversarial.measure import (
    MASKING_ATTACKS,
    adjusted,
    masking_measurements,
    radii,
    simple_measurements,
    standard_measurements,
    surrogate_of,
    threats_of,
)
from hardy.models import predict_logits
from hardy.threats import gray_radius

BLACK_BOX_QUERIES = 1000
# Shares of the examples; a few examples may differ by chance in where a search ends.
TOLERATED = 0.05
_FEW = 2

_COMPARED = {
    "one_step": "one step of fast gradient",
    "smoothed": "gradients smoothed over noise",
    "black_box": "the black-box attack Square",
    "transfer": "images that fool another network",
}
# Which attacks ought to find what others find, the weakest first; those that are not named are the weakest.
_STRENGTH = {"basic-iterative": 1, "deepfool": 1, "pgd": 2, "standard": 3}


class Masking(NamedTuple):
    """What makes robust accuracy suspect: in general, and by measurement."""

    general: tuple[str, ...]
    of: dict[Measurement, tuple[str, ...]]


def measure_masking(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """bool (N,) each: whether the example falls, within eps, to ``many_steps``, ``one_step``, ``smoothed``,
    ``black_box`` and ``transfer``.
    """
    (threat,) = threats_of(measurement)
    images, labels, rng = shard.images, shard.labels, shard.rng(seed, "masking")
    pgd, one_step, smoothed, black_box = (adjusted(measurement, ATTACKS[name]) for name in MASKING_ATTACKS)
    black_box = black_box.with_settings(n_queries=min(BLACK_BOX_QUERIES, black_box.settings["n_queries"]))
    attacked = partial(run_attack, images=images, labels=labels, threats=[threat], rng=rng, batch_size=batch_size)

    def falls(used: Attack) -> Tensor:
        return attacked(classifier, attack=used).broken

    columns = {
        "many_steps": falls(pgd),
        "one_step": falls(one_step),
        "smoothed": falls(smoothed),
        "black_box": falls(black_box),
        "transfer": torch.zeros_like(labels, dtype=torch.bool),
    }
    surrogate = surrogate_of(shard, measurement) if measurement.settings.get("surrogate", True) else None
    if surrogate is not None:
        transferred = highest_loss(surrogate, images, labels, threat, rng=rng, **pgd.settings)
        columns["transfer"] = predict_logits(classifier, transferred, batch_size).argmax(1) != labels
    return {name: column.cpu().numpy() for name, column in columns.items()}


def masking_warnings(results: Results) -> list[str]:
    """What the checks found, in words."""
    found = masking_of(results)
    all_found = dict.fromkeys([*found.general, *(words for each in found.of.values() for words in each)])
    return [f"adversarial: {words}" for words in all_found]


@view
def masking_of(results: Results) -> Masking:
    """What makes robust accuracy suspect."""
    general: list[str] = []
    for measurement in standard_measurements(results.context):
        records = results.records[measurement]
        signs = {name: torch.from_numpy(records[name].to_numpy().copy()) for name in Signs._fields if name in records}
        general += [f"gradients seem to be masked: {words}" for words in (in_words(signs) if signs else [])]
    for measurement in masking_measurements(results.context):
        columns = {name: results.column(measurement, name) for name in ("many_steps", *_COMPARED)}
        for name, what in _COMPARED.items():
            missed, n = int((columns[name] & ~columns["many_steps"]).sum()), len(columns[name])
            if missed > max(TOLERATED * n, _FEW):
                general.append(
                    f"gradients seem to be masked: {what} fools the classifier on {missed} of {n} images on which 40 "
                    "steps of PGD do not"
                )
    return Masking(tuple(dict.fromkeys(general)), _contradictions(results))


def _contradictions(results: Results) -> dict[Measurement, tuple[str, ...]]:
    """Strong attacks that leave standing what a weaker one broke, or one in a ball inside theirs, or too many."""
    measured = [*simple_measurements(results.context), *standard_measurements(results.context)]
    strong = [it for it in measured if _STRENGTH.get(str(it.settings["attack"]), 0) >= _STRENGTH["pgd"]]
    found: dict[Measurement, tuple[str, ...]] = {}
    for measurement in strong:
        norm, labels = results.column(measurement, "norm"), results.column(measurement, "label")
        gray = gray_radius(str(measurement.settings["norm"]), results.context.shape)  # type: ignore[arg-type]
        hopeless = [eps for eps in radii(measurement) if eps >= gray]
        if hopeless:
            left, chance = int((norm > hopeless[0]).sum()), int(np.bincount(labels).max())
            if left - chance > max(TOLERATED * len(norm), _FEW):
                words = f"{left} of {len(norm)} images stand at {hopeless[0]:g}, where every image can be made gray"
                found[measurement] = (f"{words}; the largest class has {chance}",)
        for other in measured:
            elsewhere = _found_by_other(results, measurement, other)
            if elsewhere is None:
                continue
            for eps in radii(measurement):
                missed, n = int(((norm > eps) & (elsewhere <= eps)).sum()), int(np.isfinite(elsewhere).sum())
                if missed > max(TOLERATED * len(norm), _FEW):
                    one, two = (f"{it.settings['attack']} in {it.settings['norm']}" for it in (measurement, other))
                    words = f"{one} at {eps:g} leaves {missed} of {n} images standing that {two} broke inside that ball"
                    found[measurement] = (*found.get(measurement, ()), words)
                    break
    return found


def _found_by_other(results: Results, measurement: Measurement, other: Measurement) -> NDArray[np.float64] | None:
    """How far at most, in the norm of ``measurement``, what a weaker attack found is; None where it is none."""
    strengths = [_STRENGTH.get(str(it.settings["attack"]), 0) for it in (other, measurement)]
    norms = [str(it.settings["norm"]) for it in (other, measurement)]
    if strengths[0] > strengths[1] or (norms[0] == norms[1] and strengths[0] == strengths[1]) or "l0" in norms:
        return None
    return bound_in(results, other, norms[1], results.column(measurement, "index"))


def bound_in(results: Results, other: Measurement, norm: str, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 (N,): what a measurement found of these examples, as a bound in ``norm``; infinity where nothing."""
    records = results.records[other]
    smallest = records["norm"].to_numpy()
    if "around" in records:
        smallest = np.minimum(smallest, records["around"].to_numpy())
    known = dict(zip(records["index"].to_list(), smallest, strict=True))
    values = math.prod(results.context.shape)
    # By how much more a change measures: a norm never exceeds the next of linf, l2, l1, and at most by these factors.
    power = {"linf": 0.0, "l2": 0.5, "l1": 1.0}
    factor = max(values ** (power[norm] - power[str(other.settings["norm"])]), 1.0)
    return factor * np.array([known.get(index, np.inf) for index in indices])


def worst_norm(results: Results, measurement: Measurement) -> NDArray[np.float64]:
    """float64 (N,): the smallest perturbation that anything found of each example, in the norm of the measurement."""
    indices, norm = results.column(measurement, "index"), str(measurement.settings["norm"])
    measured = [*simple_measurements(results.context), *standard_measurements(results.context)]
    bounds = [bound_in(results, other, norm, indices) for other in measured if other.settings["norm"] != "l0"]
    for other in masking_measurements(results.context):
        if other.settings["norm"] == norm:
            fallen = np.any([results.column(other, name) for name in ("many_steps", *_COMPARED)], axis=0)
            known = set(results.column(other, "index")[fallen].tolist())
            bounds.append(np.array([radii(other)[0] if it in known else np.inf for it in indices.tolist()]))
    return np.min(bounds, axis=0)


def suspicions(results: Results, measurement: Measurement) -> tuple[str, ...]:
    """Why the robust accuracy of a measurement may mislead."""
    found = masking_of(results)
    attack = str(measurement.settings["attack"])
    follows = attack in SUITES or ATTACKS[attack].gradients
    return (*(found.general if follows else ()), *found.of.get(measurement, ()))
