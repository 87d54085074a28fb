"""One climb of Auto-PGD: projected gradient ascent that chooses its step size itself, as in AutoAttack.

linf and l2 after Croce and Hein, ICML 2020, arXiv:2003.01690; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hardy.attacks.attack import Objective, steepest, value_and_gradient
from hardy.attacks.objectives import hopeless
from hardy.attacks.projections import project_l1_in_box
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

MOMENTUM = 0.25
# A step size is halved where fewer than this share of the steps since the last check rose.
RISING_SHARE = 0.75
# In l1 a step changes so many times fewer values than the best image; it shrinks by a factor, down to eps over another.
L1_SPARSER = 1.5
L1_SHORTER = 1.5
L1_SHORTEST = 10.0

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
    # The best loss at the last mark of those that part the climb in fifths.
    marked_loss: Tensor
    # l1 only: in how many values the best image differs.
    density: Tensor

    def select(self, keep: Tensor) -> _Climb:
        return _Climb(*(getattr(self, entry.name)[keep] for entry in fields(self)))


def climb(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    start: Images,
    steps: int,
    objective_of: ObjectiveOf,
    give_up: float,
    *,
    retire: bool = True,
    longest: float = 2.0,
) -> tuple[Images, Tensor]:
    """Climb from ``start``, with steps of at most ``longest`` times eps (in l1, of eps).

    What fools the classifier stops there, the rest returns where its objective was highest; with the objective's value,
    float32 (N,), infinity where the classifier is fooled.
    """
    result, highest = start.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    state = _begin(images, labels, threat, start, 1.0 if threat.norm == "l1" else longest)
    checks, fifth = _checks(steps, threat.norm), max(steps // 5, 1)
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
                result[gone] = state.current[wrong]
                state = state.select(~wrong)
                if not len(state.rows):
                    return result, highest
        _remember_best(state)
        if step == 0:
            state.checked_loss = state.best_loss.clone()
        elif step in checks:
            _back_to_best(state, _thin_out(state, threat) if threat.norm == "l1" else _halve(state, checks[step]))
        if step and step % fifth == 0:
            if step >= 3 * fifth and give_up < math.inf:
                lost = hopeless(state.best_loss, state.marked_loss, (steps - step) / fifth, give_up)
                result[state.rows[lost]], highest[state.rows[lost]] = state.best[lost], state.best_loss[lost]
                state = state.select(~lost)
                if not len(state.rows):
                    return result, highest
            state.marked_loss = state.best_loss.clone()
    result[state.rows], highest[state.rows] = state.best, state.best_loss
    return result, highest


def _begin(images: Images, labels: Labels, threat: ThreatModel, start: Images, longest: float) -> _Climb:
    row = images.new_zeros(len(images))
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
        step_size=(row + longest * threat.eps).reshape(-1, 1, 1, 1),
        rises=row.clone(),
        checked_loss=row,
        reduced=torch.ones_like(row, dtype=torch.bool),
        marked_loss=row,
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
        return into_l1(state.current + state.step_size * _sparse_direction(state), state.images, threat)
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


def into_l1(points: Images, images: Images, threat: ThreatModel) -> Images:
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
