"""Threat models: distances, projections and random starts against closed forms, brute force and other solvers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor

from hardy.errors import UsageError
from hardy.rng import Randomness
from hardy.threats import NORMS, Norm, ThreatModel, gray_radius, project_l1, read_radius, usual_radii

RADII: dict[Norm, tuple[float, ...]] = {
    "linf": (0.0, 0.05, 0.3, 1.0),
    "l2": (0.0, 0.3, 2.0, 50.0),
    "l1": (0.0, 0.1, 10.0, 900.0),
    "l0": (0, 1, 12, 784),
}
THREATS = [ThreatModel(norm, eps) for norm, radii in RADII.items() for eps in radii]
ids = [f"{threat.norm}-{threat.eps:g}" for threat in THREATS]


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def far_from(reference: Tensor, seed: int = 1) -> Tensor:
    """Images that leave [0, 1], some by far."""
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    return reference + noise * torch.logspace(-2, 1, len(reference)).reshape(-1, 1, 1, 1)


def streams(count: int) -> Randomness:
    return Randomness(0, torch.arange(count), ("start",))


@pytest.mark.parametrize("norm", NORMS)
def test_distance_is_the_norm_of_the_change(norm: Norm) -> None:
    images, reference = pictures(5, 1, 6, 7), pictures(5, 1, 6, 7, seed=1)
    images[:, :, 2:4] = reference[:, :, 2:4]
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    change = (images - reference).flatten(1).numpy()
    distance = ThreatModel(norm, 1).distance(images, reference)
    assert distance.dtype == torch.float32
    np.testing.assert_allclose(distance, np.linalg.norm(change, ord=order, axis=1), rtol=1e-5)


def test_a_pixel_that_differs_in_several_channels_counts_once_in_l0() -> None:
    reference = pictures(1, 3, 4, 4)
    images = reference.clone()
    images[0, :, 1, 1] += 0.1
    images[0, 2, 3, 0] -= 0.1
    assert ThreatModel("l0", 1).distance(images, reference).tolist() == [2.0]


@pytest.mark.parametrize("threat", THREATS, ids=ids)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 5)])
def test_a_projection_is_inside_and_stays_when_projected_again(threat: ThreatModel, shape: tuple[int, ...]) -> None:
    reference = pictures(20, *shape)
    projected = threat.project(far_from(reference), reference)
    assert threat.contains(projected, reference).all()
    torch.testing.assert_close(threat.project(projected, reference), projected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("threat", THREATS, ids=ids)
def test_a_projection_leaves_what_is_inside_alone(threat: ThreatModel) -> None:
    reference = pictures(20, 1, 28, 28)
    smaller = ThreatModel(threat.norm, threat.eps // 2 if threat.norm == "l0" else threat.eps * 0.9)
    inside = smaller.random_start(reference, streams(20))
    torch.testing.assert_close(threat.project(inside, reference), inside, rtol=0, atol=2e-7)


@pytest.mark.parametrize("eps", [0.05, 0.3, 2.0])
def test_a_small_l1_ball_holds_the_projection_of_a_large_change(eps: float) -> None:
    threat, reference = ThreatModel("l1", eps), torch.zeros(1, 1, 28, 28)
    projected = threat.project(reference + 0.9, reference)
    assert threat.contains(projected, reference).all()
    torch.testing.assert_close(projected, torch.full_like(projected, eps / 784), rtol=1e-4, atol=0)


def test_the_linf_projection_is_the_nearest_point_of_ball_and_range() -> None:
    reference = pictures(20, 1, 28, 28)
    images = far_from(reference)
    low, high = (reference - 0.2).clamp_min(0), (reference + 0.2).clamp_max(1)
    torch.testing.assert_close(ThreatModel("linf", 0.2).project(images, reference), images.clamp(low, high))


def test_the_l2_projection_shortens_the_change() -> None:
    reference = torch.full((3, 1, 2, 2), 0.5)
    change = torch.tensor([[0.3, 0.0, -0.4, 0.0], [3.0, 4.0, 12.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).reshape(3, 1, 2, 2)
    expected = change * torch.tensor([0.25 / 0.5, 0.25 / 13.0, 1.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(ThreatModel("l2", 0.25).project(reference + change, reference), reference + expected)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_the_l1_projection_is_the_nearest_point_that_a_general_solver_finds(size: int, radius: float) -> None:
    rows = 4 * torch.rand(4, size, generator=torch.Generator().manual_seed(size)) - 2
    projected = project_l1(rows, radius)
    assert projected.dtype == torch.float32
    for row, found in zip(rows.double().numpy(), projected.numpy(), strict=True):
        solved = minimize(
            # The point is written as a difference of two non-negative ones, which makes the ball smooth.
            lambda parts, row=row: ((parts[:size] - parts[size:] - row) ** 2).sum(),
            np.zeros(2 * size),
            bounds=[(0, None)] * 2 * size,
            constraints={"type": "ineq", "fun": lambda parts: radius - parts.sum()},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(found, solved.x[:size] - solved.x[size:], atol=1e-4)


def test_the_l0_projection_keeps_the_pixels_that_leave_the_least_behind() -> None:
    reference, images = torch.full((6, 1, 2, 3), 0.5), pictures(6, 1, 2, 3, seed=3)
    for eps in range(7):
        projected = ThreatModel("l0", eps).project(images, reference).flatten(1)
        left = (projected - images.flatten(1)).square().sum(1)
        best = [
            min(
                sum(float(row[place] - 0.5) ** 2 for place in range(6) if place not in kept)
                for kept in itertools.combinations(range(6), eps)
            )
            for row in images.flatten(1)
        ]
        torch.testing.assert_close(left, torch.tensor(best, dtype=torch.float32))


@pytest.mark.parametrize("norm", NORMS)
def test_contains_holds_the_border_and_nothing_beyond(norm: Norm) -> None:
    eps = {"linf": 0.25, "l2": 0.5, "l1": 1.0, "l0": 4}[norm]
    reference = torch.full((1, 1, 2, 4), 0.5)
    images = reference.clone()
    images[0, 0, 0] += 0.25
    assert ThreatModel(norm, eps).contains(images, reference).all()
    images[0, 0, 1, 0] += 0.001
    images[0, 0, 0, 0] += 0.001
    assert not ThreatModel(norm, eps).contains(images, reference).any()


@pytest.mark.parametrize("value", [-1e-7, 1 + 2e-7, math.nan])
def test_contains_refuses_what_is_no_image(value: float) -> None:
    reference = pictures(3, 1, 4, 4).round()
    images = reference.clone()
    images[1, 0, 2, 2] = value
    for norm in NORMS:
        assert ThreatModel(norm, 1).contains(images, reference).tolist() == [True, False, True]


@pytest.mark.parametrize("threat", THREATS, ids=ids)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 5)])
def test_random_starts_are_inside_and_differ(threat: ThreatModel, shape: tuple[int, ...]) -> None:
    images = pictures(1, *shape).expand(30, *shape)
    starts = threat.random_start(images, streams(30))
    assert threat.contains(starts, images).all()
    assert len(starts.flatten(1).unique(dim=0)) == (30 if threat.eps else 1)
    alone = threat.random_start(images[7:8], streams(30).select(torch.tensor([7])))
    torch.testing.assert_close(alone, starts[7:8], rtol=0, atol=1e-6)


def test_random_starts_in_linf_are_uniform() -> None:
    images = torch.full((3000, 1, 2, 2), 0.5)
    change = ThreatModel("linf", 0.3).random_start(images, streams(3000)) - images
    assert stats.kstest(((change + 0.3) / 0.6).flatten().numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_random_starts_are_uniform_over_the_ball(norm: Norm) -> None:
    # In two dimensions a pixel's change has a known law: an l2 disc of radius 1, or an l1 diamond.
    images = torch.full((4000, 1, 1, 2), 0.5)
    change = (ThreatModel(norm, 0.4).random_start(images, streams(4000)) - images).flatten(1).numpy() / 0.4
    law = {
        "l2": lambda x: 0.5 + (x * np.sqrt(1 - x**2) + np.arcsin(x)) / np.pi,
        "l1": lambda x: 0.5 + np.sign(x) * (1 - (1 - np.abs(x)) ** 2) / 2,
    }[norm]
    for pixel in change.T:
        assert stats.kstest(np.clip(pixel, -1, 1), law).pvalue > 1e-3
    both = torch.from_numpy(change.T)
    assert torch.corrcoef(both.abs())[0, 1] < -0.1
    assert torch.corrcoef(both)[0, 1].abs() < 4 / math.sqrt(4000)


def test_random_starts_in_l0_change_so_many_pixels_anywhere() -> None:
    images = pictures(2000, 1, 4, 5)
    changed = (ThreatModel("l0", 3).random_start(images, streams(2000)) != images).flatten(1)
    assert (changed.sum(1) == 3).all()
    assert stats.chisquare(changed.sum(0).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("linf", math.nan, "finite number from 0 up"),
        ("l2", -0.1, "finite number from 0 up"),
        ("l1", math.inf, "finite number from 0 up"),
        ("l0", 2.5, "whole number of pixels"),
        ("l3", 1.0, "unknown norm 'l3'; known: linf, l2, l1, l0"),
    ],
)
def test_radii_and_norms_that_are_none_are_refused(norm: Norm, eps: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ThreatModel(norm, eps)
    with pytest.raises(UsageError, match=message):
        ThreatModel.checked(norm, eps)


def test_eight_for_eight_255ths_is_refused_in_both_units() -> None:
    with pytest.raises(UsageError, match=rf"8/255, type {8 / 255:.6g} \(eps 1 is 255/255\)"):
        ThreatModel.checked("linf", 8)
    assert ThreatModel.checked("linf", 8 / 255) == ThreatModel("linf", 8 / 255)
    assert ThreatModel.checked("linf", 1).eps == 1
    assert ThreatModel.checked("l1", 10) == ThreatModel("l1", 10)


def test_usual_radii_follow_the_images() -> None:
    assert usual_radii((1, 28, 28)) == {"linf": 0.3, "l2": 2.0, "l1": 10.0}
    assert usual_radii((3, 32, 32)) == {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
    assert usual_radii((1, 56, 56)) == {"linf": 0.3, "l2": 4.0, "l1": 20.0}


@pytest.mark.parametrize("norm", NORMS)
def test_gray_lies_within_its_radius_of_every_image(norm: Norm) -> None:
    images = pictures(20, 3, 4, 5).round()
    threat = ThreatModel(norm, gray_radius(norm, images.shape[1:]))
    assert bool(threat.contains(torch.full_like(images, 0.5), images).all())
    if threat.eps > 1:
        nearer = ThreatModel(norm, threat.eps - 1)
        assert not bool(nearer.contains(torch.full_like(images, 0.5), images).any())


@pytest.mark.parametrize(
    ("typed", "eps"), [("8/255", 8 / 255), ("0.3", 0.3), (0.3, 0.3), (12, 12.0), (" 1 / 4 ", 0.25)]
)
def test_a_radius_is_read_as_what_it_says(typed: float | str, eps: float) -> None:
    assert read_radius(typed) == eps


@pytest.mark.parametrize("typed", ["eight", "8/0", "8/", "/255", "1/2/3", ""])
def test_what_is_no_radius_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="a number or a fraction"):
        read_radius(typed)
