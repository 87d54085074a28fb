"""How long each score takes: features once, then every detector, and ODIN, on 10,000 + 10,000 images.

    python benchmarks/detection_speed.py [RUN] [--images 10000] [--json PATH]

Without a run the compact network is taken as it is initialised: what it answers does not change how long it takes. The
images are mnist/test and Fashion-MNIST's, or pixels of mnist/test in random order where that is not at hand. Reading
the data is not timed; fitting is, and is told apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from hardy.data import load_dataset
from hardy.devices import choose_device, describe
from hardy.errors import DataError
from hardy.evaluation.subject import load_subject
from hardy.models import build_model
from hardy.ood import OdinSetting, extract, fit_combination, fit_detector, odin_scores, usable
from hardy.ood.detector import COMBINATION
from hardy.rng import Randomness
from hardy.runs import environment
from hardy.synthetic.outliers import FITTING_FAMILIES, OUTLIERS, make_outliers
from hardy.validation import frozen_evaluation

WANTED_SECONDS = 60.0
TRAINING, FITTING = 10_000, 1000
STUDYS_SETTING = OdinSetting(0.33, 0.1)

Result = TypeVar("Result")


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started


def images_to_score(count: int) -> torch.Tensor:
    inside = load_dataset("mnist/test").floats(slice(count))
    try:
        outside = load_dataset("fashion-mnist/test").floats(slice(count))
    except DataError:
        outside = OUTLIERS["permuted_pixels"].function(inside, Randomness(0, torch.arange(len(inside))))
    return torch.cat([inside, outside])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run; the compact network if none")
    parser.add_argument("--images", type=int, default=10_000, help="how many of each of the two datasets")
    parser.add_argument("--training", type=int, default=TRAINING, help="how many training images to fit on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    classifier = (load_subject(arguments.run).classifier if arguments.run else build_model("compact")).to(device)
    images = images_to_score(arguments.images).to(device)
    train, validation = load_dataset("mnist/train"), load_dataset("mnist/validation")
    chosen, last = train.measuring_order()[: arguments.training], validation.measuring_order()[-FITTING:]
    labels = train.labels[chosen].numpy()
    inside = validation.floats(last).to(device)
    outside = make_outliers(inside, Randomness(0, last.to(device)), FITTING_FAMILIES)
    print(f"{describe(device)}; {len(images):,} images; fitted on {len(chosen):,}", flush=True)

    rows: dict[str, dict[str, float]] = {}

    def note(name: str, fit: float, score: float) -> None:
        rows[name] = {"fit_seconds": fit, "score_seconds": score}
        print(f"{name:24s} fit {fit:7.2f} s   score {score:7.2f} s", flush=True)

    with frozen_evaluation(classifier):
        training, fit = timed(lambda: extract(classifier, train.floats(chosen).to(device)))
        features, score = timed(lambda: extract(classifier, images))
        note("features", fit, score)
        detectors = []
        for name in usable(features):
            detector, fit = timed(lambda name=name: fit_detector(name, training, labels))
            _, score = timed(lambda detector=detector: detector.scores(features))
            detectors.append(detector)
            note(name, fit, score)
        combined, fit = timed(
            lambda: fit_combination(detectors, extract(classifier, inside), extract(classifier, outside))
        )
        _, score = timed(lambda: combined.scores(features))
        note(COMBINATION, fit, score)
        _, score = timed(lambda: odin_scores(classifier, images, STUDYS_SETTING))
        note("odin", 0.0, score)
    fit, score = (sum(row[key] for row in rows.values()) for key in ("fit_seconds", "score_seconds"))
    answer = "yes" if score <= WANTED_SECONDS else "no"
    print(f"in all: fit {fit:.1f} s, score {score:.1f} s; scored within {WANTED_SECONDS:g} s: {answer}")
    result: dict[str, Any] = {"environment": environment(describe(device), {}), "images": len(images), "scores": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
