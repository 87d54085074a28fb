"""Training as a run: from a recipe and a folder to weights and a manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save

from hardy.data import load_dataset, split_hashes
from hardy.data.loading import trainable
from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError
from hardy.files import atomic_write, sha256_of
from hardy.progress import progress_bars
from hardy.rng import derive
from hardy.runs import Run, environment, holds_out, new_folder
from hardy.training.filling import fill_in
from hardy.training.interrupt import stop_on_signal
from hardy.training.loop import Fitted, Update, check_suits, fit
from hardy.training.recipe import Recipe
from hardy.training.recipes import RECIPES
from hardy.training.seen import seen_in_training
from hardy.training.selection import Split

Report = Callable[[str, Update], None]


@holds_out
def train(
    recipe: Recipe | str,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    data: str = "mnist",
    data_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    report: Report | None = None,
) -> Run:
    """Train by ``recipe`` into the run folder ``out``: ``run.json``, ``weights.safetensors``, checkpoints on the way.

    Args:
        recipe: how to train, or the name of one of :data:`RECIPES`.
        out: a folder that is missing or empty, by default a new ``runs/NAME-1``, ``runs/NAME-2``, … after the recipe;
            with ``resume`` the folder of an interrupted training.
        seed: every random number comes from it.
        device: ``auto``, ``cpu``, ``cuda``, …
        data: the dataset; its ``train`` split is trained on, its ``validation`` split chooses the best epoch. Of a
            folder or a file that has no such splits, a fifth of the images is set apart for testing and a tenth for
            validation (see :func:`hardy.data.load_user_dataset`). Networks get the channels and the size of its images.
        data_dir: where to look for datasets first.
        resume: continue an interrupted training; a finished one is returned as it is.
        progress: draw a progress bar per network, in a terminal or a notebook.
        report: called with the name of the network that is being trained and its progress, in place of the bars.

    Raises:
        Stopped: SIGINT or SIGTERM came; the checkpoint is written.
        UsageError: no such recipe, or it does not suit the data; nothing is written then.
        RunError: the folder holds something else, or a training with other settings.
        HardyError: training has collapsed.

    Example:
        >>> from dataclasses import replace
        >>> from hardy.training import RECIPES, train
        >>> small = replace(RECIPES["fast"], model_arguments={"width": 8}, epochs=2, averaging=0.9)
        >>> run = train(small, data="digits.npz")
        >>> run.path, run.manifest["training"]["status"]
        (PosixPath('runs/fast-1'), 'trained')
    """
    if isinstance(recipe, str):
        recipe = RECIPES.find(recipe)
    if out is None and resume:
        raise UsageError("resuming takes the folder of the interrupted training; name it as out")
    out = Path(out) if out is not None else new_folder(recipe.name)
    run = Run.open_or_create(out) if resume else Run.create(out)
    data = trainable(data)
    training_set, validation = (load_dataset(f"{data}/{split}", data_dir=data_dir) for split in ("train", "validation"))
    recipe = fill_in(recipe, training_set.images.shape[1:])
    on = choose_device(device)
    checkpoints = out / "checkpoints"
    classes = len(training_set.classes)
    hashes = {split.name: split.sha256 for split in (training_set, validation)}
    settings: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "data": data,
        "hashes": hashes,
        # Of images that a share was set apart of, the hashes say it all.
        "split_indices": {} if "?" in data else split_hashes(len(training_set) + len(validation)),
    }
    found = run.manifest.get("training")
    if found is None and "schema" in run.manifest and len(run.manifest) > 1:
        raise RunError(f"{out} holds a run that was not trained here; choose another --out")
    if found is not None:
        found["recipe"] = Recipe.from_dict(found["recipe"]).to_dict()
    for key, value in settings.items():
        if found is not None and found[key] != value:
            what = {"hashes": "version of the data"}.get(key, key)
            raise RunError(f"{out} was trained with another {what}; resume with the same, or choose another --out")
    if found is not None and found["status"] == "trained":
        shutil.rmtree(checkpoints, ignore_errors=True)
        return run
    for network in recipe.networks:
        check_suits(network, training_set.images, classes, data=data, data_dir=data_dir)
    run.manifest |= {
        "model": recipe.architecture(classes),
        "classes": list(training_set.classes),
        "input": list(training_set.images.shape[1:]),
        "training": settings
        | {
            "status": "training",
            "seen": seen_in_training(recipe, data, data_dir),
            "environment": environment(describe(on), hashes),
        },
    }
    run.save()

    train_split, validation_split = (Split(one.images.to(on), one.labels.to(on)) for one in (training_set, validation))
    fitted = []
    started = time.perf_counter()
    with stop_on_signal() as stop, progress_bars("training", progress and report is None) as draw:
        tell = report or (lambda name, update: draw(update.step, update.steps, update.text, name))
        for number, network in enumerate(recipe.networks):
            fitted.append(
                fit(
                    network,
                    train_split,
                    validation_split,
                    classes,
                    seed=derive(seed, "member", number) if recipe.members and not recipe.joint else seed,
                    checkpoint=checkpoints / f"{number}.safetensors",
                    report=lambda update, name=network.name: tell(name, update),
                    stop=stop,
                    data_dir=data_dir,
                )
            )
    _finish(run, recipe, fitted, time.perf_counter() - started)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return run


def _finish(run: Run, recipe: Recipe, fitted: list[Fitted], seconds: float) -> None:
    apart = recipe.members and not recipe.joint
    prefixes = [f"members.{number}." for number in range(len(fitted))] if apart else [""]
    weights = {
        prefix + name: value.detach().cpu().contiguous()
        for prefix, network in zip(prefixes, fitted, strict=True)
        for name, value in network.weights.items()
    }
    with atomic_write(run.weights) as temporary:
        temporary.write_bytes(save(weights))
    run.manifest["weights_sha256"] = sha256_of(run.weights)
    run.manifest["training"] |= {
        "status": "trained",
        "seconds_since_last_resume": round(seconds, 2),
        "networks": [
            {"name": network.name, "validation_accuracy": result.accuracy}
            | ({} if result.robust_accuracy is None else {"robust_accuracy": result.robust_accuracy})
            | {"notes": list(result.notes), "history": result.history}
            for network, result in zip(recipe.networks, fitted, strict=True)
        ],
    }
    run.save()
