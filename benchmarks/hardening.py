"""Trains hardened recipes, one run each, and attacks them on mnist/test: the table of docs/hardening.md.

    python benchmarks/hardening.py --out FOLDER [RECIPE …] [--images 500] [--attacks standard] [--set epochs=2]

Robust accuracy is the worst case over the attacks, example by example, at linf 0.3, l2 2.0 and l1 10; the union is
over the three. Seconds are those of training, choosing the best epoch included. What is in FOLDER is not made again, so
a run that was stopped goes on; training that was stopped counts only the seconds since.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from hardy.attacks import get_attacks, run_attacks
from hardy.data import load_dataset
from hardy.devices import choose_device, describe
from hardy.models import predict_logits
from hardy.rng import Randomness
from hardy.runs import load_trained
from hardy.threats import NORMS, ThreatModel
from hardy.training import RECIPES, train
from hardy.training.recipes import HARDENED

RADII = {"linf": 0.3, "l2": 2.0, "l1": 10.0}
COLUMNS = ("clean", *RADII, "union")


def attacked(classifier: torch.nn.Module, images: int, attacks: str, device: torch.device) -> dict[str, float]:
    """Accuracy as it is, under attack in each norm, and in all of them, on the first so many in measuring order."""
    test = load_dataset("mnist/test")
    chosen = test.measuring_order()[:images]
    digits, labels = test.floats(chosen).to(device), test.labels[chosen].to(device)
    left = predict_logits(classifier, digits).argmax(1) == labels
    shares = {"clean": float(left.float().mean())}
    for norm in NORMS:
        if norm in RADII:
            found = run_attacks(
                classifier,
                digits,
                labels,
                get_attacks(attacks, norm),
                [ThreatModel(norm, RADII[norm])],
                rng=Randomness(0, chosen.to(device), ("benchmark",)),
            )
            shares[norm] = float((~found.broken).float().mean())
            left &= ~found.broken
    return shares | {"union": float(left.float().mean())}


def row(name: str, found: dict[str, Any]) -> str:
    shares = " ".join(f"{100 * found[column]:>6.1f}" for column in COLUMNS)
    return f"{name:<18} {found['epochs']:>6} {found['seconds']:>8.0f} {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=[recipe.name for recipe in HARDENED])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500, help="test images that are attacked")
    parser.add_argument("--attacks", default="standard", help="a suite or an attack")
    parser.add_argument("--data", default="mnist", help="what is trained on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change each recipe")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    print(f"{describe(device)}, {torch.get_num_threads()} threads; {arguments.images} images, {arguments.attacks}")
    print(f"{'recipe':<18} {'epochs':>6} {'seconds':>8} " + " ".join(f"{column:>6}" for column in COLUMNS), flush=True)
    for name in arguments.recipes:
        recipe = RECIPES.find(name).with_settings(settings)
        run = train(
            recipe, arguments.out / name, data=arguments.data, device=arguments.device, resume=True, progress=False
        )
        path = arguments.out / f"{name}-{arguments.attacks}-{arguments.images}.json"
        if not path.exists():
            classifier = load_trained(run.path)[0].to(device).eval()
            started = time.perf_counter()
            shares = attacked(classifier, arguments.images, arguments.attacks, device)
            training = run.manifest["training"]
            facts = {"epochs": recipe.epochs, "seconds": training["seconds_since_last_resume"]}
            facts |= {"attack_seconds": time.perf_counter() - started, "networks": training["networks"]}
            path.write_text(json.dumps({**shares, **facts}, indent=1) + "\n", encoding="utf-8")
        print(row(name, json.loads(path.read_text(encoding="utf-8"))), flush=True)


if __name__ == "__main__":
    main()
