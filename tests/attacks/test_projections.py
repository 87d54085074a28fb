"""Projections against linear programs, and against the same equation solved in float64 by bracketing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog
from torch import Tensor

from hardy.attacks.projections import project_l1_in_box, step_to_hyperplane
from hardy.threats import Norm

SEEDS = st.integers(0, 10_000)
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * values


def some_points(seed: int, *shape: int) -> Tensor:
    """In [0, 1], many of them 0 or 1 exactly, as pixels are."""
    return uniform(seed, *shape, low=-0.5, high=1.5).clamp(0.0, 1.0)


def root(function: Callable[[float], float], high: float) -> float:
    found = brentq(function, 0.0, high, xtol=1e-14, maxiter=500)
    assert isinstance(found, float)
    return found


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, scale=st.sampled_from([0.1, 1.0, 10.0]), radius=st.sampled_from([0.01, 0.5, 3.0, 40.0]))
def test_the_l1_ball_in_the_box_is_met_at_its_nearest_point(seed: int, scale: float, radius: float) -> None:
    reference = some_points(seed, 5, 30)
    change = uniform(seed + 1, 5, 30, low=-scale, high=scale)
    found = project_l1_in_box(change, reference, radius)

    size = change.double().abs().numpy()
    room = torch.where(change > 0, 1 - reference, reference).double().numpy()
    for row in range(5):

        def excess(level: float, row: int = row) -> float:
            return float(np.clip(size[row] - level, 0, room[row]).sum() - radius)

        level = root(excess, size[row].max()) if excess(0) > 0 else 0.0
        expected = np.sign(change[row].numpy()) * np.clip(size[row] - level, 0, room[row])
        np.testing.assert_allclose(found[row], expected, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, radius=st.sampled_from([0.01, 0.5, 3.0]))
def test_what_is_inside_the_l1_ball_and_the_box_stays(seed: int, radius: float) -> None:
    reference = some_points(seed, 4, 20)
    inside = project_l1_in_box(uniform(seed + 1, 4, 20, low=-1), reference, radius)
    assert (inside.abs().sum(1) <= radius * (1 + 2e-6) + 1e-6).all()
    assert ((reference + inside >= -1e-6) & (reference + inside <= 1 + 1e-6)).all()
    torch.testing.assert_close(project_l1_in_box(inside, reference, radius), inside, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(project_l1_in_box(0.5 * inside, reference, radius), 0.5 * inside)


def shortest(point: NDArray, normal: NDArray, offset: float, norm: Norm) -> float:
    """The least norm of a step from ``point`` to the hyperplane inside [0, 1], in float64."""
    count = len(point)
    if norm == "l2":
        height = normal @ point - offset
        direction = -np.sign(height) * np.sign(normal)
        room = np.where(direction > 0, 1 - point, point)

        def lacking(level: float) -> float:
            return float(abs(height) - np.abs(normal) @ np.minimum(level * np.abs(normal), room))

        level = root(lacking, 1e6)
        return float(np.sqrt(np.square(np.minimum(level * np.abs(normal), room)).sum()))
    # The step is up - down. linf: the largest entry, an unknown of its own, is minimised; l1: the sum.
    bounds = [(0, 1 - value) for value in point] + [(0, value) for value in point]
    plane = np.concatenate([normal, -normal])
    goal = [offset - normal @ point]
    if norm == "l1":
        return float(linprog(np.ones(2 * count), A_eq=[plane], b_eq=goal, bounds=bounds).fun)
    caps = np.hstack([np.vstack([np.eye(count)] * 2).T, -np.ones((count, 1))])
    solution = linprog(
        [0] * (2 * count) + [1],
        A_ub=caps,
        b_ub=np.zeros(count),
        A_eq=[[*plane, 0]],
        b_eq=goal,
        bounds=[*bounds, (0, 1)],
    )
    return float(solution.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, share=st.floats(0.01, 0.9))
def test_the_step_to_a_hyperplane_is_the_shortest(norm: Norm, seed: int, share: float) -> None:
    points, normal = some_points(seed, 2, 3, 8), uniform(seed + 1, 3, 8, low=-1)
    # Between the height of the first point and the highest that the box reaches, so that all can be reached.
    height = (normal * points[0]).sum(1)
    offset = height + share * (normal.clamp_min(0).sum(1) - height)
    steps = step_to_hyperplane(points, normal, offset, norm)
    moved = points + steps
    assert ((moved >= -1e-6) & (moved <= 1 + 1e-6)).all()
    torch.testing.assert_close((moved * normal).sum(-1), offset.expand(2, 3), rtol=1e-4, atol=1e-4)
    for place in range(2):
        for row in range(3):
            least = shortest(
                points[place, row].double().numpy(), normal[row].double().numpy(), float(offset[row]), norm
            )
            assert np.linalg.norm(steps[place, row], ORDER[norm]) == pytest.approx(least, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_hyperplane_out_of_reach_is_approached_as_far_as_the_box_allows(norm: Norm) -> None:
    points, normal = some_points(0, 1, 4, 90), uniform(1, 4, 90, low=-1)
    steps = step_to_hyperplane(points, normal, torch.full((4,), 1e3), norm)
    torch.testing.assert_close(points + steps, (normal > 0).float()[None])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_normal_no_step(norm: Norm) -> None:
    steps = step_to_hyperplane(some_points(0, 2, 3, 9), torch.zeros(3, 9), torch.ones(3), norm)
    assert (steps == 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_row_does_not_depend_on_the_others(norm: Norm) -> None:
    points, normal = some_points(0, 2, 6, 100), uniform(1, 6, 100, low=-1)
    offset = (points[0] * normal).sum(1) + torch.tensor([0.01, -0.5, 3.0, 1e3, 0.0, -20.0])
    together = step_to_hyperplane(points, normal, offset, norm)
    ball = project_l1_in_box(normal, points[0], 2.0)
    for row in range(6):
        alone = step_to_hyperplane(points[:, [row]], normal[[row]], offset[[row]], norm)
        torch.testing.assert_close(together[:, [row]], alone)
        torch.testing.assert_close(ball[[row]], project_l1_in_box(normal[[row]], points[0, [row]], 2.0))
