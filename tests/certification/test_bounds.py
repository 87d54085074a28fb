"""Bounds are sound on random networks, and as tight as theory says."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from helpers.certifying import (
    ARCHITECTURES,
    SHAPE,
    ball_of,
    build,
    ensemble_of,
    networks,
    randomize,
    sampled,
    worst_gap,
)
from scipy.optimize import linprog
from torch import Tensor, nn

import hardy
from hardy.certification import operations
from hardy.certification.bounds import Ball, Boxes, crown, crown_boxes, interval_boxes, margin_weights
from hardy.certification.operations import Affine, Box, Lines
from hardy.certification.trace import Network, trace
from hardy.threats import ThreatModel

NORMS = ("linf", "l2", "l1")
# 10,000 take some minutes.
NETWORKS = int(os.environ.get("HARDY_RANDOM_NETWORKS", "800"))
DUALS = {"linf": 1, "l2": 2, "l1": np.inf}


def check_soundness(name: str, count: int, seed: int = 0) -> None:
    for number, (model, network, generator) in enumerate(networks(name, count, seed)):
        ball = ball_of(generator, NORMS[number % 3])
        gap = worst_gap(model, network, ball, generator)
        assert gap >= 0, f"an image beats a bound of network {number} of '{name}' by {-gap:.3g}"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_image_beats_a_bound(name: str) -> None:
    check_soundness(name, 9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_image_beats_a_bound_of_many_networks(name: str) -> None:
    check_soundness(name, NETWORKS // len(ARCHITECTURES) + 1, seed=1)


def _steeper(box: Box) -> Lines:
    line = RIGHT_LINES(box)
    return line._replace(upper_slope=0.8 * line.upper_slope, upper_offset=0.8 * line.upper_offset)


RIGHT_LINES = operations._relu_lines
BROKEN = {
    "the line above is too low": ("relu", (operations, "_relu_lines", _steeper)),
    "weights lose their sign": ("relu", (Affine, "box", lambda self, *boxes: Box(*(self(*it) for it in zip(*boxes))))),  # noqa: B905
    "no room between the points of a grid, and half the values": (
        "gelu",
        (operations.Activation, "_smooth_lines", lambda _, box: Lines(*[0 * box.lower] * 4)),
    ),
    "pooling forgets the other elements": (
        "max pool",
        (
            operations.MaxPool,
            "routes",
            lambda self, box, right=operations.MaxPool.routes: (*right(self, box)[:2], 0 * right(self, box)[2]),
        ),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_bound_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, (owner, attribute, wrong) = BROKEN[what]
    monkeypatch.setattr(owner, attribute, wrong)
    with pytest.raises(AssertionError, match="beats a bound"):
        check_soundness(name, 30)


@pytest.mark.parametrize("norm", NORMS)
def test_an_ensemble_is_bounded(norm: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        model, ball = ensemble_of(generator), ball_of(generator, norm)
        labels = torch.randint(3, (2,), generator=generator)
        images = sampled(ball, generator, 200)
        with torch.no_grad():
            logits = torch.stack([model(it) for it in images])
        margins = (logits.gather(2, labels.expand(200, 2)[..., None]) - logits).numpy()
        for method in ("intervals", "crown"):
            found = hardy.certification.bounds(
                model, ball.images, labels, eps=ball.threat.eps, norm=norm, method=method, iterations=3
            )
            rows = np.arange(2)
            found.margins[rows, labels] = 0.0
            assert (margins >= found.margins).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_network_has_its_exact_margin(norm: str) -> None:
    """Within [0, 1] far from the edge, the margin falls by eps times the dual norm."""
    generator = torch.Generator().manual_seed(0)
    model = build("linear")
    randomize(model, generator)
    images, labels, eps = 0.4 + 0.2 * torch.rand(5, *SHAPE, generator=generator), torch.arange(5) % 3, 0.1
    weights, others = margin_weights(labels, 3)
    rows = weights @ model[1].weight.detach()  # type: ignore[index]
    exact = (weights @ model(images).detach()[..., None])[..., 0] - eps * rows.norm(DUALS[norm], dim=2)
    found = torch.from_numpy(hardy.certification.bounds(model, images, labels, eps=eps, norm=norm).margins)
    torch.testing.assert_close(found.gather(1, others), exact, atol=1e-3, rtol=1e-3)
    assert (found.gather(1, others) <= exact).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_edge_of_the_pixel_range_is_used(norm: str) -> None:
    """The minimum over the ball within [0, 1], by an independent solver; a sample never has less."""
    generator = torch.Generator().manual_seed(1)
    images = (torch.rand(6, 1, 2, 3, generator=generator) * 1.4 - 0.2).clamp(0, 1)
    ball = Ball(images, ThreatModel(norm, 0.7))  # type: ignore[arg-type]
    weights = torch.randn(6, 2, 6, generator=generator)
    found, at = ball.minimum(weights)
    for row, image in enumerate(images.flatten(1)):
        for column, weight in enumerate(weights[row]):
            exact = _minimum(weight.double().numpy(), image.double().numpy(), norm, ball.radius)
            assert exact - 1e-3 <= float(found[row, column]) <= exact + 1e-6
            change = (at[row, column] - image).abs()
            assert float(change.norm(2 if norm == "l2" else 1)) <= ball.radius * 1.001


@pytest.mark.parametrize("norm", NORMS)
def test_what_no_image_moves_has_no_minimum_but_0(norm: str) -> None:
    ball = Ball(torch.rand(1, *SHAPE), ThreatModel(norm, 0.5))  # type: ignore[arg-type]
    found, at = ball.minimum(torch.stack([torch.zeros(1, 36), torch.full((1, 36), 1e-33)], 1))
    assert bool((found.abs() < 1e-20).all())
    assert bool(at.isfinite().all())


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_pixel_that_is_copied_moves_all_of_its_copies(norm: str) -> None:
    """Three copies whose weights agree: the sum falls three times as far as that of one."""

    class Copied(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.expand(-1, 3, -1, -1).flatten(1) @ torch.ones(108, 2)

    (network,) = trace(Copied(), SHAPE).networks
    ball = Ball(torch.full((1, *SHAPE), 0.5), ThreatModel(norm, 0.1))  # type: ignore[arg-type]
    exact = 3 * 0.1 * (6 if norm == "l2" else 1)
    lower = interval_boxes(network, ball).values[-1].lower[0, 0]
    assert exact <= 54 - float(lower) < 1.01 * exact


def _minimum(weight: np.ndarray, image: np.ndarray, norm: str, radius: float) -> float:
    if norm == "l1":
        size = len(weight)
        matrix = np.concatenate([np.ones(size), np.ones(size)])[None]
        bounds = [*((0, 1 - it) for it in image), *((0, it) for it in image)]
        return float(weight @ image + linprog(np.concatenate([weight, -weight]), matrix, [radius], bounds=bounds).fun)
    low, high, change = 1e-9, 1e9, 0 * weight
    for _ in range(200):
        multiplier = (low * high) ** 0.5
        change = np.clip(-weight / multiplier, -image, 1 - image)
        low, high = (multiplier, high) if np.linalg.norm(change) > radius else (low, multiplier)
    return float(weight @ (image + change))


def linear_program(network: Network, known: Boxes, weights: Tensor, lines: dict[int, Lines] | None) -> float:
    """The least weighted sum of logits in the relaxation, of one image in linf; by ``lines`` or by triangles."""
    sizes = [int(np.prod(shape)) for shape in network.shapes]
    starts = np.cumsum([0, *sizes])
    equal, right, less, most = [], [], [], []
    first = (it.flatten().tolist() for it in known.values[0])
    limits: list[tuple[float | None, float | None]] = [*zip(*first, strict=True)]
    for number, operation in enumerate(network.operations, 1):
        size, (source,) = sizes[number], operation.sources
        limits += [(None, None)] * size
        eye = np.eye(size)
        if isinstance(operation, Affine):
            basis = torch.eye(sizes[source]).reshape(-1, *network.shapes[source])
            zero = operation(torch.zeros(1, *network.shapes[source])).detach().flatten().numpy()
            matrix = operation(basis).detach().flatten(1).numpy() - zero
            block = np.zeros((size, starts[-1]))
            block[:, starts[number] : starts[number + 1]] = eye
            block[:, starts[source] : starts[source + 1]] = -matrix.T
            equal.append(block)
            right.append(zero)
            continue
        line = operations._relu_lines(known.values[source]) if lines is None else lines[number]
        low, low_offset, high, high_offset = (it.flatten().numpy() for it in line)
        below = [(low, low_offset)] if lines is not None else [(0 * low, 0 * low), (0 * low + 1, 0 * low)]
        for slope, offset, sign in [(high, high_offset, 1), *((slope, offset, -1) for slope, offset in below)]:
            block = np.zeros((size, starts[-1]))
            block[:, starts[number] : starts[number + 1]] = sign * eye
            block[:, starts[source] : starts[source + 1]] = -sign * np.diag(slope)
            less.append(block)
            most.append(sign * offset)
    goal = np.zeros(starts[-1])
    goal[starts[-2] :] = weights.numpy()
    a_ub, b_ub, a_eq, b_eq = (np.concatenate(it) for it in (less, most, equal, right))
    done = linprog(goal, a_ub, b_ub, a_eq, b_eq, limits)
    return float(done.fun)


def small_relu(seed: int) -> tuple[Network, Boxes, Ball, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    randomize(model, generator)
    (network,) = trace(model, (1, 2, 2)).networks
    ball = Ball(torch.rand(1, 1, 2, 2, generator=generator), ThreatModel("linf", 0.3))
    with torch.no_grad():
        known = crown_boxes(network, ball, refined=50)
    return network, known, ball, margin_weights(torch.tensor([0]), 3)[0]


@pytest.mark.parametrize("seed", range(4))
def test_linear_relaxation_is_the_linear_program_of_its_lines(seed: int) -> None:
    network, known, ball, weights = small_relu(seed)
    lines = {
        number: it.lines(known.values[it.source])
        for number, it in enumerate(network.operations, 1)
        if isinstance(it, operations.Activation)
    }
    found = crown(network, known, ball, weights).lower
    exact = [linear_program(network, known, it, lines) for it in weights[0]]
    np.testing.assert_allclose(found[0], exact, atol=1e-4)
    assert (found[0].numpy() <= np.array(exact) + 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_optimized_slopes_reach_the_linear_program_of_triangles(seed: int) -> None:
    network, known, ball, weights = small_relu(seed)
    exact = np.array([linear_program(network, known, it, None) for it in weights[0]])
    # Margins that are certified are not optimized further, so the sums are moved below 0.
    lowered = weights - 100 * torch.ones_like(weights)
    exact_lowered = np.array([linear_program(network, known, it, None) for it in lowered[0]])
    found = crown(network, known, ball, lowered, iterations=150).lower[0].numpy()
    assert (found <= exact_lowered + 1e-6).all()
    start = crown(network, known, ball, lowered).lower[0].numpy()
    assert (found >= start).all()
    np.testing.assert_allclose(found, exact_lowered, atol=2e-2 * max(1.0, np.abs(exact_lowered).max()))
    assert (crown(network, known, ball, weights, iterations=60).lower[0].numpy() <= exact + 1e-6).all()


def test_intervals_cost_at_most_three_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, convolve = [], nn.functional.conv2d
    (network,) = trace(build("residual"), SHAPE).networks
    ball = Ball(torch.rand(2, *SHAPE), ThreatModel("linf", 0.1))
    monkeypatch.setattr(nn.functional, "conv2d", lambda *args: calls.append(1) or convolve(*args))
    network(ball.images)
    forward = len(calls)
    calls.clear()
    interval_boxes(network, ball)
    assert forward == 2
    assert len(calls) <= 3 * forward
