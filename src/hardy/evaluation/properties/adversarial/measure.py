"""Measures attacks: for each example the smallest perturbation found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hardy.attacks import ATTACKS, SUITES, Attack, AttackResult, get_attacks, run_attacks
from hardy.attacks.around import get_around, with_gradient
from hardy.attacks.masking import find_signs, in_words
from hardy.attacks.pgd import highest_loss
from hardy.data import Dataset
from hardy.errors import UsageError
from hardy.evaluation.budget import Budget
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Scalar, Shard, Skipped
from hardy.evaluation.predictions import measure_predictions, prediction_measurement
from hardy.models import build_model
from hardy.threats import Norm, ThreatModel, gray_radius, usual_radii
from hardy.training import Split, fit
from hardy.training.loop import check_suits
from hardy.training.recipes import RECIPES

PICTURES = 8
SURROGATE = "fast"
MASKING_ATTACKS = ("pgd", "fast-gradient", "smoothed-pgd", "square")


class Sweep(NamedTuple):
    """An attack or suite in one norm, at ascending radii."""

    attack: str
    norm: str
    eps: tuple[float, ...]


_MNIST_SHAPE = (1, 28, 28)
STUDY_EPS = (0.3, 1.5, 10.0)
CURVE_EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
STUDY = (
    Sweep("basic-iterative", "l2", STUDY_EPS),
    Sweep("noise", "l2", STUDY_EPS),
    Sweep("deepfool", "l2", STUDY_EPS),
    Sweep("fast-gradient", "l2", STUDY_EPS),
    Sweep("fast-gradient", "linf", STUDY_EPS),
    # The study's radii and those of a curve in one sweep, so that robust accuracy never rises with the radius.
    Sweep("pgd", "linf", (*CURVE_EPS, 1.5, 10.0)),
    Sweep("salt-and-pepper", "l2", STUDY_EPS),
)
# Of other images, and of MNIST's where a norm is asked for, the same attacks at these multiples of the usual radius.
_MULTIPLES = (0.5, 1.0, 2.0)
_CURVE_MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)


def radii_of(context: EvaluationContext) -> dict[Norm, tuple[float, ...]]:
    """What attacks are held to: by norm, the radii that were asked for, or the usual one."""
    if context.norm:
        return {context.norm: context.eps}  # type: ignore[dict-item]
    return {norm: (eps,) for norm, eps in usual_radii(context.shape).items()}


def simple_sweeps(context: EvaluationContext) -> list[Sweep]:
    """Attacks one at a time, and PGD at the radii of a curve that ends where every image can be made gray."""
    if context.shape == _MNIST_SHAPE and not context.norm:
        return list(STUDY)
    sweeps = []
    for norm, asked in radii_of(context).items():
        names = dict.fromkeys(it.attack for it in STUDY if context.norm or it.norm == norm or it.attack == "pgd")
        end = gray_radius(norm, context.shape)
        for name in (name for name in names if norm in ATTACKS[name].norms):
            multiples = _CURVE_MULTIPLES if name == "pgd" else () if context.norm else _MULTIPLES
            eps = {eps for each in asked for times in multiples if (eps := float(f"{times * each:.6g}")) < end}
            near = {it for it in eps if not any(math.isclose(it, each, rel_tol=1e-5) for each in asked)}
            sweeps.append(Sweep(name, norm, tuple(sorted({*near, *asked, *([end] if name == "pgd" else [])}))))
    return sweeps


def standard_sweeps(context: EvaluationContext) -> list[Sweep]:
    """The standard suite at the radii that were asked for, else at the usual ones in each norm of the budget."""
    chosen = [context.norm] if context.norm else context.budget.standard_norms
    sweeps = [Sweep("standard", norm, eps) for norm, eps in radii_of(context).items() if norm in chosen]
    # On MNIST a second radius in l2 is common.
    second = not context.norm and context.shape == _MNIST_SHAPE
    return [it._replace(eps=(1.5, *it.eps)) if second and it.norm == "l2" else it for it in sweeps if it.norm != "l0"]


def plan(context: EvaluationContext) -> Plan:
    left_out = (
        "standard in l2 and l1, the union of norms, and checks for masking that compare with smoothed gradients and "
        f"another network: the {context.budget.name} budget leaves them out"
    )
    masking = masking_measurements(context)
    saved = [prediction_measurement(context, name) for name in context.adversarial]
    measurements = [*simple_measurements(context), *standard_measurements(context), *masking, *saved]
    return Plan(measurements, [] if masking else [Skipped("adversarial", left_out)])


def simple_measurements(context: EvaluationContext) -> list[Measurement]:
    """Attacks one at a time; on MNIST the study's 21 figures, seven attacks, each at three radii, are among them."""
    return [attack_measurement(context, sweep, context.budget.simple_attacks) for sweep in simple_sweeps(context)]


def curve_measurement(context: EvaluationContext) -> Measurement | None:
    """PGD at the radii of a curve; none where it does not work in the norm that was asked for."""
    return next((it for it in simple_measurements(context) if it.settings["attack"] == "pgd"), None)


def standard_measurements(context: EvaluationContext) -> list[Measurement]:
    """The standard suite in each norm that the budget affords."""
    budget = context.budget
    around: dict[str, Scalar] = {"around_queries": budget.around_queries}
    if not budget.surrogate:
        around["surrogate"] = False
    return [
        attack_measurement(context, it, budget.standard_attacks, "attack", **around) for it in standard_sweeps(context)
    ]


def masking_measurements(context: EvaluationContext) -> list[Measurement]:
    """The few examples on which attacks are compared; none where the budget does not afford it, or in l1 and l0."""
    budget, (norm, eps) = context.budget, next(iter(radii_of(context).items()))
    if not budget.masking or norm not in ATTACKS["smoothed-pgd"].norms:
        return []
    setting = _adjustments(budget, (ATTACKS[name] for name in MASKING_ATTACKS)) | (
        {} if budget.surrogate else {"surrogate": False}
    )
    examples = context.examples(context.dataset, budget.masking)
    return [Measurement.of("masking", context.dataset, examples, norm=norm, eps=eps[-1], **setting)]


def attack_measurement(
    context: EvaluationContext, sweep: Sweep, examples: int | None, function: str = "attack", **more: Scalar
) -> Measurement:
    """One attack or suite at several radii: what falls at a smaller one falls at a larger one."""
    attack, norm, eps = sweep
    setting = {"attack": attack, "norm": norm, "eps": ",".join(map(repr, eps)), **more}
    setting |= _adjustments(context.budget, get_attacks(attack, norm))
    return Measurement.of(function, context.dataset, context.examples(context.dataset, examples), **setting)


def _adjustments(budget: Budget, attacks: Iterable[Attack]) -> dict[str, Scalar]:
    """The settings that the budget changes of these attacks, if it changes any."""
    changed = {it.name: dict(budget.attack_settings[it.name]) for it in attacks if it.name in budget.attack_settings}
    return {"attack_settings": json.dumps(changed)} if changed else {}


def adjusted(measurement: Measurement, attack: Attack) -> Attack:
    """The attack with the settings that the measurement changes."""
    changed = json.loads(str(measurement.settings.get("attack_settings", "{}")))
    return attack.with_settings(**changed.get(attack.name, {}))


def radii(measurement: Measurement) -> list[float]:
    """The radii of a measurement of attacks, ascending."""
    return [float(eps) for eps in str(measurement.settings["eps"]).split(",")]


def threats_of(measurement: Measurement) -> list[ThreatModel]:
    """The threat models of a measurement of attacks, by ascending radius."""
    return [ThreatModel(measurement.settings["norm"], eps) for eps in radii(measurement)]  # type: ignore[arg-type]


def measure_attack(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """What attacks found.

    ``norm``, float64 (N,), the smallest that fools (0: wrong already, infinity: none found); ``found_by``, the attack's
    name or ""; ``clean_prediction`` and ``adversarial_prediction``, int64 (N,); and for the first few of a shard the
    attacked ``image``, float32 (N, CHW), else NaN.

    Of a suite also the :class:`~hardy.attacks.masking.Signs` of masking, bool (N,) each; and where they are too many to
    be chance, what gets around it on the images that stand: ``around``, float64 (N,), a norm as above, and
    ``around_by``.
    """
    classifier = with_gradient(classifier, shard.images)
    attacks, outcome = _attacked(classifier, shard, measurement, seed, batch_size)
    images = torch.full_like(shard.images, torch.nan).flatten(1)
    images[:PICTURES] = outcome.images[:PICTURES].flatten(1)
    # Where no attack succeeded the number is -1, which picks the last name.
    names = np.array([*(attack.name for attack in attacks), ""])
    masking = {}
    if measurement.settings["attack"] in SUITES:
        masking = _around(classifier, shard, measurement, attacks, outcome, seed, batch_size)
    return masking | {
        "norm": outcome.min_norm.cpu().numpy(),
        "found_by": names[outcome.attack.cpu().numpy()],
        "clean_prediction": outcome.clean_prediction.cpu().numpy(),
        "adversarial_prediction": outcome.prediction.cpu().numpy(),
        "image": images.cpu().numpy(),
    }


def _around(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,
    attacks: Sequence[Attack],
    outcome: AttackResult,
    seed: int,
    batch_size: int,
) -> Columns:
    images, labels, rng = shard.images, shard.labels, shard.rng(seed, "masking")
    threats = threats_of(measurement)
    signs = find_signs(
        classifier,
        images,
        labels,
        outcome,
        attacks,
        threats[-1],
        pgd=adjusted(measurement, ATTACKS["pgd"]),
        rng=rng,
        batch_size=batch_size,
    )._asdict()
    norm, found_by = np.full(len(images), np.inf), np.full(len(images), "", object)
    standing = outcome.min_norm > threats[0].eps
    if in_words(signs) and standing.any():
        surrogate = surrogate_of(shard, measurement) if measurement.settings.get("surrogate", True) else None
        result, names = get_around(
            classifier,
            images[standing],
            labels[standing],
            threats,
            rng=rng.select(standing),
            n_queries=int(measurement.settings["around_queries"]),
            batch_size=batch_size,
            surrogate=surrogate,
        )
        chosen = standing.cpu().numpy()
        norm[chosen] = result.min_norm.cpu().numpy()
        found_by[chosen] = np.array([*names, ""], object)[result.attack.cpu().numpy()]
    return {name: sign.cpu().numpy() for name, sign in signs.items()} | {
        "around": norm,
        "around_by": found_by.astype(str),
    }


def surrogate_of(shard: Shard, measurement: Measurement) -> nn.Module | None:
    """A network of hardy's own, trained on the same data once per evaluation; None where it cannot be."""
    data = measurement.dataset.rpartition("/")[0]
    return shard.memo.get(("surrogate", data), lambda: _surrogate(data, shard.dataset, shard.images.device))


def _surrogate(data: str, dataset: Callable[[str], Dataset], device: torch.device) -> nn.Module | None:
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


def measure_attacked_predictions(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), where PGD's loss is highest, of all its steps and the image itself."""
    setting, rng = measurement.settings, shard.rng(seed, "highest loss")
    threat = ThreatModel(setting["norm"], radii(measurement)[0])  # type: ignore[arg-type]
    steps = adjusted(measurement, ATTACKS["pgd"]).settings
    found = [
        highest_loss(classifier, shard.images[part], shard.labels[part], threat, rng=rng.select(part), **steps)
        for part in torch.arange(len(shard.images)).split(batch_size)
    ]
    attacked = replace(shard, images=torch.cat(found))
    return measure_predictions(classifier, attacked, measurement, seed=seed, batch_size=batch_size)


def _attacked(
    classifier: nn.Module, shard: Shard, measurement: Measurement, seed: int, batch_size: int
) -> tuple[Sequence[Attack], AttackResult]:
    setting = measurement.settings
    attacks = [adjusted(measurement, attack) for attack in get_attacks(str(setting["attack"]), str(setting["norm"]))]
    outcome = run_attacks(
        classifier,
        shard.images,
        shard.labels,
        attacks,
        threats_of(measurement),
        rng=shard.rng(seed, "attack"),
        batch_size=batch_size,
    )
    return attacks, outcome
