"""Auto-PGD: projected gradient descent that chooses its step size itself, as in AutoAttack.

linf and l2 after Croce and Hein, ICML 2020, arXiv:2003.01690; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from hardy.attacks.attack import Attack, Objective, steepest, value_and_gradient
from hardy.attacks.objectives import OBJECTIVES, likeliest_wrong_classes, targeted_dlr
from hardy.attacks.projections import project_l1_in_box
from hardy.contracts import Classifier, Images, Labels
from hardy.randomness import Randomness
from hardy.threats import Norm, ThreatModel

MOMENTUM = 0.25
# A step size is halved where fewer than this share of the steps since the last check rose.
RISING_SHARE = 0.75
# In l1 a step changes so many times fewer values than the best image; it shrinks by a factor, down to eps over another.
L1_SPARSER = 1.5
L1_SHORTER = 1.5
L1_SHORTEST = 10.0
# In l1: radius as a multiple of eps, and the share of the steps spent there.
L1_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))

ObjectiveOf = Callable[[Tensor], Objective]
"""From the rows of the call, int64 (M,), to the objective of those rows."""


@dataclass
class _Climb:
    """One row an example that still stands: where it is, where it was, and the best that it has seen."""

    rows: Tensor
    images: Images
    labels: Labels
    current: Images
    previous: Images
    gradient: Tensor
    loss: Tensor
    best: Images
    best_gradient: Tensor
    best_loss: Tensor
    step_size: Tensor
    # Since the last check: the number of steps that rose, the best loss at the check, and whether it changed the step.
    rises: Tensor
    checked_loss: Tensor
    reduced: Tensor
    # l1 only: in how many values the best image differs.
    density: Tensor

    def select(self, keep: Tensor) -> _Climb:
        return _Climb(*(getattr(self, entry.name)[keep] for entry in fields(self)))


def apgd(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    restarts: Mapping[Norm, int],
    objective: str,
) -> Images:
    """Climb an objective of :data:`hardy.attacks.objectives.OBJECTIVES`, from a new start for what still stands."""

    def run(rows: Tensor, restart: int) -> tuple[Images, Tensor]:
        streams = rng.select(rows).fold("restart", restart)
        return _run(classifier, images[rows], labels[rows], threat, streams, steps, lambda _: OBJECTIVES[objective])

    return _while_standing(images, run, restarts[threat.norm])


def apgd_targeted(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    targets: Mapping[Norm, int],
) -> Images:
    """Climb the targeted DLR towards one wrong class after the other, the likeliest first."""
    with torch.no_grad():
        classes = likeliest_wrong_classes(classifier(images), labels, targets[threat.norm])

    def run(rows: Tensor, target: int) -> tuple[Images, Tensor]:
        streams, wanted = rng.select(rows).fold("target", target), classes[rows, target]

        def towards(part: Tensor) -> Objective:
            return partial(targeted_dlr, targets=wanted[part])

        return _run(classifier, images[rows], labels[rows], threat, streams, steps, towards)

    return _while_standing(images, run, classes.shape[1])


def _while_standing(images: Images, run: Callable[[Tensor, int], tuple[Images, Tensor]], runs: int) -> Images:
    """One run after the other, each on the rows that no run before has fooled."""
    result, rows = images.clone(), torch.arange(len(images), device=images.device)
    for number in range(runs):
        result[rows], fooled = run(rows, number)
        rows = rows[~fooled]
        if not len(rows):
            break
    return result


def _run(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    rng: Randomness,
    steps: int,
    objective_of: ObjectiveOf,
) -> tuple[Images, Tensor]:
    """One climb from a random start: the images, and bool (N,) which of them fool the classifier."""
    if threat.norm != "l1":
        start = threat.random_start(images, rng)
        return _climb(classifier, images, labels, threat, start, steps, objective_of)
    start, fooled = images + rng.normal(*images.shape[1:]), torch.empty(0)
    lengths = [math.ceil(share * steps) for _, share in L1_STAGES[:-1]]
    for (scale, _), length in zip(L1_STAGES, [*lengths, steps - sum(lengths)], strict=True):
        stage = ThreatModel("l1", scale * threat.eps)
        start = _into_l1(start, images, stage)
        start, fooled = _climb(classifier, images, labels, stage, start, length, objective_of, retire=scale == 1.0)
    return start, fooled


def _climb(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    start: Images,
    steps: int,
    objective_of: ObjectiveOf,
    *,
    retire: bool = True,
) -> tuple[Images, Tensor]:
    """Climb from ``start``; what fools the classifier stops there, the rest returns where its objective was highest."""
    result, fooled = start.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    state = _begin(images, labels, threat, start)
    checks = _checks(steps, threat.norm)
    for step in range(steps + 1):
        if step:
            state.previous, state.current = state.current, _moved(state, threat, first=step == 1)
        objective = objective_of(state.rows)
        logits, state.gradient = value_and_gradient(classifier, state.current, state.labels, objective)
        loss = objective(logits, state.labels)
        if step:
            state.rises += loss > state.loss
        state.loss = loss
        if retire:
            wrong = logits.argmax(1) != state.labels
            if wrong.any():
                gone = state.rows[wrong]
                result[gone], fooled[gone] = state.current[wrong], True
                state = state.select(~wrong)
                if not len(state.rows):
                    return result, fooled
        _remember_best(state)
        if step == 0:
            state.checked_loss = state.best_loss.clone()
        elif step in checks:
            _back_to_best(state, _thin_out(state, threat) if threat.norm == "l1" else _halve(state, checks[step]))
    result[state.rows] = state.best
    return result, fooled


def _begin(images: Images, labels: Labels, threat: ThreatModel, start: Images) -> _Climb:
    row = images.new_zeros(len(images))
    longest = threat.eps if threat.norm == "l1" else 2.0 * threat.eps
    return _Climb(
        rows=torch.arange(len(images), device=images.device),
        images=images,
        labels=labels,
        current=start,
        previous=start,
        gradient=torch.zeros_like(images),
        loss=row,
        best=start.clone(),
        best_gradient=torch.zeros_like(images),
        best_loss=row - torch.inf,
        step_size=(row + longest).reshape(-1, 1, 1, 1),
        rises=row.clone(),
        checked_loss=row,
        reduced=torch.ones_like(row, dtype=torch.bool),
        density=_differing(start, images),
    )


def _checks(steps: int, norm: Norm) -> dict[int, int]:
    """The steps after which step sizes are reconsidered, each with how many steps ago that was done before."""
    if norm == "l1":
        period, shrink, shortest = max(int(0.04 * steps), 1), 0, 1
    else:
        period, shrink, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    checks, step = {}, period
    while step <= steps:
        checks[step] = period
        period = max(period - shrink, shortest)
        step += period
    return checks


def _moved(state: _Climb, threat: ThreatModel, *, first: bool) -> Images:
    if threat.norm == "l1":
        return _into_l1(state.current + state.step_size * _sparse_direction(state), state.images, threat)
    stepped = state.current + state.step_size * steepest(state.gradient, threat.norm)
    stepped = threat.project(stepped, state.images)
    if first:
        return stepped
    momentum = MOMENTUM * (state.current - state.previous)
    return threat.project(torch.lerp(stepped, state.current, MOMENTUM) + momentum, state.images)


def _sparse_direction(state: _Climb) -> Tensor:
    """Of l1 norm 1, equal on the largest of the gradient: on as many values as the density allows."""
    flat = state.gradient.flatten(1)
    count = (state.density / L1_SPARSER).ceil().long().clamp(1, flat.shape[1])
    largest = flat.abs().topk(int(count.max()), dim=1).values
    threshold = largest.gather(1, count[:, None] - 1)
    sign = flat.sign() * (flat.abs() >= threshold)
    return (sign / sign.abs().sum(1, keepdim=True).clamp_min(1.0)).reshape(state.gradient.shape)


def _into_l1(points: Images, images: Images, threat: ThreatModel) -> Images:
    reference = images.flatten(1)
    change = project_l1_in_box(points.flatten(1) - reference, reference, threat.eps)
    return (reference + change).clamp(0.0, 1.0).reshape(images.shape)


def _remember_best(state: _Climb) -> None:
    better = (state.loss > state.best_loss).nonzero().squeeze(1)
    state.best[better] = state.current[better]
    state.best_gradient[better] = state.gradient[better]
    state.best_loss[better] = state.loss[better]


def _halve(state: _Climb, period: int) -> Tensor:
    """Halve the steps that rise too seldom, or that brought nothing since the last check; bool (N,), which."""
    seldom = state.rises <= RISING_SHARE * period
    nothing = ~state.reduced & (state.checked_loss >= state.best_loss)
    state.reduced = seldom | nothing
    state.step_size[state.reduced] *= 0.5
    state.checked_loss = state.best_loss.clone()
    state.rises.zero_()
    return state.reduced


def _thin_out(state: _Climb, threat: ThreatModel) -> Tensor:
    """Where the best image has become sparser, start again with long steps on fewer values; bool (N,), where.

    Elsewhere the steps become shorter.
    """
    density = _differing(state.best, state.images)
    sparser = density < 0.95 * state.density
    shorter = (state.step_size / L1_SHORTER).clamp_min(threat.eps / L1_SHORTEST)
    state.step_size = torch.where(sparser.reshape(-1, 1, 1, 1), threat.eps, shorter)
    state.density = density
    return sparser


def _back_to_best(state: _Climb, which: Tensor) -> None:
    state.current, state.gradient = state.current.clone(), state.gradient.clone()
    state.current[which] = state.best[which]
    state.gradient[which] = state.best_gradient[which]


def _differing(images: Images, reference: Images) -> Tensor:
    return (images != reference).flatten(1).sum(1).to(images.dtype)


_PAPERS = "Croce and Hein, ICML 2020, arXiv:2003.01690; l1: Croce and Hein, ICML 2021, arXiv:2103.01208"
APGD_CE = Attack(
    name="apgd-ce",
    title="Auto-PGD on the cross-entropy, 100 steps",
    function=apgd,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "restarts": {"linf": 1, "l2": 1, "l1": 5}, "objective": "cross_entropy"},
)
APGD_DLR = Attack(
    name="apgd-dlr",
    title="Auto-PGD on the difference of logits ratio, 100 steps",
    function=apgd,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "restarts": {"linf": 1, "l2": 1, "l1": 5}, "objective": "dlr"},
)
APGD_TARGETED = Attack(
    name="apgd-t",
    title="Auto-PGD on the targeted difference of logits ratio, 100 steps a target",
    function=apgd_targeted,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "targets": {"linf": 9, "l2": 9, "l1": 5}},
)
