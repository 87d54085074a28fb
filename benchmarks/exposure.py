"""Whether exposure to outliers generalizes: AUROC of one score on sets that training never saw, with and without.

    python benchmarks/exposure.py [--seeds 3] [--images 10000] [--epochs 3] [--width 8] [--data-dir FOLDER]

The score is max-softmax, named before looking; the arms are no exposure, hardy's synthetic outliers, and the training
images of Fashion-MNIST, as in the study, at its weight of 0.5. Out-of-distribution is the positive class. Sets that are
not at hand are left out. Nothing is chosen by these figures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hardy.data import available, load_dataset
from hardy.metrics import auroc
from hardy.models import build_model, predict_logits
from hardy.training import RECIPES, Objective, Split, Weight, fit

CLEAN = Objective("cross_entropy")
ARMS = {
    "none": (CLEAN,),
    "synthetic": (CLEAN, Objective("exposure", {"source": "synthetic"}, Weight(0.5))),
    "Fashion-MNIST": (CLEAN, Objective("exposure", {"source": "fashion-mnist/train"}, Weight(0.5))),
}
SETS = ("notmnist/test", "fashion-mnist/test", "kmnist/test", "emnist-letters/test", "glyphs/test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="of the compact network")
    parser.add_argument("--limit", type=int, default=2000, help="images of each set")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    data, held, test = (load_dataset(f"mnist/{it}") for it in ("train", "validation", "test"))
    train = Split(data.images[: arguments.images], data.labels[: arguments.images])
    validation = Split(held.images, held.labels)
    sets = {}
    for name in SETS:
        if available(arguments.data_dir).get(name, "unknown") is None:
            dataset = load_dataset(name, arguments.data_dir)
            sets[name] = dataset.floats(dataset.measuring_order()[: arguments.limit])
    digits = test.measuring_order()[: arguments.limit]
    recipe = RECIPES["compact"]
    recipe = replace(recipe, model_arguments={"width": arguments.width}, epochs=arguments.epochs)
    result: dict[str, Any] = {}
    print(f"{'exposure':<14} {'accuracy':>8} " + " ".join(f"{name.partition('/')[0]:>14}" for name in sets), flush=True)
    for arm, objectives in ARMS.items():
        if arm == "Fashion-MNIST" and available(arguments.data_dir).get("fashion-mnist/test", "unknown") is not None:
            continue
        rows = []
        for seed in range(arguments.seeds):
            fitted = fit(
                replace(recipe, objectives=objectives), train, validation, 10, seed=seed, data_dir=arguments.data_dir
            )
            model = build_model("compact", width=arguments.width).eval()
            model.load_state_dict(fitted.weights)
            inside = predict_logits(model, test.floats(digits))
            sure = {"inside": inside.softmax(1).amax(1)}
            sure |= {name: predict_logits(model, images).softmax(1).amax(1) for name, images in sets.items()}
            accuracy = float((inside.argmax(1) == test.labels[digits]).float().mean())
            found = [auroc(-sure["inside"].numpy(), -sure[name].numpy()) for name in sets]
            rows.append([accuracy, *map(float, found)])
        mean, low, high = np.mean(rows, 0), np.min(rows, 0), np.max(rows, 0)
        result[arm] = {"columns": ["accuracy", *sets], "seeds": rows}
        cells = [f"{mean[it]:.3f} ({low[it]:.2f}-{high[it]:.2f})" for it in range(1, len(mean))]
        print(f"{arm:<14} {mean[0]:>8.2%} " + " ".join(f"{cell:>14}" for cell in cells), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
