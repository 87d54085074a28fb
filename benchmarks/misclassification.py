"""How well mistakes are told from right answers: one recipe from several seeds, every score.

    python benchmarks/misclassification.py [--recipe fast] [--seeds 5] [--json PATH]

AUROC (positive: the mistake), AURC and excess AURC on all of mnist/test. The interval of a seed resamples examples;
that of the mean over seeds is Student's. The learned score is fitted on mnist/validation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from hardy.data import Dataset, load_dataset
from hardy.devices import choose_device, describe
from hardy.metrics import bootstrap, prepared_aurc, prepared_auroc, prepared_excess_aurc
from hardy.models import build_model
from hardy.ood import SCORES
from hardy.ood.learned_score import fit_learned_score, mistake_features
from hardy.rng import host_generator
from hardy.runs import environment
from hardy.training import Split, fit
from hardy.training.recipes import RECIPES

METRICS = ("auroc", "aurc", "excess_aurc")
SHOWN = ("max_softmax", "margin", "entropy", "energy", "max_logit", "generalized_entropy")


def logits_of(model: torch.nn.Module, data: Dataset, device: torch.device) -> NDArray[np.float32]:
    with torch.no_grad():
        return torch.cat(
            [model(data.floats(part).to(device)).cpu() for part in torch.arange(len(data)).split(500)]
        ).numpy()


def figures(score: NDArray, wrong: NDArray) -> dict[str, dict[str, float]]:
    """Each metric of a score with its 95 % interval."""
    auroc = prepared_auroc(score[~wrong], score[wrong])
    computed = {
        "auroc": lambda weights: auroc(np.concatenate([weights[~wrong], weights[wrong]])),
        "aurc": prepared_aurc(score, wrong),
        "excess_aurc": prepared_excess_aurc(score, wrong),
    }
    found = {}
    for metric in METRICS:
        low, high = bootstrap(computed[metric], [len(score)], host_generator(0, "bootstrap"))
        found[metric] = {"value": computed[metric](np.ones(len(score))), "low": low, "high": high}
    return found


def one_seed(
    recipe: str, seed: int, splits: Mapping[str, Dataset], device: torch.device, epochs: str | None
) -> dict[str, Any]:
    chosen = RECIPES.find(recipe).with_settings({"epochs": epochs} if epochs else {})
    train, validation = (
        Split(splits[name].images.to(device), splits[name].labels.to(device)) for name in ("train", "validation")
    )
    fitted = fit(chosen, train, validation, 10, seed=seed)
    architecture = chosen.architecture(10)
    model = build_model(architecture["name"], **architecture["arguments"]).to(device).eval()
    model.load_state_dict(fitted.weights)
    there, here = (logits_of(model, splits[name], device) for name in ("validation", "test"))
    wrong_there, wrong = (
        logits.argmax(axis=1) != splits[name].labels.numpy() for name, logits in (("validation", there), ("test", here))
    )
    scores = {name: SCORES[name](here) for name in SHOWN}
    scores["learned"] = fit_learned_score(mistake_features(there), wrong_there)(mistake_features(here))
    return {
        "seed": seed,
        "mistakes": int(wrong.sum()),
        "mistakes_fitted_on": int(wrong_there.sum()),
        "scores": {name: figures(score, wrong) for name, score in scores.items()},
    }


def over_seeds(values: list[float]) -> dict[str, float]:
    """The mean over seeds with its 95 % interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return {"mean": mean, "low": mean - half, "high": mean + half}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", help="train for so many epochs instead of the recipe's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    splits = {name: load_dataset(f"mnist/{name}") for name in ("train", "validation", "test")}
    print(f"{arguments.recipe} on {describe(device)}")
    rows = []
    for seed in range(arguments.seeds):
        row = one_seed(arguments.recipe, seed, splits, device, arguments.epochs)
        rows.append(row)
        print(f"seed {seed}: {row['mistakes']} mistakes; {row['mistakes_fitted_on']} on mnist/validation")
        for name, found in row["scores"].items():
            words = (
                f"{metric} {it['value']:.5f} ({it['low']:.5f} to {it['high']:.5f})" for metric, it in found.items()
            )
            print(f"  {name:20}", *words, sep="  ", flush=True)
    names = rows[0]["scores"]
    means = {
        name: {metric: over_seeds([row["scores"][name][metric]["value"] for row in rows]) for metric in METRICS}
        for name in names
    }
    print(f"mean over {len(rows)} seeds")
    for name, found in means.items():
        words = (f"{metric} {it['mean']:.5f} ({it['low']:.5f} to {it['high']:.5f})" for metric, it in found.items())
        print(f"  {name:20}", *words, sep="  ")
    if arguments.json:
        result = {
            "environment": environment(describe(device), {}),
            "recipe": arguments.recipe,
            "seeds": rows,
            "means": means,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
