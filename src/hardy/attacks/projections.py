"""Nearest points that also stay in [0, 1]: of an l1 ball, and of a hyperplane.

Each is one equation in one unknown for each row, monotone and piecewise linear. A few Newton steps solve it for all
rows at once, where sorting some hundred pixels per row would cost more than a small classifier. A row that is solved
stays as it is, so that its result does not depend on the other rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.threats import Norm

# Rows need less than ten; the bound only ends a walk among roundings.
_NEWTON_STEPS = 60
_BALL_PRECISION = 1e-6
_PLANE_PRECISION = 1e-5
_TINY = 1e-30
_HUGE = 1e30
# In l1 a step rarely changes more values than this; finding them is cheaper than ordering them all.
_FEW = 64


def project_l1_in_box(change: Tensor, reference: Tensor, radius: float | Tensor) -> Tensor:
    """The change of l1 norm at most ``radius`` nearest to ``change`` that keeps ``reference + change`` in [0, 1].

    Args:
        change: float32 (N, D).
        reference: float32 (N, D) in [0, 1].
        radius: of the ball; one number, or float32 (N, 1).

    Reference: Croce and Hein, ICML 2021, arXiv:2103.01208, proposition 2.1.
    """
    size, direction = change.abs(), change.sign()
    room = _room(reference, direction)
    # The nearest change is clamp(size - level, 0, room), with the level at which it sums to the radius.
    low, high = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
    level = low
    # A level as large as the changes has roundings of its own.
    tolerance = _BALL_PRECISION * (radius + 0.1 * high)
    for _ in range(_NEWTON_STEPS):
        left = size - level
        excess = torch.minimum(left.clamp_min(0.0), room).sum(1, keepdim=True) - radius
        unsolved = (excess.abs() > tolerance) & ((excess > 0) | (level > 0)) & (high > low)
        if not unsolved.any():
            break
        low, high = torch.where(excess > 0, level, low), torch.where(excess > 0, high, level)
        falling = (_above(left, 0.0) * _above(room, left)).sum(1, keepdim=True)
        newton = level + excess / falling
        inside = (newton > low) & (newton < high)
        level = torch.where(unsolved, torch.where(inside, newton, 0.5 * (low + high)), level)
    return direction * torch.minimum((size - level).clamp_min(0.0), room)


def step_to_hyperplane(points: Tensor, normal: Tensor, offset: Tensor, norm: Norm) -> Tensor:
    """The shortest step from each point to where ``normal @ point = offset``, inside [0, 1].

    Where the box does not reach the hyperplane, the step goes as near to it as the box allows.

    Args:
        points: float32 (P, N, D) in [0, 1]: several points for each hyperplane.
        normal: float32 (N, D).
        offset: float32 (N,).
        norm: ``linf``, ``l2`` or ``l1``: in which the step is short.

    Reference: Croce and Hein, ICML 2020, arXiv:1907.02044, section 2.2.
    """
    height = (points * normal).sum(-1, keepdim=True) - offset[:, None]
    weight, demand = normal.abs(), height.abs()
    direction = normal.sign() * -height.sign()
    room = _room(points, direction)
    if norm == "l1":
        return direction.mul_(_dearest_first(weight, room, demand))
    if norm == "l2":
        level = _level(weight * weight, room / weight.clamp_min(_TINY), demand)
        return direction.mul_(torch.minimum(weight * level, room))
    level = _level(weight, room, demand)
    return direction.mul_(torch.minimum(room, level))


def _level(rate: Tensor, full_at: Tensor, demand: Tensor) -> Tensor:
    """The level, (P, N, 1), where ``rate * min(level, full_at)`` sums to ``demand``; huge where it cannot.

    ``rate`` is (N, D), ``full_at`` (P, N, D), ``demand`` (P, N, 1). Rows that are solved are not looked at again.
    """
    points = demand.shape[:2]
    result = torch.zeros_like(demand).flatten(0, 1)
    rate = rate.expand_as(full_at).flatten(0, 1)
    full_at, demand = full_at.flatten(0, 1), demand.flatten(0, 1)
    level, rows = result, torch.arange(len(result), device=result.device)
    for _ in range(_NEWTON_STEPS):
        filled = (rate * torch.minimum(full_at, level)).sum(-1, keepdim=True)
        rising = (rate * _above(full_at, level)).sum(-1, keepdim=True)
        # The sum is concave in the level: Newton steps from 0 rise towards the solution and never pass it.
        newton = (level + (demand - filled) / rising.clamp_min(_TINY)).clamp_max(_HUGE)
        rises = (newton > level * (1.0 + _PLANE_PRECISION)).squeeze(1)
        unsolved = rises.nonzero().squeeze(1)
        if not len(unsolved):
            break
        rows, level = rows[unsolved], newton[unsolved]
        result[rows] = level
        if len(unsolved) < len(rises):
            rate, full_at, demand = rate[unsolved], full_at[unsolved], demand[unsolved]
    return result.unflatten(0, points)


def _dearest_first(weight: Tensor, room: Tensor, demand: Tensor) -> Tensor:
    """Sizes up to ``room`` with ``weight * size`` summing to ``demand``, the largest weights first."""
    size = _of_largest(weight, room, demand, min(_FEW, weight.shape[1]))
    short = ((weight * size).sum(-1) < (1.0 - _PLANE_PRECISION) * demand.squeeze(-1)).any(0)
    if short.any():
        size[:, short] = _of_largest(weight[short], room[:, short], demand[:, short], weight.shape[1])
    return size


def _of_largest(weight: Tensor, room: Tensor, demand: Tensor, count: int) -> Tensor:
    ordered, order = weight.topk(count, dim=-1)
    order = order.expand(*room.shape[:2], count)
    limit = room.gather(-1, order)
    gain = ordered * limit
    lacking = (demand - (gain.cumsum(-1) - gain)).clamp_min(0.0)
    return torch.zeros_like(room).scatter_(-1, order, torch.minimum(lacking / ordered.clamp_min(_TINY), limit))


def _room(points: Tensor, direction: Tensor) -> Tensor:
    """How far a value can go: to 1 where its direction is 1, to 0 where it is -1."""
    return torch.add(0.5 - points, direction, alpha=0.5).abs_()


def _above(values: Tensor, bound: Tensor | float) -> Tensor:
    """1.0 where above, else 0.0; written as a float at once, as conversion from bool is several times slower."""
    return torch.gt(values, bound, out=torch.empty_like(values))
