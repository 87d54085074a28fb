"""The study's CNN with dropout off, and what it scores with dropout left on in evaluation mode.

    python benchmarks/dropout_left_on.py [--seeds 3]

Accuracy on all of mnist/test, in float32. The study reports 81 % under noise that hardly changes an image.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch

from hardy.attacks import ATTACKS, run_attack
from hardy.data import load_dataset
from hardy.models import build_model
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.training import Split, fit
from hardy.training.recipes import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    train, validation, test = (load_dataset(f"mnist/{split}") for split in ("train", "validation", "test"))
    images, labels = test.floats(), test.labels
    rows = []
    for seed in range(arguments.seeds):
        fitted = fit(
            RECIPES["cnn"],
            Split(train.images, train.labels),
            Split(validation.images, validation.labels),
            10,
            seed=seed,
        )
        row = []
        for dropout_left_on in (False, True):
            model = build_model("cnn", dropout_left_on=dropout_left_on).eval()
            model.load_state_dict(fitted.weights)
            torch.manual_seed(seed)
            with torch.no_grad():
                row.append(float((model(images).argmax(1) == labels).float().mean()))
            noise = run_attack(
                model,
                images,
                labels,
                ATTACKS["noise"],
                [ThreatModel("l2", 0.3)],
                rng=Randomness(seed, torch.arange(len(test))),
            )
            row.append(float((noise.min_norm > 0.3).float().mean()))
        rows.append(row)
        print_row(f"seed {seed}", row)
    print_row("median", [median(column) for column in zip(*rows, strict=True)])


def print_row(name: str, row: list[float]) -> None:
    off, off_noise, on, on_noise = row
    print(
        f"{name}: dropout off {off:.2%} (Gaussian noise of l2 norm 0.3: {off_noise:.2%}), "
        f"left on {on:.2%} (noise: {on_noise:.2%})",
        flush=True,
    )


if __name__ == "__main__":
    main()
