"""Distrust: whether 'robust' may mean 'attacked badly'. What is found becomes warnings of the scorecard.

A classifier whose gradients mislead looks robust to whoever follows them. The checks are those of Athalye, Carlini and
Wagner, ICML 2018, arXiv:1802.00420, and Carlini et al. 2019, arXiv:1902.06705: attacks that ought to be weaker must not
find what stronger ones miss, and no classifier is robust where every image can be made gray.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from hardy.attacks import ATTACKS, Attack, run_attack
from hardy.attacks.attack import value_and_gradient
from hardy.data import Dataset
from hardy.errors import UsageError
from hardy.evaluation.framework import Columns, Measurement, Results, Shard
from hardy.evaluation.properties.adversarial.measure import MASKING_ATTACKS, adjusted, masking_measurements
from hardy.models import build_model, predict_logits
from hardy.threats import ThreatModel
from hardy.training import Split, fit
from hardy.training.loop import check_suits
from hardy.training.recipes import RECIPES

# At linf 0.5 every image can be made gray, so at most one class can be answered rightly.
GRAY_EPS = 0.5
SURROGATE = "fast"
BLACK_BOX_QUERIES = 1000
# Shares of the examples; a few examples may differ by chance in where a search ends.
TOLERATED = 0.02
TOLERATED_ZERO_GRADIENTS = 0.05
TOLERATED_ABOVE_CHANCE = 0.1

_COMPARED = {
    "one_step": "one step of fast gradient",
    "smoothed": "gradients smoothed over noise",
    "black_box": "the black-box attack Square",
    "transfer": "images that fool another network",
}


def measure_masking(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """bool (N,) each: ``right`` on the clean image; ``zero_gradient`` there; and whether the example falls, within linf
    eps, to ``many_steps``, ``one_step``, ``smoothed``, ``black_box``, ``transfer``, and to many steps where
    no answer but by chance can stay right, ``hopeless``.
    """
    threat, gray = ThreatModel("linf", float(measurement.settings["eps"])), ThreatModel("linf", GRAY_EPS)
    images, labels, rng = shard.images, shard.labels, shard.rng(seed, "masking")
    black_box = ATTACKS["square"].with_settings(n_queries=BLACK_BOX_QUERIES)
    pgd, one_step, smoothed, black_box = (
        adjusted(measurement, attack) for attack in (*(ATTACKS[name] for name in MASKING_ATTACKS[:-1]), black_box)
    )
    attacked = partial(run_attack, images=images, labels=labels, rng=rng, batch_size=batch_size)

    def falls(used: Attack, within: ThreatModel = threat) -> Tensor:
        return attacked(classifier, attack=used, threats=[within]).broken

    gradients = [
        value_and_gradient(classifier, image, label)[1]
        for image, label in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    ]
    right = predict_logits(classifier, images, batch_size).argmax(1) == labels
    columns = {
        "right": right,
        "zero_gradient": (torch.cat(gradients).flatten(1) == 0).all(1),
        "many_steps": falls(pgd),
        "one_step": falls(one_step),
        "smoothed": falls(smoothed),
        "black_box": falls(black_box),
        "hopeless": falls(pgd, gray),
        "transfer": torch.zeros_like(right),
    }
    data = measurement.dataset.rpartition("/")[0]
    surrogate = None
    if measurement.settings.get("surrogate", True):
        surrogate = shard.memo.get(("surrogate", data), lambda: _surrogate(data, shard.dataset, images.device))
    if surrogate is not None:
        transferred = attacked(surrogate, attack=pgd, threats=[threat]).images
        columns["transfer"] = predict_logits(classifier, transferred, batch_size).argmax(1) != labels
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _surrogate(data: str, dataset: Callable[[str], Dataset], device: torch.device) -> nn.Module | None:
    """A network of hardy's own, trained on the same data for an epoch; None where it cannot be."""
    recipe = RECIPES[SURROGATE]
    try:
        train, validation = (dataset(f"{data}/{split}") for split in ("train", "validation"))
        check_suits(recipe, train.images, len(train.classes))
    except UsageError:
        return None
    on_device = [Split(it.images.to(device), it.labels.to(device)) for it in (train, validation)]
    fitted = fit(recipe, on_device[0], on_device[1], len(train.classes), seed=0)
    architecture = recipe.architecture(len(train.classes))
    model = build_model(architecture["name"], **architecture["arguments"]).to(device)
    model.load_state_dict(fitted.weights)
    return model.eval()


def masking_warnings(results: Results) -> list[str]:
    """What the checks found, in words."""
    return [
        f"adversarial: gradients seem to be masked: {what}; robust accuracy is likely overstated"
        for measurement in masking_measurements(results.context)
        for what in _found(results, measurement)
    ]


def _found(results: Results, measurement: Measurement) -> list[str]:
    records = results.records[measurement]
    columns = {name: records[name].to_numpy() for name in records.columns}
    right, many, n = columns["right"], columns["many_steps"], len(records)
    found = []
    zero = float((columns["zero_gradient"] & right).sum()) / max(1, int(right.sum()))
    if zero > TOLERATED_ZERO_GRADIENTS:
        found.append(
            f"the gradient is exactly zero on {zero:.0%} of the right answers; attacks that follow it see nothing"
        )
    for column, what in _COMPARED.items():
        missed = int((columns[column] & ~many).sum())
        if missed > TOLERATED * n:
            found.append(f"{what} fools the classifier on {missed} of {n} images on which 40 steps of PGD do not")
    robust = float((~columns["hopeless"]).mean())
    if robust > 1 / results.context.classes + TOLERATED_ABOVE_CHANCE:
        found.append(
            f"{robust:.0%} of the answers stay right at linf {GRAY_EPS}, where every image can be made gray and no "
            "answer can be better than chance"
        )
    return found
