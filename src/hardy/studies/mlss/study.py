"""Training and measuring every network of the study, resumable at every network and every measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from hardy.data import available, load_dataset
from hardy.devices import choose_device
from hardy.files import write_bytes
from hardy.models import Ensemble, build_model
from hardy.models.weights import load_weights
from hardy.rng import derive
from hardy.studies.framework import Options, Prepared, Study
from hardy.studies.mlss.measured import OUTSIDE, mlss_property
from hardy.studies.mlss.networks import (
    EFFORTS,
    NETWORKS,
    OUTLIERS,
    PARTS,
    Effort,
    Network,
    chosen_networks,
    recipe_of,
)
from hardy.studies.mlss.page import make_page
from hardy.training import Recipe, Split, fit

_TIMED = 32
# Rough costs in forward passes per image, for the estimate of time alone: seven attacks, and ODIN's grid.
_ATTACKS, _ODIN = 500, 48


def prepare(options: Options, out: Path) -> Prepared:
    effort = EFFORTS[options.budget]
    device = choose_device(options.device)
    train, validation = (load_dataset(f"mnist/{split}", options.data_dir) for split in ("train", "validation"))
    chosen = train.measuring_order()[: min(effort.images, options.limit or effort.images)]
    split = Split(train.images[chosen].to(device), train.labels[chosen].to(device))
    choosing = Split(validation.images.to(device), validation.labels.to(device))
    classes = len(train.classes)
    reasons = available(options.data_dir, "out-of-distribution")
    outliers_at_hand = _at_hand(OUTLIERS, options.data_dir)
    networks = {it.key: it for it in chosen_networks(options.only, outliers_at_hand)}

    def trained(network: Network, stop: Callable[[], bool]) -> nn.Module:
        if network.members:
            return Ensemble([trained(NETWORKS[it], stop) for it in network.members]).eval()
        recipe = recipe_of(network, effort, options.epochs)
        architecture = recipe.architecture(classes)
        classifier = build_model(architecture["name"], **architecture["arguments"])
        weights = out / "networks" / f"{network.key}.safetensors"
        if not weights.exists():
            _train(recipe, split, choosing, classes, weights, options, stop)
        load_weights(classifier, weights)
        return classifier.to(device).eval()

    at_hand = [name for name in OUTSIDE if reasons.get(name, "unknown") is None]
    data = {it.name: it.sha256 for it in (train, validation)}
    data |= {name: load_dataset(name, options.data_dir).sha256 for name in ("mnist/test", *at_hand)}
    recipes = {
        key: recipe_of(it, effort, options.epochs).to_dict() for key, it in networks.items() if it.recipe is not None
    }
    missing = [name for name in OUTSIDE if name not in at_hand] + [OUTLIERS] * (not outliers_at_hand)
    return Prepared(
        list(networks),
        {"data": data, "recipes": recipes, "training_images": len(chosen), "missing": missing},
        lambda arm, stop: trained(networks[arm], stop),
        lambda arm: mlss_property(sorted(networks[arm].parts), effort.sizes),
        plan=_plan(list(networks.values()), effort, options, len(chosen), classes, missing),
        random=frozenset(key for key, it in networks.items() if it.random),
    )


def _at_hand(name: str, data_dir: Path | None) -> bool:
    family = name.partition("/")[0]
    reasons = available(data_dir, "out-of-distribution")
    return any(reason is None for other, reason in reasons.items() if other.startswith(family))


def _train(
    recipe: Recipe,
    split: Split,
    choosing: Split,
    classes: int,
    weights: Path,
    options: Options,
    stop: Callable[[], bool],
) -> None:
    checkpoint = weights.with_suffix(".checkpoint")
    fitted = fit(
        recipe,
        split,
        choosing,
        classes,
        seed=derive(options.seed, "mlss", recipe.name),
        checkpoint=checkpoint,
        stop=stop,
        data_dir=options.data_dir,
    )
    content: dict[str, Tensor] = {name: value.detach().cpu().contiguous() for name, value in fitted.weights.items()}
    write_bytes(weights, save(content))
    checkpoint.unlink(missing_ok=True)


def _plan(
    networks: list[Network], effort: Effort, options: Options, images: int, classes: int, missing: list[str]
) -> str:
    """What will be trained and measured, and about how long that takes on this machine."""
    lines, seconds = [], 0.0
    for network in networks:
        pass_seconds = sum(_seconds_per_image(NETWORKS[it], classes) for it in network.members or (network.key,))
        training = 0.0
        if network.recipe is not None:
            recipe = recipe_of(network, effort, options.epochs)
            search = max((int(it.settings.get("steps", 0)) for it in recipe.objectives), default=0)
            training = 3.0 * pass_seconds * images * recipe.epochs * (1 + search)
        sizes, parts = effort.sizes, network.parts
        measuring = pass_seconds * (
            sizes.clean
            + ("attacks" in parts) * sizes.attacked * _ATTACKS
            + ("augmentation" in parts) * (2 * sizes.changed + 15 * sizes.corrupted)
            + ("detection" in parts) * 3 * (sizes.detected + _ODIN * sizes.odin)
        )
        seconds += training + measuring
        epochs = recipe_of(network, effort, options.epochs).epochs if network.recipe else 0
        what = f"trained {epochs} epochs" if epochs else "an ensemble"
        lines.append(f"  {network.key}: {what}, some {(training + measuring) / 60:.1f} minutes")
    absent = f"\nNot at hand, so left out: {', '.join(missing)}." if missing else ""
    return (
        f"{len(networks)} networks on {images:,} training images, some {seconds / 60:.0f} minutes on this machine "
        "while nothing else runs; what is finished is not done again:\n" + "\n".join(lines) + absent
    )


def _seconds_per_image(network: Network, classes: int) -> float:
    assert network.recipe is not None
    architecture = network.recipe.architecture(classes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build_model(architecture["name"], **architecture["arguments"]).eval()
        images = torch.zeros(_TIMED, 1, 28, 28)
        model(images)
        started = time.perf_counter()
        model(images)
        return (time.perf_counter() - started) / _TIMED


MLSS = Study(
    name="mlss",
    description="the study that hardy grew from: its tables side by side with the published ones, its claims answered",
    model="cnn",
    parts=PARTS,
    prepare=prepare,
    summarize=make_page,
    takes_epochs=True,
    takes_seeds=False,
)
