"""The search for the recipe flagship-quick, and the figures of what it trained: the tables of docs/flagship.md.

    python benchmarks/flagship.py trial NAME [--set KEY=VALUE …]
    python benchmarks/flagship.py trials
    python benchmarks/flagship.py measure RUN [--out FOLDER] [--data-dir FOLDER]
    python benchmarks/flagship.py figures [SCORECARD]

A trial trains the recipe, changed as asked, for five epochs on 10,000 training images, and measures it on validation
images that chose nothing: as they are, under an attack of twenty steps in each norm, under the corruptions that are not
in MNIST-C, and by max-softmax against hardy's own outliers. Its figures are kept in benchmarks/flagship/. ``measure``
evaluates a run on the test split, once; the scorecard that it writes is shipped with the bundle.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hardy.corruptions import VALIDATION, corrupt_with
from hardy.data import load_dataset
from hardy.deployment import shipped
from hardy.deployment.bundle import SCORECARD
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.properties.adversarial.metrics import WORST
from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.metrics import auroc
from hardy.models import build_model, predict_logits
from hardy.ood import HEADLINE
from hardy.rng import Randomness
from hardy.synthetic.outliers import FITTING_FAMILIES, outliers_by_family
from hardy.threats import ThreatModel
from hardy.training import RECIPES, Recipe, Split, fit
from hardy.training.selection import ATTACKED_IMAGES, robust_accuracy

KEPT = Path(__file__).parent / "flagship"
TRAINED_ON, CHOOSES, HELD_OUT, OUTSIDE = 10_000, slice(100), slice(1000, 3000), slice(1000, 1500)
SHORT = {"epochs": 5, "batch_size": 128, "averaging": 0.99}
# As much of everything as two cores measure in half an hour.
BUDGET = replace(BUDGETS["standard"], simple_attacks=500, standard_attacks=200, corrupted=1000, sequences=200)


def trial(recipe: Recipe) -> dict[str, Any]:
    """Train by a recipe for a short time, and measure what it gave on held-out images."""
    train, validation = load_dataset("mnist/train"), load_dataset("mnist/validation")
    started = time.process_time()
    fitted = fit(
        recipe,
        Split(train.images[:TRAINED_ON], train.labels[:TRAINED_ON]),
        Split(validation.images[CHOOSES], validation.labels[CHOOSES]),
        len(train.classes),
        seed=0,
    )
    seconds = time.process_time() - started
    architecture = recipe.architecture(len(train.classes))
    model = build_model(architecture["name"], **architecture["arguments"])
    model.load_state_dict(fitted.weights)
    model.eval()
    held_out = Split(validation.images[HELD_OUT], validation.labels[HELD_OUT])
    images, labels = validation.floats(torch.arange(len(validation)))[OUTSIDE], validation.labels[OUTSIDE]
    rng = Randomness(0, torch.arange(len(images)), ("flagship trial",))
    threats = [ThreatModel("linf", 0.3), ThreatModel("l2", 2.0), ThreatModel("l1", 10.0)]

    def accuracy(seen: torch.Tensor, of: torch.Tensor) -> float:
        return round(float((predict_logits(model, seen).argmax(1) == of).float().mean()), 4)

    def strangeness(seen: torch.Tensor) -> Any:
        return -predict_logits(model, seen).softmax(1).amax(1).numpy()

    attacked = {it.norm: robust_accuracy(model, fitted.weights, held_out, [it]) for it in threats}
    return {
        "recipe": recipe.to_dict(),
        "seconds": round(seconds),
        "clean": accuracy(held_out.images.float() / 255, held_out.labels),
        "attacked": attacked | {"union": robust_accuracy(model, fitted.weights, held_out, threats)},
        "attacked_images": ATTACKED_IMAGES,
        "corruptions": {name: accuracy(corrupt_with(images, name, None, rng), labels) for name in VALIDATION},
        "outliers": {
            name: round(float(auroc(strangeness(images), strangeness(made))), 4)
            for name, made in outliers_by_family(images, rng, FITTING_FAMILIES).items()
        },
    }


def trials() -> str:
    """The kept trials as a table, the best union first."""
    rows = ["| Trial | Recipe | Clean | linf 0.3 | l2 2.0 | l1 10 | Union | Corruptions | Outliers | Seconds |"]
    rows += ["|" + "---|" * 10]
    found = {path.stem: json.loads(path.read_text()) for path in KEPT.glob("trial-*.json")}
    for name, it in sorted(found.items(), key=lambda pair: -pair[1]["attacked"]["union"]):
        recipe, attacked = it["recipe"], it["attacked"]
        arguments = ", ".join(f"{key} {value}" for key, value in recipe["model_arguments"].items()) or "no input layer"
        losses = " + ".join(each["loss"] for each in recipe["objectives"])
        shares = [it["clean"], *(attacked[key] for key in ("linf", "l2", "l1", "union")), _mean(it["corruptions"])]
        cells = [name.removeprefix("trial-"), f"{losses}; {arguments}", *(f"{100 * share:.1f}" for share in shares)]
        rows.append("| " + " | ".join([*cells, f"{_mean(it['outliers']):.3f}", str(it["seconds"])]) + " |")
    return "\n".join(rows)


class Row(NamedTuple):
    """A figure that was promised: what it is called, what is due, and where the scorecard has it."""

    title: str
    due: float | None
    property: str
    metric: str
    dataset: str = "mnist/test"
    setting: Mapping[str, Any] = {}


def _attacked(title: str, due: float | None, attack: str, norm: str, eps: float) -> Row:
    setting = {"attack": attack, "norm": norm, "eps": eps}
    return Row(title, due, "adversarial", "robust_accuracy", setting=setting)


def _told_apart(title: str, due: float | None, dataset: str) -> Row:
    return Row(title, due, "out_of_distribution", "auroc", dataset, {"score": HEADLINE})


ROWS = (
    Row("Clean accuracy", 0.992, "accuracy", "accuracy"),
    _attacked("linf 0.3, `standard`", 0.93, "standard", "linf", 0.3),
    _attacked("linf 0.3, the study's PGD", 0.945, "pgd", "linf", 0.3),
    _attacked("l2 1.5, DeepFool", 0.88, "deepfool", "l2", 1.5),
    _attacked("l2 2.0, `standard`", None, "standard", "l2", 2.0),
    _attacked("l1 10, `standard`", None, "standard", "l1", 10.0),
    Row("linf 0.3, l2 2.0 and l1 10 at once", 0.45, "adversarial", "robust_accuracy", setting={"norm": "union"}),
    Row("MNIST-C, mean over 15", 0.96, "distribution_shift", "mean_accuracy", setting={"families": "MNIST-C"}),
    _told_apart("AUROC notMNIST, discriminator", 0.995, "notmnist/test"),
    _told_apart("AUROC Fashion-MNIST, discriminator", 0.998, "fashion-mnist/test"),
    _told_apart("AUROC glyphs, discriminator", 0.96, "glyphs/test"),
    Row("ECE after temperature", None, "calibration", "ece", setting={"calibrator": "temperature", "bins": 15}),
    Row("Misclassification AUROC", 0.985, "error_detection", "auroc", setting={"score": "max_softmax"}),
)


def figures(scorecard: Scorecard) -> str:
    """What was promised of the recipe, and what was measured, as a table."""
    rows = ["| Figure | Due | Measured | 95 % interval | n | |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        found = [it for it in scorecard.estimates if _is(it, row)]
        if not found:
            rows.append(f"| {row.title} | {_number(row.due)} | not measured | | | |")
            continue
        it = min(found, key=lambda each: each.value) if row.property == "adversarial" else found[0]
        interval = "" if it.low is None or it.high is None else f"{_number(it.low)} to {_number(it.high)}"
        floor = it.chance_band[1] if it.metric == "ece" and it.chance_band else None
        due = f"chance, up to {_number(floor)}" if floor else _number(row.due)
        short = it.value > floor if floor else row.due is not None and it.value < row.due
        rows.append(f"| {row.title} | {due} | {_number(it.value)} | {interval} | {it.n} | {'falls short' * short} |")
    return "\n".join([*rows, "", *(f"- {words}" for words in scorecard.warnings)])


def _is(estimate: Estimate, row: Row) -> bool:
    """Where gradients seem to be masked, the worst that anything found stands for ``standard``."""
    setting = {**estimate.setting}
    if setting.get("attack") == WORST:
        setting["attack"] = "standard"
    place = (estimate.property, estimate.metric, estimate.dataset)
    return place == (row.property, row.metric, row.dataset) and row.setting.items() <= setting.items()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def measure(subject: Path, out: Path | None, data_dir: Path | None) -> Path:
    """Evaluate on the test split; what was begun goes on."""
    scorecard = evaluate(subject, budget=BUDGET, out=out or subject, data_dir=data_dir, resume=True)
    print(figures(scorecard))
    return (out or subject) / SCORECARD


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("trial", help="train a changed recipe for a short time, and keep its figures")
    one.add_argument("name")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    commands.add_parser("trials", help="print the kept trials")
    two = commands.add_parser("measure", help="evaluate on the test split")
    two.add_argument("subject", type=Path, help="the folder of a run")
    two.add_argument("--out", type=Path, help="a folder for the records; by default the run's own")
    two.add_argument("--data-dir", type=Path, help="where to look for datasets first")
    three = commands.add_parser("figures", help="print what was promised beside what a scorecard says")
    three.add_argument("scorecard", type=Path, nargs="?", default=shipped().get("flagship", Path()) / SCORECARD)
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.subject, arguments.out, arguments.data_dir)
        return
    if arguments.command == "figures":
        print(figures(Scorecard.read(arguments.scorecard)))
        return
    if arguments.command == "trials":
        print(trials())
        return
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    recipe = replace(RECIPES["flagship-quick"], **SHORT).with_settings(settings)
    found = trial(replace(recipe, name=arguments.name))
    (KEPT / f"trial-{arguments.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(trials())


if __name__ == "__main__":
    main()
