"""The study's adversarial trainings as they were done, and one change at a time: which of them makes them work?

    python benchmarks/hardening_ablation.py [--seeds 3] [--images 10000] [--width 8] [--only NAME …] [--json PATH]

The study mixed clean and adversarial images, the latter weighed 0.1 for one epoch, 0.5 for three and 0.75 for three,
with the full radius of linf 0.3 from the first step, by PGD and by the fast gradient method, and lost. It does not say
how its search treated batch norm; here it takes the batch's statistics and moves the running ones, as a loop does that
forgets to leave training mode. Each arm makes one change to that, 'all' makes all of them. Robust accuracy is under 40
steps of PGD at linf 0.3, on the first test images in measuring order; what collapses counts as chance, one in ten.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hardy.attacks import get_attacks, run_attacks
from hardy.data import load_dataset
from hardy.errors import HardyError
from hardy.models import build_model, predict_logits
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.training import Batch, Objective, Recipe, Split, Weight, fit, register_loss

THREAT = ThreatModel("linf", 0.3)
CHANCE = 0.1


@register_loss("adversarial_in_training_mode", threats=lambda **_: (THREAT,))
def adversarial_in_training_mode(model: nn.Module, batch: Batch, *, steps: int, step_size: float) -> Tensor:
    """Cross-entropy on adversarial images whose search moves batch-norm statistics."""
    moved = THREAT.random_start(batch.images, batch.rng.fold("start"))
    for _ in range(int(steps)):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), batch.targets), moved)
        moved = THREAT.project(moved.detach() + step_size * gradient.sign(), batch.images)
    return cross_entropy(model(moved), batch.targets)


def mixed(loss: str, settings: dict[str, Any], *, clean: bool = True) -> dict[str, Any]:
    """The study's weights of clean and adversarial images; or adversarial ones alone."""
    if not clean:
        return {"objectives": (Objective(loss, settings),)}
    shares = ((1.0, 0.1), (3.0, 0.5), (3.0, 0.75))
    rest = tuple((epochs, 1.0 - share) for epochs, share in shares)
    weighed = (Objective("cross_entropy", {}, Weight(steps=rest)), Objective(loss, settings, Weight(steps=shares)))
    return {"objectives": weighed}


def arms(attack: dict[str, Any], width: int) -> dict[str, Recipe]:
    """By name; the first is the study's."""
    study = Recipe(
        "study",
        "",
        model_arguments={"width": width},
        epochs=7,
        batch_size=100,
        learning_rate=1e-3,
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
        **mixed("adversarial_in_training_mode", attack),
    )
    evaluating = {"eps": THREAT.eps, **attack}
    ramped = evaluating | {"ramp": 0.3}
    plain = {"model": "strided", "model_arguments": {"width": width, "hidden": 8 * width}}
    scheduled = {"learning_rate": 4e-3, "schedule": "cosine", "warm_up": 0.1}
    changes: dict[str, dict[str, Any]] = {
        "as done": {},
        "search in evaluation mode": mixed("adversarial", evaluating),
        "eps grows": mixed("adversarial", ramped),
        "adversarial images alone": mixed("adversarial_in_training_mode", attack, clean=False),
        "no batch norm": plain,
        "rate 4e-3, cosine": scheduled,
        "weights averaged": {"averaging": 0.99},
        "twice as long": {"epochs": 14},
        "all": {**mixed("adversarial", ramped, clean=False), **plain, **scheduled, "averaging": 0.99, "epochs": 14},
    }
    return {name: replace(study, **changed) for name, changed in changes.items()}


def measured(recipe: Recipe, train: Split, validation: Split, seed: int, images: int) -> tuple[float, float]:
    """Clean and robust accuracy on test images."""
    try:
        fitted = fit(recipe, train, validation, 10, seed=seed)
    except HardyError:
        return CHANCE, CHANCE
    model = build_model(recipe.model, **recipe.model_arguments).eval()
    model.load_state_dict(fitted.weights)
    test = load_dataset("mnist/test")
    chosen = test.measuring_order()[:images]
    digits, labels = test.floats(chosen), test.labels[chosen]
    found = run_attacks(
        model, digits, labels, get_attacks("pgd", "linf"), [THREAT], rng=Randomness(0, chosen, ("ablation",))
    )
    clean = predict_logits(model, digits).argmax(1) == labels
    return float(clean.float().mean()), float((~found.broken).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--width", type=int, default=8, help="of the networks")
    parser.add_argument("--limit", type=int, default=500, help="test images")
    parser.add_argument("--only", nargs="*", default=[], help="names of arms")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    data, held = load_dataset("mnist/train"), load_dataset("mnist/validation")
    train = Split(data.images[: arguments.images], data.labels[: arguments.images])
    validation = Split(held.images[:1000], held.labels[:1000])
    attacks = {"PGD": {"steps": 7, "step_size": 0.08}, "fast gradient": {"steps": 1, "step_size": 0.3}}
    result: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for attack, settings in attacks.items():
        for name, recipe in arms(settings, arguments.width).items():
            if arguments.only and name not in arguments.only:
                continue
            rows = [measured(recipe, train, validation, seed, arguments.limit) for seed in range(arguments.seeds)]
            clean, robust = np.array(rows).T
            print(
                f"{attack:<14} {name:<26} clean {clean.mean():6.1%}   robust {robust.mean():6.1%} "
                f"({', '.join(f'{value:.1%}' for value in robust)})",
                flush=True,
            )
            result.setdefault(attack, {})[name] = rows
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
