"""What an evaluation plans with, and the measurements that follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from hardy.data import Dataset, available
from hardy.errors import DataError, UsageError
from hardy.evaluation.budget import Budget
from hardy.evaluation.framework import Access, EvaluationContext, Measurement, Property, Skipped
from hardy.evaluation.sources import Sources
from hardy.threats import ThreatModel, read_radius, usual_radii

_HAS = {"logits": "given answers", "images": "probabilities"}

# What the registry's datasets of the role 'shift' are a shift of.
_SHIFTED = "mnist/test"


def make_context(
    sources: Sources,
    classes: int,
    budget: Budget,
    limit: int | None = None,
    adversarial: Sequence[str | Path] = (),
    members: int = 0,
    access: Access = "gradients",
    bundle: str = "",
    *,
    norm: str | None = None,
    eps: float | str | Sequence[float | str] | None = None,
) -> EvaluationContext:
    """What there is to measure on: the test split, what is fitted on, and the other datasets that are at hand.

    Raises:
        DataError: the user's folder does not exist, data is damaged, or a named dataset's images are of another shape.
        UsageError: a norm or a radius that makes no sense.
    """
    test = sources(sources.test)
    shape = _shape(test)
    reasons = available(sources.data_dir, "out-of-distribution") if sources.ood is None else dict.fromkeys(sources.ood)
    reasons.pop(test.name, None)
    shaped = [name for name, reason in reasons.items() if not reason and _shape(sources(name)) == shape]
    for name in sources.aliases.keys() - set(shaped):
        raise DataError(
            f"{name} ({sources.aliases[name]}) has images of shape {_shape(sources(name))}, those of {test.name} are "
            f"{shape}; bring them to one size, for example with --resize {shape[2]}x{shape[1]}"
        )
    missing = {
        name: reason or f"its images are {_shape(sources(name))}, those of {test.name} are {shape}"
        for name, reason in reasons.items()
        if name not in shaped
    }
    shift = [
        name
        for name, reason in available(sources.data_dir, "shift").items()
        if not reason and test.name == _SHIFTED and _shape(sources(name)) == shape
    ]
    saved = [str(path) for path in adversarial]
    used = [test.name, *filter(None, [sources.validation]), *shaped, *saved, *shift]
    return EvaluationContext(
        dataset=test.name,
        validation=sources.validation,
        out_of_distribution=tuple(shaped),
        distances={name: sources.distance(name) for name in shaped if sources.distance(name)},
        missing=missing,
        sizes={name: len(sources(name)) for name in used},
        classes=classes,
        budget=budget,
        limit=limit,
        adversarial=tuple(saved),
        shift=tuple(shift),
        shape=shape,
        members=members,
        train=sources.train,
        **_threats(_shape(test), norm, eps),
        access=access,
        bundle=bundle,
    )


def _threats(
    shape: tuple[int, ...], norm: str | None, eps: float | str | Sequence[float | str] | None
) -> dict[str, Any]:
    if norm is None and eps is None:
        return {}
    norm = norm or "linf"
    usual = usual_radii(shape).get(ThreatModel.checked(norm, 0).norm)
    given = usual if eps is None else eps
    if given is None or given == []:
        raise UsageError(f"eps is missing: nothing is usual in {norm}")
    found = {read_radius(each) for each in ([given] if isinstance(given, float | int | str) else given)}
    return {"norm": norm, "eps": tuple(sorted(ThreatModel.checked(norm, each).eps for each in found))}


def _shape(dataset: Dataset) -> tuple[int, ...]:
    return tuple(dataset.images.shape[1:])


def planned_measurements(
    chosen: Sequence[Property], context: EvaluationContext
) -> tuple[list[Measurement], list[Skipped]]:
    """All measurements that these properties need, each once, and what they leave out."""
    planned = [prop.plan(context) for prop in chosen]
    measurements = list(dict.fromkeys(measurement for each in planned for measurement in each.measurements))
    return measurements, [skip for each in planned for skip in each.skipped]


def within_reach(chosen: Sequence[Property], access: Access) -> tuple[list[Property], list[Skipped]]:
    """The properties that can be measured of a classifier with such access, and why the others cannot."""
    order = get_args(Access)
    reached = [prop for prop in chosen if order.index(prop.needs) <= order.index(access)]
    lacking = {"images": "answers to images", "gradients": "gradients"}
    return reached, [
        Skipped(prop.name, f"it needs {lacking[prop.needs]}, and of this classifier there are only {_HAS[access]}")
        for prop in chosen
        if prop not in reached
    ]
