"""What each score is worth: AUROC on made outliers, by which to choose, and on the datasets that are at hand.

    python benchmarks/detection_table.py RUN [--images 2000] [--json PATH]

The first column is validation digits against made outliers of all families: what a score may be chosen by. The rest are
test digits against datasets that nothing was fitted to or chosen by. For an ensemble, ViM of each member alone follows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from hardy.data import available, load_dataset
from hardy.evaluation.properties.ood.measure import FITTING_FAMILIES, ODIN_IMAGES
from hardy.evaluation.subject import load_subject
from hardy.metrics import auroc
from hardy.ood import (
    Detector,
    choose_odin,
    extract,
    fit_combination,
    fit_detector,
    odin_scores,
    usable,
)
from hardy.ood.detector import COMBINATION
from hardy.rng import Randomness
from hardy.synthetic.outliers import OUTLIERS, make_outliers
from hardy.validation import frozen_evaluation

TRAINING, FITTING = 10_000, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=2000, help="at most so many images of each dataset")
    parser.add_argument("--training", type=int, default=TRAINING, help="how many training images to fit on")
    parser.add_argument("--odin", action="store_true", help="choose and measure ODIN as well")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    classifier = load_subject(arguments.run).classifier
    train, validation, test = (load_dataset(f"mnist/{split}") for split in ("train", "validation", "test"))
    chosen, order = train.measuring_order()[: arguments.training], validation.measuring_order()
    choosing, fitting = order[: min(arguments.images, len(order) // 2)], order[-FITTING:]
    images = {
        "validation": validation.floats(choosing),
        "made": make_outliers(validation.floats(choosing), Randomness(1, choosing), tuple(OUTLIERS)),
        "test": test.floats(test.measuring_order()[: arguments.images]),
    }
    for name, reason in available(role="out-of-distribution").items():
        if reason is None:
            dataset = load_dataset(name)
            images[name] = dataset.floats(dataset.measuring_order()[: arguments.images])
    inside = validation.floats(fitting)
    outside = make_outliers(inside, Randomness(0, fitting), FITTING_FAMILIES)
    sets = [name for name in images if name not in ("validation", "made", "test")]
    table: dict[str, dict[str, float]] = {}

    def note(name: str, scores: dict[str, np.ndarray]) -> None:
        row = {"made": auroc(scores["validation"], scores["made"])}
        row |= {it: auroc(scores["test"], scores[it]) for it in sets}
        table[name] = row
        print(f"{name:24s}", *(f"{value:18.4f}" for value in row.values()), flush=True)

    with frozen_evaluation(classifier):
        training, labels = extract(classifier, train.floats(chosen)), train.labels[chosen].numpy()
        features = {name: extract(classifier, each) for name, each in images.items()}
        print(f"{'score':24s}", *(f"{name:>18s}" for name in ("made", *sets)))
        detectors: list[Detector] = []
        for name in usable(training):
            detectors.append(fit_detector(name, training, labels))
            note(name, {key: detectors[-1].scores(each) for key, each in features.items()})
        combined = fit_combination(detectors, extract(classifier, inside), extract(classifier, outside))
        note(COMBINATION, {key: combined.scores(each) for key, each in features.items()})
        if len(training.members) > 1 and not training.reason:
            for number in range(len(training.members)):
                alone = fit_detector("vim", training.of_member(number), labels)
                note(
                    f"vim, member {number}",
                    {key: alone.scores(each.of_member(number)) for key, each in features.items()},
                )
        if arguments.odin:
            setting = choose_odin(classifier, inside[:ODIN_IMAGES], outside[:ODIN_IMAGES])
            print(f"ODIN chosen on made outliers: T = {setting.temperature:g}, eps = {setting.eps:g}")
            note("odin", {key: odin_scores(classifier, each, setting) for key, each in images.items()})
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
