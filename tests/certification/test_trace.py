"""Tracing: what is recorded answers as the classifier does, and what has no bound is named."""

from __future__ import annotations

import pytest
import torch
from helpers.certifying import ARCHITECTURES, SHAPE, build
from torch import Tensor, nn

import hardy
from hardy.certification import NoBoundError, reason_without_bounds
from hardy.certification.trace import trace
from hardy.models import Ensemble

HARDYS = ("compact", "strided", "cnn", "kernel5-shallow")


@pytest.mark.parametrize("name", HARDYS)
def test_hardys_networks_are_traced(name: str) -> None:
    model, images = hardy.build_model(name).eval(), torch.rand(2, 1, 28, 28)
    (network,) = trace(model, (1, 28, 28)).networks
    with torch.no_grad():
        torch.testing.assert_close(network(images), model(images), atol=1e-4, rtol=1e-3)


def test_the_members_of_an_ensemble_are_traced() -> None:
    assert len(trace(Ensemble([build("relu"), build("residual")]), SHAPE).networks) == 2


def test_tracing_leaves_the_classifier_as_it_was() -> None:
    model = ARCHITECTURES["residual"]().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, SHAPE)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(it.requires_grad for it in model.parameters())


class Odd(nn.Module):
    """A network whose middle is a function of the features."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(36, 5), nn.Linear(5, 3), function

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.function(self.first(images.flatten(1))))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x * x, "product of two values"),
        (lambda x: torch.sin(x), "'sin'"),
        (lambda x: x / (1 + x.abs()), "'abs'"),
        (lambda x: x - x.mean(0), "mixes the images"),
        (lambda x: x.flip(0), "mixes the images"),
        (lambda x: x + 0.1 * torch.randn_like(x), "random numbers"),
        (lambda x: nn.functional.dropout(x), "random numbers"),
        (lambda x: nn.functional.gelu(x, approximate="tanh"), "'gelu' with"),
        (lambda x: x if float(x.sum()) > 0 else -x, "cannot be recorded"),
        (lambda x: torch.from_numpy(x.numpy() * 2), ""),
        (lambda x: x.double().float(), "float64"),
        (lambda x: x.softmax(1), "softmax"),
    ],
)
def test_what_has_no_bound_is_named(function: object, named: str) -> None:
    model = Odd(function).eval()
    reason = reason_without_bounds(model, SHAPE)
    assert reason
    assert named in reason
    with pytest.raises(NoBoundError):
        hardy.certification.bounds(model, torch.rand(1, *SHAPE), torch.tensor([0]), eps=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_there_is_no_reason_where_there_are_bounds(name: str) -> None:
    assert reason_without_bounds(build(name), SHAPE) == ""
