"""Training and measuring every network of the study, resumable at every network and every measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from hardy.data import available, load_dataset
from hardy.devices import choose_device
from hardy.evaluation.subject import Subject, load_subject
from hardy.files import write_bytes
from hardy.models import Ensemble, build_model
from hardy.models.weights import load_weights
from hardy.rng import derive
from hardy.studies.framework import Options, Prepared, Study
from hardy.studies.mlss.measured import OUTSIDE, Sizes, mlss_properties
from hardy.studies.mlss.networks import (
    EFFORTS,
    NETWORKS,
    OUTLIERS,
    PARTS,
    Effort,
    Network,
    chosen_networks,
    images_of,
    recipe_of,
)
from hardy.studies.mlss.page import make_page
from hardy.training import Recipe, Split, fit
from hardy.validation import Images, Logits

_TIMED = 8
# Rough costs in forward passes per image, for the estimate of time alone: a gradient, and all seven attacks.
_GRADIENT, _ATTACKED = 3.0, 600


def prepare(options: Options, out: Path) -> Prepared:
    effort = EFFORTS[options.budget]
    device = choose_device(options.device)
    train, validation = (load_dataset(f"mnist/{split}", options.data_dir) for split in ("train", "validation"))
    order, chosen = train.measuring_order(), validation.measuring_order()[: effort.validation]
    choosing = Split(validation.images[chosen].to(device), validation.labels[chosen].to(device))
    classes = len(train.classes)
    reasons = available(options.data_dir, "out-of-distribution")
    outliers_at_hand = _at_hand(OUTLIERS, options.data_dir)
    networks = chosen_networks(options.only, outliers_at_hand, options.hardened)
    by_key = {it.key: it for it in networks}
    taken = {it.key: load_subject(it.taken) for it in networks if it.taken}

    def trained(network: Network, stop: Callable[[], bool]) -> nn.Module:
        if network.taken:
            return taken[network.key].classifier
        if network.members:
            members = [trained(NETWORKS[it], stop) for it in network.members]
            return (Shown(members[0], *network.shown) if network.shown else Ensemble(members)).eval()
        recipe = recipe_of(network, effort, options.epochs)
        architecture = recipe.architecture(classes)
        classifier = build_model(architecture["name"], **architecture["arguments"])
        weights = out / "networks" / f"{network.key}.safetensors"
        if not weights.exists():
            rows = order[: images_of(network, effort, options.limit)]
            split = Split(train.images[rows].to(device), train.labels[rows].to(device))
            _train(recipe, split, choosing, classes, weights, options, stop)
        load_weights(classifier, weights)
        return classifier.to(device).eval()

    at_hand = [name for name in OUTSIDE if reasons.get(name, "unknown") is None]
    data = {it.name: it.sha256 for it in (train, validation)}
    data |= {name: load_dataset(name, options.data_dir).sha256 for name in ("mnist/test", *at_hand)}
    trainings = {
        it.key: {"images": images_of(it, effort, options.limit), **recipe_of(it, effort, options.epochs).to_dict()}
        for it in networks
        if it.recipe is not None
    }
    missing = [name for name in OUTSIDE if name not in at_hand] + [OUTLIERS] * (not outliers_at_hand)
    return Prepared(
        list(by_key),
        {"data": data, "missing": missing},
        lambda arm, stop: trained(by_key[arm], stop),
        mlss_properties(effort.sizes),
        measured=lambda arm: [f"mlss/{part}" for part in sorted(by_key[arm].parts)],
        arm_facts=trainings | {key: {"weights_sha256": it.weights_sha256} for key, it in taken.items()},
        plan=_plan(networks, taken, effort, options, classes, missing),
        random=frozenset(it.key for it in networks if it.random),
    )


class Shown(nn.Module):
    """A network that sees images on another scale than it learned on: every pixel times ``scale`` plus ``shift``."""

    def __init__(self, model: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.model, self.scale, self.shift = model, scale, shift

    def forward(self, images: Images) -> Logits:
        return self.model(self.scale * images + self.shift)


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
    networks: Sequence[Network],
    taken: Mapping[str, Subject],
    effort: Effort,
    options: Options,
    classes: int,
    missing: list[str],
) -> str:
    """What will be trained and measured, and about how long that takes on this machine."""
    lines, total = [], 0.0
    timed: dict[str, float] = {}

    def seconds_of(network: Network) -> float:
        if network.taken:
            return _seconds_per_image(taken[network.key].classifier)
        if network.recipe is None:
            return sum(seconds_of(NETWORKS[it]) for it in network.members)
        architecture = network.recipe.architecture(classes)
        key = str(architecture)
        if key not in timed:
            with torch.random.fork_rng(devices=[]):
                model = build_model(architecture["name"], **architecture["arguments"]).eval()
            timed[key] = _seconds_per_image(model)
        return timed[key]

    for network in networks:
        seconds = seconds_of(network)
        training, what = 0.0, "taken as it is" if network.taken else "made of " + ", ".join(network.members)
        if network.recipe is not None:
            recipe = recipe_of(network, effort, options.epochs)
            images = images_of(network, effort, options.limit)
            search = max((int(it.settings.get("steps", 0)) for it in recipe.objectives), default=0)
            # An exposure goes over the images again, together with as many outliers.
            passes = 3 if any("source" in it.settings for it in recipe.objectives) else 1
            training = _GRADIENT * seconds * images * recipe.epochs * (passes + search)
            training += seconds * effort.validation * recipe.epochs
            what = f"trained on {images:,} images for {recipe.epochs} epoch{'s' * (recipe.epochs > 1)}"
        measuring = seconds * _passes(network.parts, effort.sizes, 1 + len(OUTSIDE))
        total += training + measuring
        lines.append(f"  {network.key}: {what}, some {(training + measuring) / 60:.1f} minutes")
    absent = f"\nNot at hand, so left out: {', '.join(missing)}." if missing else ""
    return (
        f"{len(networks)} networks, some {total / 60:.0f} minutes on this machine while nothing else runs; what is "
        "finished is not done again:\n" + "\n".join(lines) + absent
    )


def _passes(parts: Iterable[str], sizes: Sizes, datasets: int) -> float:
    """How many images these parts ask for, a gradient as several."""
    spent = {
        "architecture": sizes.clean,
        "attacks": _ATTACKED * sizes.attacked,
        "calibration": sizes.clean,
        "augmentation": 2 * sizes.changed + 15 * sizes.corrupted,
        "detection": sizes.fitted + datasets * (sizes.detected + 2 * _GRADIENT * sizes.odin),
        "odin_grid": datasets * (16 + 4 * _GRADIENT) * sizes.odin,
    }
    return sum(spent.get(part, 0) for part in parts)


def _seconds_per_image(model: nn.Module) -> float:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        images = torch.zeros(_TIMED, 1, 28, 28)
        model(images)
        # Of the processor, not of the clock, as other things may run besides.
        started = time.process_time()
        model(images)
        return (time.process_time() - started) / torch.get_num_threads() / _TIMED


MLSS = Study(
    name="mlss",
    description="the study that hardy grew from: its tables side by side with the published ones, its claims answered",
    model="cnn",
    parts=PARTS,
    prepare=prepare,
    summarize=make_page,
    takes_epochs=True,
    takes_seeds=False,
    takes_hardened=True,
    grows=True,
)
