"""The attack inside training: where the best perturbation is known, it is found, in every norm."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import Linear, SmallNet
from torch import nn

from hardy.models import InputRamps
from hardy.threats import Norm, ThreatModel
from hardy.training.search import step_up, union_of_worst, worst_images

EPS = {"linf": 0.1, "l2": 0.5, "l1": 2.0}


def two_class(side: int = 6) -> tuple[Linear, torch.Tensor]:
    weight = torch.randn(side * side, generator=torch.Generator().manual_seed(3))
    return Linear(torch.stack([weight, -weight]), torch.zeros(2)), 2 * weight


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_margin_of_a_linear_classifier_falls_by_eps_times_the_dual_norm(norm: Norm) -> None:
    model, weight = two_class()
    # Far from 0 and 1, so that the ball is whole; in l1 one pixel takes the whole radius but has only 0.5 of room.
    images, labels = torch.full((3, 1, 6, 6), 0.5), torch.zeros(3, dtype=torch.long)
    threat = ThreatModel(norm, EPS[norm])
    worst = worst_images(
        model,
        images,
        threat,
        lambda logits: nn.functional.cross_entropy(logits, labels, reduction="sum"),
        images,
        steps=40,
        step_size=0.2 * threat.eps,
    )
    assert threat.contains(worst, images).all()
    fall = (model(images) - model(worst)).detach() @ torch.tensor([1.0, -1.0])
    largest = weight.abs().sort(descending=True).values
    # In l1 the four largest weights get 0.5 each, which uses up 2.0.
    best = {"linf": 0.1 * largest.sum(), "l2": 0.5 * largest.norm(), "l1": 0.5 * largest[:4].sum()}[norm]
    torch.testing.assert_close(fall, best.expand(3), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steps_stay_in_the_ball_and_the_box_and_go_nowhere_without_a_gradient(norm: Norm) -> None:
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round(decimals=0)
    threat = ThreatModel(norm, EPS[norm])
    gradient = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    moved = step_up(images, gradient, images, threat, 9.0)
    assert threat.contains(moved, images).all()
    assert not torch.equal(moved, images)
    assert torch.equal(step_up(images, torch.zeros_like(gradient), images, threat, 9.0), images)


def test_the_search_leaves_statistics_modes_and_gradients_alone() -> None:
    model, images = SmallNet().train(), torch.rand(4, 1, 28, 28)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    worst_images(model, images, ThreatModel("l2", 1.0), lambda it: it.sum(), images, steps=2, step_size=0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(it.requires_grad and it.grad is None for it in model.parameters())


def test_of_each_example_the_worst_is_taken() -> None:
    first, second = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    taken = union_of_worst([first, second], [torch.tensor([1.0, 0.0, 5.0]), torch.tensor([0.0, 1.0, 7.0])])
    assert taken[:, 0, 0, 0].tolist() == [0.0, 1.0, 1.0]


def test_the_search_passes_straight_through_ramps_that_are_cut() -> None:
    model, _ = two_class()
    behind = nn.Sequential(InputRamps([0.5], slope=1000.0), model)
    # White and black pixels, on which every ramp is cut: the gradient itself is zero.
    images = (torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    labels = behind(images).argmax(1)
    threat = ThreatModel("linf", 0.6)
    worst = worst_images(
        behind,
        images,
        threat,
        lambda logits: nn.functional.cross_entropy(logits, labels, reduction="sum"),
        images,
        steps=5,
        step_size=0.3,
    )
    assert (behind(worst).argmax(1) != labels).all()
