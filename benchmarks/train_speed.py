"""How fast hardy trains: the recipe 'fast' from several seeds, and an epoch of the study's networks.

    python benchmarks/train_speed.py [--seeds 5] [--epochs-of-study-nets] [--json PATH]

Seconds are those of training alone, choosing the best epoch included: the data is in memory, on the device, and what
torch imports when the first optimiser is made (some two seconds) is loaded. Test accuracy is on all of mnist/test, in
float32.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from hardy.data import load_dataset
from hardy.devices import choose_device, describe
from hardy.models import build_model
from hardy.runs import environment
from hardy.training import Recipe, Split, fit, validation_accuracy
from hardy.training.recipes import RECIPES

WANTED_ACCURACY = 0.99
WANTED_SECONDS = 8.0
# One epoch on two cores (Zen 5), bf16 autocast, channels-last, batches of 128.
PUBLISHED_SECONDS = {"kernel3": 143.0, "kernel5": 87.0, "kernel7": 94.0}


class Data(NamedTuple):
    train: Split
    validation: Split
    test: Split


class Timed(NamedTuple):
    seconds: float
    test_accuracy: float


def load(device: torch.device, images: int | None) -> Data:
    train, validation, test = (load_dataset(f"mnist/{split}") for split in ("train", "validation", "test"))
    return Data(
        Split(train.images[:images].to(device), train.labels[:images].to(device)),
        Split(validation.images.to(device), validation.labels.to(device)),
        Split(test.images.to(device), test.labels.to(device)),
    )


def timed_fit(recipe: Recipe, data: Data, seed: int) -> Timed:
    started = time.perf_counter()
    fitted = fit(recipe, data.train, data.validation, 10, seed=seed)
    if data.train.images.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    architecture = recipe.architecture(10)
    model = build_model(architecture["name"], **architecture["arguments"]).to(data.test.images.device)
    return Timed(seconds, validation_accuracy(model, fitted.weights, data.test))


def fast(data: Data, seeds: int) -> dict[str, Any]:
    rows = []
    for seed in range(seeds):
        row = timed_fit(RECIPES["fast"], data, seed)
        rows.append(row)
        print(f"fast, seed {seed}: {row.seconds:6.2f} s   test accuracy {row.test_accuracy:.2%}", flush=True)
    middle = Timed(median(row.seconds for row in rows), median(row.test_accuracy for row in rows))
    print(f"fast, median: {middle.seconds:6.2f} s   test accuracy {middle.test_accuracy:.2%}")
    reached = all(row.seconds <= WANTED_SECONDS and row.test_accuracy >= WANTED_ACCURACY for row in rows)
    answer = "yes" if reached else "no"
    print(f"all {seeds} seeds reach {WANTED_ACCURACY:.1%} within {WANTED_SECONDS:g} s: {answer}")
    return {"seeds": [row._asdict() for row in rows], "median": middle._asdict(), "all_reach": reached}


def study_nets(data: Data) -> dict[str, Any]:
    rows = {}
    for name, published in PUBLISHED_SECONDS.items():
        row = timed_fit(RECIPES.find(name).with_settings({"epochs": "1"}), data, 0)
        rows[name] = row._asdict() | {"published_seconds": published}
        print(
            f"{name}, one epoch: {row.seconds:6.1f} s (published {published:g} s)   "
            f"test accuracy {row.test_accuracy:.2%}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how often 'fast' is trained")
    parser.add_argument("--epochs-of-study-nets", action="store_true", help="one epoch of kernel3, kernel5 and kernel7")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, help="train on the first so many images only: to try this script out")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    data = load(device, arguments.images)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    print(f"{describe(device)}, {len(data.train.labels):,} training images")
    result: dict[str, Any] = {"environment": environment(describe(device), {}), "images": len(data.train.labels)}
    if arguments.seeds:
        result["fast"] = fast(data, arguments.seeds)
    if arguments.epochs_of_study_nets:
        result["study_nets"] = study_nets(data)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
