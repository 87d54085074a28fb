"""What an evaluation would measure, how long that would take at most, and what it would leave out."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hardy.attacks import ATTACKS, Attack, get_attacks
from hardy.attacks.attack import value_and_gradient
from hardy.data import Dataset
from hardy.deployment.attack import searches
from hardy.devices import choose_device
from hardy.evaluation.budget import Budget, find_budget
from hardy.evaluation.context import make_context, planned_measurements, within_reach
from hardy.evaluation.framework import Measurement, Skipped
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.adversarial.measure import MASKING_ATTACKS, adjusted, radii
from hardy.evaluation.properties.ood.measure import PERTURBING_STEPS
from hardy.evaluation.properties.shift.measure import FRAMES
from hardy.evaluation.sources import Sources
from hardy.evaluation.subject import Subject, check_on_dataset
from hardy.models import member_count
from hardy.validation import frozen_evaluation

_TIMED = 3
_SETTINGS_OF_PASSES = ("steps", "n_queries", "repeats", "n_restarts", "binary_search_steps", "candidates", "samples")


class Passes(NamedTuple):
    """How often a measurement asks the classifier for one image, at most: without and with a gradient."""

    forward: float = 0.0
    gradient: float = 0.0


class Planned(NamedTuple):
    """A measurement, how many seconds it takes at most, and how often it asks the classifier for each image."""

    measurement: Measurement
    seconds: float
    passes: Passes


class DryRun(NamedTuple):
    """What was found.

    Attributes:
        planned: the measurements, in order.
        skipped: what would be left out, and why.
        images: how many images each dataset has.
        memory: bytes: the peak of this process with all images loaded and one batch taken through the classifier.
    """

    planned: list[Planned]
    skipped: list[Skipped]
    images: dict[str, int]
    memory: int

    @property
    def seconds(self) -> float:
        return sum(it.seconds for it in self.planned)

    def by_kind(self) -> dict[tuple[str, str], list[Planned]]:
        """The measurements that are made with one function on one dataset."""
        kinds: dict[tuple[str, str], list[Planned]] = {}
        for it in self.planned:
            kinds.setdefault((it.measurement.function, it.measurement.dataset), []).append(it)
        return kinds

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "seconds": round(self.seconds, 1),
            "memory": self.memory,
            "images": self.images,
            "measurements": [
                {
                    "function": it.measurement.function,
                    "dataset": it.measurement.dataset,
                    "examples": it.measurement.examples,
                    "setting": it.measurement.settings,
                    "seconds": round(it.seconds, 2),
                }
                for it in self.planned
            ],
            "skipped": [it._asdict() for it in self.skipped],
        }


def dry_run(
    subject: Subject,
    sources: Sources,
    *,
    properties: Sequence[str] = (),
    budget: str | Budget = "quick",
    limit: int | None = None,
    device: str = "auto",
    adversarial: Sequence[str | Path] = (),
    batch_size: int = 500,
    allow_random: bool = False,
    **threats: Any,
) -> DryRun:
    """Plan as :func:`hardy.evaluate` does, with the same arguments and errors, and measure nothing.

    Seconds are those of the classifier's answers: one batch is timed, and multiplied by how often each measurement
    asks. Attacks stop at what has fallen, so they take less. Intervals, pictures and corrupting come on top.
    """
    sources = sources.for_classes(subject.classes)
    test, on = sources(sources.test), choose_device(device)
    classifier = subject.classifier.to(on)
    answers_only = subject.access == "logits"
    classes = (
        test.images.shape[-1]
        if answers_only
        else (check_on_dataset(classifier, test, on, allow_random=allow_random).classes)
    )
    deployed = "" if subject.bundle is None else subject.bundle.fingerprint
    context = make_context(
        sources,
        classes,
        find_budget(budget),
        limit,
        adversarial,
        member_count(classifier),
        subject.access,
        deployed,
        **threats,
    )
    names = {PROPERTIES.find(name.replace("-", "_")).name for name in properties} or set(PROPERTIES)
    chosen, beyond = within_reach([prop for name, prop in PROPERTIES.items() if name in names], context.access)
    measurements, skipped = planned_measurements(chosen, context)
    with frozen_evaluation(classifier):
        one = _seconds_per_image(classifier, test, on, batch_size, gradients=context.gradients)
    planned = []
    for measurement in measurements:
        passes = _passes(measurement, classes)
        seconds = measurement.examples * (passes.forward * one.forward + passes.gradient * one.gradient)
        planned.append(Planned(measurement, seconds, passes))
    # Detectors are fitted once, for all that is measured with them.
    fitted = next((it for it in measurements if it.function == "detect"), None)
    if fitted is not None:
        images = int(fitted.settings["training"]) * bool(fitted.settings["train"]) + int(fitted.settings["fitting"])
        place = measurements.index(fitted)
        planned[place] = planned[place]._replace(seconds=planned[place].seconds + images * one.forward)
    return DryRun(planned, [*skipped, *beyond], dict(context.sizes), _peak_memory(on))


def _seconds_per_image(
    classifier: nn.Module, test: Dataset, on: torch.device, batch_size: int, *, gradients: bool
) -> Passes:
    chosen = test.measuring_order()[:batch_size]
    images, labels = test.floats(chosen).to(on), test.labels[chosen].to(on)

    def best(call: Callable[[], object]) -> float:
        """Of a few: the others were slowed down by something else."""
        seconds = []
        for _ in range(_TIMED):
            started = time.perf_counter()
            call()
            if on.type == "cuda":
                torch.cuda.synchronize(on)
            seconds.append(time.perf_counter() - started)
        return min(seconds) / len(images)

    with torch.no_grad():
        forward = best(lambda: classifier(images))
    return Passes(forward, best(lambda: value_and_gradient(classifier, images, labels)) if gradients else 0.0)


def _passes(measurement: Measurement, classes: int) -> Passes:
    setting = measurement.settings
    match measurement.function:
        case "consistency":
            return Passes(forward=FRAMES)
        case "detect":
            steps = (PERTURBING_STEPS + 1) * bool(setting["perturbed"]) * (3 if setting.get("against") else 1) + bool(
                setting["odin"]
            )
            return Passes(1 + bool(setting["odin"]), steps)
        case "attack" | "predict_attacked":
            attacks = [adjusted(measurement, it) for it in get_attacks(str(setting["attack"]), str(setting["norm"]))]
            around = Passes(forward=int(setting.get("around_queries", 0)))
            return _sum([around, *(_of_attack(it, len(radii(measurement)), classes) for it in attacks)])
        case "masking":
            return _sum([_of_attack(adjusted(measurement, ATTACKS[name]), 1, classes) for name in MASKING_ATTACKS])
        case "system":
            steps, targets, queries = (int(setting[name]) for name in ("steps", "targets", "queries"))
            return Passes(1 + queries, searches(steps, targets) * len(radii(measurement)))
        case _:
            return Passes(forward=1)


def _of_attack(attack: Attack, radii: int, classes: int) -> Passes:
    often = math.prod(int(attack.settings.get(name) or 1) for name in _SETTINGS_OF_PASSES)
    if "n_target_classes" in attack.settings:
        often *= min(attack.settings["n_target_classes"] or classes, classes - 1)
    often *= radii if attack.search == "fixed" else 1
    return Passes(gradient=often) if attack.gradients else Passes(forward=often)


def _sum(passes: Sequence[Passes]) -> Passes:
    return Passes(sum(it.forward for it in passes), sum(it.gradient for it in passes))


def _peak_memory(on: torch.device) -> int:
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
