"""What corruptions do to trained classifiers: accuracy, the effect of rounding to 8 bits, and the study's two claims.

    python benchmarks/corruption_accuracy.py RUN [RUN …] [--limit N] [--json PATH]

All of mnist/test, each family of MNIST-C at its default severity, made by hardy with seed 0, as floats and rounded
to 8 bits. The study claims 99 % under rotation and under noise for every model and does not say how much of either; so
accuracy is given for turns by up to so many degrees and for normal noise of several standard deviations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hardy.augmentations import augment
from hardy.corruptions import PUBLISHED, corrupt_with
from hardy.data import load_dataset
from hardy.evaluation.subject import load_subject
from hardy.rng import Randomness

TURNS = (5, 10, 15, 20, 30)
DEVIATIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
BATCH = 500


def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        right = [
            (classifier(part).argmax(1) == of).sum()
            for part, of in zip(images.split(BATCH), labels.split(BATCH), strict=True)
        ]
    return int(sum(right)) / len(labels)


def measure(run: str, images: Tensor, labels: Tensor, rng: Randomness) -> dict[str, Any]:
    classifier = load_subject(run).classifier.eval()
    found: dict[str, Any] = {"clean": accuracy(classifier, images, labels), "corruptions": {}, "claims": {}}
    print(f"\n{run}: clean {found['clean']:.2%}\n\n| Corruption | Accuracy | rounded to 8 bits |\n|---|---|---|")
    for name in PUBLISHED:
        corrupted = corrupt_with(images, name, None, rng)
        pair = [accuracy(classifier, them, labels) for them in (corrupted, torch.round(corrupted * 255) / 255)]
        found["corruptions"][name] = pair
        print(f"| {name} | {pair[0]:.2%} | {pair[1]:.2%} |", flush=True)
    means = [sum(column) / len(PUBLISHED) for column in zip(*found["corruptions"].values(), strict=True)]
    print(f"| mean over the 15 | {means[0]:.2%} | {means[1]:.2%} |\n")
    claims = {f"turned by up to {turn} degrees": {"rotate": {"degrees": float(turn)}} for turn in TURNS}
    claims |= {f"noise of deviation {size:g}": {"gaussian_noise": {"deviation": size}} for size in DEVIATIONS}
    for claim, steps in claims.items():
        found["claims"][claim] = accuracy(classifier, augment(images, labels, rng, steps)[0], labels)
        print(f"{claim}: {found['claims'][claim]:.2%}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--limit", type=int, help="so many test images only: to try this script out")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    test = load_dataset("mnist/test")
    indices = test.measuring_order()[: arguments.limit]
    rng = Randomness(0, indices)
    images, labels = test.floats(indices), test.labels[indices]
    result = {run: measure(run, images, labels, rng) for run in arguments.runs}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
