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

from hardy.attacks import get_attack, run_attack, with_settings
from hardy.attacks.attack import Attack, value_and_gradient
from hardy.data import Dataset
from hardy.errors import UsageError
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Results, Shard
from hardy.models import build_model
from hardy.threats import ThreatModel
from hardy.training import Split, fit
from hardy.training.loop import check_suits
from hardy.training.recipes import RECIPES
from hardy.validation import frozen_evaluation

EXAMPLES = 128
EPS = 0.3
# At linf 0.5 every image can be made gray, so at most one class can be answered rightly.
HOPELESS_EPS = 0.5
SURROGATE = "fast"
BLACK_BOX = with_settings(get_attack("square"), queries=1000)
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


def masking_measurements(context: EvaluationContext) -> list[Measurement]:
    """The few examples that the checks are made on; none on the quick budget, which the checks would exceed."""
    if context.budget == "quick":
        return []
    return [Measurement.of("masking", context.dataset, context.examples(context.dataset, EXAMPLES), eps=EPS)]


def measure_masking(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """bool (N,) each: ``right`` on the clean image; ``zero_gradient`` there; and whether the example falls, within linf
    eps, to ``many_steps``, ``one_step``, ``smoothed``, ``black_box``, ``transfer``, and to many steps where
    it is ``hopeless`` to stand.
    """
    threat = ThreatModel("linf", float(measurement.settings["eps"]))
    rng = shard.rng(seed, "masking")
    images, labels = shard.images, shard.labels
    attack = partial(run_attack, images=images, labels=labels, rng=rng, batch_size=batch_size)

    def falls(used: Attack, within: ThreatModel = threat) -> Tensor:
        return attack(classifier, attack=used, threats=[within]).norm.isfinite()

    with frozen_evaluation(classifier):
        gradients = [
            value_and_gradient(classifier, image, label)[1]
            for image, label in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        ]
        with torch.no_grad():
            right = torch.cat([classifier(batch).argmax(1) for batch in images.split(batch_size)]) == labels
    data = measurement.dataset.rpartition("/")[0]
    surrogate = shard.memo.get(("surrogate", data), lambda: _surrogate(data, shard.dataset, images.device))
    columns = {
        "right": right,
        "zero_gradient": (torch.cat(gradients).flatten(1) == 0).all(1),
        "many_steps": falls(get_attack("pgd")),
        "one_step": falls(get_attack("fast-gradient")),
        "smoothed": falls(get_attack("smoothed-pgd")),
        "black_box": falls(BLACK_BOX),
        "hopeless": falls(get_attack("pgd"), ThreatModel("linf", HOPELESS_EPS)),
    }
    if surrogate is not None:
        moved = attack(surrogate, attack=get_attack("pgd"), threats=[threat]).images
        with frozen_evaluation(classifier), torch.no_grad():
            answers = torch.cat([classifier(batch).argmax(1) for batch in moved.split(batch_size)])
        columns["transfer"] = answers != labels
    else:
        columns["transfer"] = torch.zeros_like(right)
    return {name: column.cpu().numpy() for name, column in columns.items()}


def _surrogate(data: str, dataset: Callable[[str], Dataset], device: torch.device) -> nn.Module | None:
    """A network of hardy's own, trained on the same data for an epoch; None where it cannot be."""
    try:
        train, validation = (dataset(f"{data}/{split}") for split in ("train", "validation"))
        check_suits(RECIPES[SURROGATE], train.images, len(train.classes))
    except UsageError:
        return None
    recipe = RECIPES[SURROGATE]
    classes = len(train.classes)
    fitted = fit(
        recipe,
        Split(train.images.to(device), train.labels.to(device)),
        Split(validation.images.to(device), validation.labels.to(device)),
        classes,
        seed=0,
    )
    architecture = recipe.architecture(classes)
    model = build_model(architecture["name"], **architecture["arguments"]).to(device)
    model.load_state_dict(fitted.weights)
    return model.eval()


def masking_warnings(results: Results) -> list[str]:
    """What the checks found, in words."""
    return [
        warning for measurement in masking_measurements(results.context) for warning in _found(results, measurement)
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
            found.append(f"{what} fools {missed} of {n} images that 40 steps of PGD leave standing")
    stands = float((~columns["hopeless"]).mean())
    if stands > 1 / results.context.classes + TOLERATED_ABOVE_CHANCE:
        found.append(
            f"{stands:.0%} stand at linf {HOPELESS_EPS}, where every image can be made gray and chance is all there is"
        )
    return [f"adversarial: gradients seem to be masked: {what}; robust accuracy is likely overstated" for what in found]
