"""Which score to name: what each refuses of every synthetic family, where 1 % of the validation images are refused.

    python benchmarks/detection_table.py RUN [--refusal 0.01] [--images 300] [--training 10000] [--json PATH]
        [--only discriminator combination] [--left-out mirrored spliced]

The rule, stated before looking: the score whose worst family is refused the most, and of equals (to 1 %) the one with
the larger mean. Families are those that detectors may be fitted on, once as they are made and once as preprocessing
leaves them; the worse of the two counts. A score that is fitted on outliers is fitted anew for each family, on all
others: every figure is of a family that was not seen. Families that are held out from fitting are shown, and
nothing is chosen by them. No dataset of outliers is read.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hardy.data import load_dataset
from hardy.deployment.preprocessing import preprocess
from hardy.evaluation.subject import load_subject
from hardy.ood import (
    COMBINATION,
    Detector,
    Features,
    extract,
    fit_combination,
    fit_detector,
    fit_exposed,
    usable,
)
from hardy.ood.features import concatenate
from hardy.rng import Randomness
from hardy.synthetic.outliers import FITTING_FAMILIES, OUTLIERS, outliers_by_family
from hardy.validation import frozen_evaluation

LEAST = 30
"""Families of which preprocessing leaves fewer images are refused without any score."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--refusal", type=float, default=0.01, help="the share of validation images refused")
    parser.add_argument("--images", type=int, default=300, help="images per family")
    parser.add_argument("--training", type=int, default=10_000, help="training images to fit on")
    parser.add_argument("--only", nargs="+", help="these scores alone")
    parser.add_argument("--left-out", nargs="+", choices=FITTING_FAMILIES, help="by default each family in turn")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    classifier = load_subject(arguments.run).classifier
    train, validation = (load_dataset(f"mnist/{split}") for split in ("train", "validation"))
    order, chosen = validation.measuring_order(), train.measuring_order()[: arguments.training]
    half = len(order) // 2
    table: dict[str, dict[str, float]] = {}
    with frozen_evaluation(classifier):
        training, labels = extract(classifier, train.floats(chosen)), train.labels[chosen].numpy()
        fitting, inside = (extract(classifier, validation.floats(part)) for part in (order[:half], order[half:]))
        families: dict[str, list[Features]] = {}
        rest = train.measuring_order()[-arguments.images :]
        for name, images in outliers_by_family(train.floats(rest), Randomness(1, rest), tuple(OUTLIERS)).items():
            shown = preprocess(images[:, 0])
            kept = shown.images[shown.foreground]
            families[name] = [extract(classifier, it) for it in (images, kept) if len(it) >= LEAST]

        left_out = tuple(arguments.left_out or FITTING_FAMILIES)
        held_out = [family for family in families if family not in FITTING_FAMILIES]
        shown_families = [*left_out, *held_out]

        def refused(detector: Detector, names: Sequence[str]) -> dict[str, float]:
            threshold = np.quantile(detector.scores(inside), 1 - arguments.refusal, method="higher")
            return {
                name: min(float((detector.scores(it) > threshold).mean()) for it in families[name]) for name in names
            }

        def note(name: str, row: dict[str, float], started: float) -> None:
            seen = [row[family] for family in left_out]
            table[name] = {family: row[family] for family in shown_families} | {
                "worst": min(seen),
                "mean": float(np.mean(seen)),
                "seconds": time.process_time() - started,
            }
            shares = [f"{value:8.1%}" for value in list(table[name].values())[:-1]]
            print(f"{name:22s}", *shares, f"{table[name]['seconds']:8.1f}", flush=True)

        print(f"{'score':22s}", *(f"{name[:8]:>8s}" for name in (*shown_families, "worst", "mean", "seconds")))
        single: dict[str, Detector] = {}
        for name in usable(training):
            started = time.process_time()
            single[name] = fit_detector(name, training, labels)
            if not arguments.only or name in arguments.only:
                note(name, refused(single[name], shown_families), started)

        def others(family: str) -> list[Features]:
            return [it for name in FITTING_FAMILIES if name != family for it in families[name]]

        for name, fit in {
            "discriminator": lambda seen: fit_exposed(training, seen),
            COMBINATION: lambda seen: fit_combination(list(single.values()), fitting, concatenate(seen)),
        }.items():
            if arguments.only and name not in arguments.only:
                continue
            started = time.process_time()
            row = refused(fit(others("")), held_out)
            for family in left_out:
                row |= refused(fit(others(family)), [family])
            note(name, row, started)
    best = max(table, key=lambda name: (round(table[name]["worst"], 2), table[name]["mean"]))
    print(f"by the rule: {best}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
