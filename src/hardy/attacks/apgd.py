"""Auto-PGD: projected gradient ascent that chooses its step size itself, as in AutoAttack.

linf and l2 after Croce and Hein, ICML 2020, arXiv:2003.01690; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.objectives import (
    ABORT_FACTOR,
    Objective,
    cannot_succeed_in_time,
    dlr,
    is_wrong,
    likeliest_wrong_classes,
    log_odds_against,
    targeted_dlr,
)
from hardy.attacks.projections import project_l1_in_box
from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

_MOMENTUM = 0.25
# A step size is halved where fewer than this share of the steps since the last check rose.
_RISING_SHARE = 0.75
# In l1 a step changes so many times fewer values than the best image; it shrinks by a factor, down to eps over another.
_L1_SPARSER = 1.5
_L1_SHORTER = 1.5
_L1_SHORTEST = 10.0
# In l1: radius as a multiple of eps, and the share of the steps spent there.
_L1_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
# The longest step, as a multiple of eps; from a warm start, and the share of the steps there.
_LONGEST = 2.0
_WARM_LONGEST = 0.25
_WARM_SHARE = 0.25

_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
_PAPERS = "Croce and Hein, ICML 2020, arXiv:2003.01690; l1: Croce and Hein, ICML 2021, arXiv:2103.01208"

ObjectiveOf = Callable[[Tensor, int], Objective]
"""From rows of the call, int64 (M,), and the number of the run to their objective."""


@register(title="Auto-PGD on the cross-entropy, 100 steps", norms=_NORMS, reference=_PAPERS)
def apgd_ce(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    steps: int = 100,
    n_restarts: int | None = None,
) -> Images:
    """Auto-PGD on the cross-entropy, each run from a new random start for what is not broken yet.

    Args:
        steps: of a run.
        n_restarts: how many runs; None is AutoAttack's number: 1, in l1 5.
    """
    # A cross-entropy of 0 means nothing, so no run is aborted for not reaching it.
    return _restarted(classifier, images, labels, threat, rng, start, steps, n_restarts, log_odds_against, math.inf)


@register(title="Auto-PGD on the difference of logits ratio, 100 steps", norms=_NORMS, reference=_PAPERS)
def apgd_dlr(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    steps: int = 100,
    n_restarts: int | None = None,
    abort_factor: float = ABORT_FACTOR,
) -> Images:
    """Auto-PGD on the difference of logits ratio, each run from a new random start for what is not broken yet.

    Args:
        steps: of a run.
        n_restarts: how many runs; None is AutoAttack's number: 1, in l1 5.
        abort_factor: after three fifths of its steps a run is aborted where it would not succeed even at so many times
            the rate of its gains in the last fifth; infinity never aborts.
    """
    return _restarted(classifier, images, labels, threat, rng, start, steps, n_restarts, dlr, abort_factor)


@register(
    title="Auto-PGD on the targeted difference of logits ratio, 100 steps per target", norms=_NORMS, reference=_PAPERS
)
def apgd_t(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    steps: int = 100,
    n_target_classes: int | None = None,
    abort_factor: float = ABORT_FACTOR,
) -> Images:
    """Auto-PGD on the targeted difference of logits ratio, towards one wrong class after the other.

    Args:
        steps: towards each class.
        n_target_classes: how many wrong classes, the likeliest first; None is AutoAttack's number: 9, in l1 5.
        abort_factor: after three fifths of its steps a run is aborted where it would not succeed even at so many times
            the rate of its gains in the last fifth; infinity never aborts.
    """
    count = n_target_classes or (5 if threat.norm == "l1" else 9)
    with torch.no_grad():
        logits = classifier(images if start is None else start)
    classes = likeliest_wrong_classes(logits, labels, count if start is None else 1)

    def towards(rows: Tensor, number: int) -> Objective:
        return partial(targeted_dlr, targets=classes[rows, number])

    runs, streams = classes.shape[1], rng.fold("target")
    return _highest(classifier, images, labels, threat, streams, start, steps, runs, towards, abort_factor)


def _restarted(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    rng: Randomness,
    start: Images | None,
    steps: int,
    n_restarts: int | None,
    objective: Objective,
    abort_factor: float,
) -> Images:
    runs, streams = n_restarts or (5 if threat.norm == "l1" else 1), rng.fold("restart")

    def objective_of(*_: object) -> Objective:
        return objective

    return _highest(classifier, images, labels, threat, streams, start, steps, runs, objective_of, abort_factor)


def _highest(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    rng: Randomness,
    start: Images | None,
    steps: int,
    runs: int,
    objective_of: ObjectiveOf,
    abort_factor: float,
) -> Images:
    """One run after the other, each on the rows that no run before has broken; of each row the highest image.

    From a warm start there is one run, with short steps and fewer of them.
    """
    if start is not None:
        steps = math.ceil(_WARM_SHARE * steps)

        def first(rows: Tensor) -> Objective:
            return objective_of(rows, 0)

        found, _ = _run(classifier, images, labels, threat, start, steps, first, abort_factor, longest=_WARM_LONGEST)
        return found
    result, rows = images.clone(), torch.arange(len(images), device=images.device)
    highest = torch.full_like(images[:, 0, 0, 0], -torch.inf)
    for run in range(runs):
        streams = rng.select(rows).fold(run)

        def of_part(part: Tensor, rows: Tensor = rows, run: int = run) -> Objective:
            return objective_of(rows[part], run)

        found, loss = _run_from_random(
            classifier, images[rows], labels[rows], threat, streams, steps, of_part, abort_factor
        )
        higher = loss > highest[rows]
        result[rows[higher]], highest[rows[higher]] = found[higher], loss[higher]
        rows = rows[loss < torch.inf]
        if not len(rows):
            break
    return result


def _run_from_random(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    rng: Randomness,
    steps: int,
    objective_of: Callable[[Tensor], Objective],
    abort_factor: float,
) -> tuple[Images, Tensor]:
    """One run from a random start, in l1 through larger balls first; as :func:`_run` returns it."""
    if threat.norm != "l1":
        start = threat.random_start(images, rng)
        return _run(classifier, images, labels, threat, start, steps, objective_of, abort_factor)
    start, loss = images + rng.normal(*images.shape[1:]), torch.empty(0)
    lengths = [math.ceil(share * steps) for _, share in _L1_STAGES[:-1]]
    for (scale, _), length in zip(_L1_STAGES, [*lengths, steps - sum(lengths)], strict=True):
        stage, last = ThreatModel("l1", scale * threat.eps), scale == 1.0
        start, loss = _run(
            classifier,
            images,
            labels,
            stage,
            _into_l1(start, images, stage),
            length,
            objective_of,
            abort_factor if last else math.inf,
            stop_when_broken=last,
        )
    return start, loss


@dataclass
class _State:
    """Of each example that is not broken: where it is, where it was, and the best that it has seen."""

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
    # The best loss at the last mark of those that divide the run into fifths.
    marked_loss: Tensor
    # l1 only: in how many values the best image differs.
    density: Tensor

    def select(self, keep: Tensor) -> _State:
        return _State(*(getattr(self, entry.name)[keep] for entry in fields(self)))


def _run(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    start: Images,
    steps: int,
    objective_of: Callable[[Tensor], Objective],
    abort_factor: float,
    *,
    stop_when_broken: bool = True,
    longest: float = _LONGEST,
) -> tuple[Images, Tensor]:
    """Ascend from ``start``, with steps of at most ``longest`` times eps (in l1, of eps).

    What fools the classifier stops there, unless told not to; the rest returns where its objective was highest; and the
    objective's values, float32 (N,), infinity where the classifier is fooled.
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
        if stop_when_broken:
            wrong = is_wrong(logits.argmax(1), state.labels)
            if wrong.any():
                result[state.rows[wrong]] = state.current[wrong]
                state = state.select(~wrong)
                if not len(state.rows):
                    return result, highest
        _remember_best(state)
        if step == 0:
            state.checked_loss = state.best_loss.clone()
        elif step in checks:
            _back_to_best(state, _thin_out(state, threat) if threat.norm == "l1" else _halve(state, checks[step]))
        if step and step % fifth == 0:
            if step >= 3 * fifth and abort_factor < math.inf:
                aborted = cannot_succeed_in_time(
                    state.best_loss, state.marked_loss, (steps - step) / fifth, abort_factor
                )
                result[state.rows[aborted]], highest[state.rows[aborted]] = (
                    state.best[aborted],
                    state.best_loss[aborted],
                )
                state = state.select(~aborted)
                if not len(state.rows):
                    return result, highest
            state.marked_loss = state.best_loss.clone()
    result[state.rows], highest[state.rows] = state.best, state.best_loss
    return result, highest


def _begin(images: Images, labels: Labels, threat: ThreatModel, start: Images, longest: float) -> _State:
    row = images.new_zeros(len(images))
    return _State(
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


def _moved(state: _State, threat: ThreatModel, *, first: bool) -> Images:
    if threat.norm == "l1":
        return _into_l1(state.current + state.step_size * _sparse_direction(state), state.images, threat)
    stepped = state.current + state.step_size * steepest(state.gradient, threat.norm)
    stepped = threat.project(stepped, state.images)
    if first:
        return stepped
    momentum = _MOMENTUM * (state.current - state.previous)
    return threat.project(torch.lerp(stepped, state.current, _MOMENTUM) + momentum, state.images)


def _sparse_direction(state: _State) -> Tensor:
    """Of l1 norm 1, equal on the largest of the gradient: on as many values as the density allows."""
    flat = state.gradient.flatten(1)
    count = (state.density / _L1_SPARSER).ceil().long().clamp(1, flat.shape[1])
    largest = flat.abs().topk(int(count.max()), dim=1).values
    threshold = largest.gather(1, count[:, None] - 1)
    sign = flat.sign() * (flat.abs() >= threshold)
    return (sign / sign.abs().sum(1, keepdim=True).clamp_min(1.0)).reshape(state.gradient.shape)


def _into_l1(points: Images, images: Images, threat: ThreatModel) -> Images:
    reference = images.flatten(1)
    change = project_l1_in_box(points.flatten(1) - reference, reference, threat.eps)
    return (reference + change).clamp(0.0, 1.0).reshape(images.shape)


def _remember_best(state: _State) -> None:
    better = (state.loss > state.best_loss).nonzero().squeeze(1)
    state.best[better] = state.current[better]
    state.best_gradient[better] = state.gradient[better]
    state.best_loss[better] = state.loss[better]


def _halve(state: _State, period: int) -> Tensor:
    """Halve the steps that rise too seldom, or that brought nothing since the last check; bool (N,), which."""
    seldom = state.rises <= _RISING_SHARE * period
    nothing = ~state.reduced & (state.checked_loss >= state.best_loss)
    state.reduced = seldom | nothing
    state.step_size[state.reduced] *= 0.5
    state.checked_loss = state.best_loss.clone()
    state.rises.zero_()
    return state.reduced


def _thin_out(state: _State, threat: ThreatModel) -> Tensor:
    """Where the best image has become sparser, start again with long steps on fewer values; bool (N,), where.

    Elsewhere the steps become shorter.
    """
    density = _differing(state.best, state.images)
    sparser = density < 0.95 * state.density
    shorter = (state.step_size / _L1_SHORTER).clamp_min(threat.eps / _L1_SHORTEST)
    state.step_size = torch.where(sparser.reshape(-1, 1, 1, 1), threat.eps, shorter)
    state.density = density
    return sparser


def _back_to_best(state: _State, which: Tensor) -> None:
    state.current, state.gradient = state.current.clone(), state.gradient.clone()
    state.current[which] = state.best[which]
    state.gradient[which] = state.best_gradient[which]


def _differing(images: Images, reference: Images) -> Tensor:
    return (images != reference).flatten(1).sum(1).to(images.dtype)
