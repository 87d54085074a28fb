"""The networks: sizes as published, the ensemble's arithmetic, and what every model has to keep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.docs import run_examples
from torch import Tensor, nn

from hardy.data import load_dataset
from hardy.errors import UsageError
from hardy.models import (
    MODELS,
    Ensemble,
    InputLevels,
    InputRamps,
    SimpleNet,
    build_model,
    parameter_count,
    predict_logits,
    register,
    straight_through,
)
from hardy.models.study import SIMPLE_NETS

STUDY_ENSEMBLE = ("kernel3", "kernel5", "kernel7")
SMALL_ENSEMBLE: dict[str, Any] = {
    "members": [{"name": "compact", "arguments": {"width": 4}}, {"name": "cnn"}, {"name": "kernel7"}]
}
ARGUMENTS = {name: SMALL_ENSEMBLE if name == "ensemble" else {} for name in MODELS}


class Constant(nn.Module):
    """Gives the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def model_of(name: str) -> nn.Module:
    """A fresh copy, in evaluation mode, with batch-norm statistics of some images, so that its answers vary."""
    return copy.deepcopy(_built(name))


@cache
def _built(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(name, **ARGUMENTS[name])
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = None
        model(images(4))
    return model.eval()


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def without_convolution_biases(model: nn.Module) -> int:
    biases = [it.bias for it in model.modules() if isinstance(it, nn.Conv2d) and it.bias is not None]
    return parameter_count(model) - sum(bias.numel() for bias in biases)


def test_the_small_cnn_has_the_studys_size() -> None:
    assert parameter_count(build_model("cnn")) == 21_840


@pytest.mark.parametrize(("name", "count"), [("kernel3", 1_124_180), ("kernel5", 1_128_180), ("kernel7", 2_291_972)])
def test_the_simple_networks_have_the_published_sizes(name: str, count: int) -> None:
    assert without_convolution_biases(build_model(name)) == count


def test_the_strided_network_is_as_it_was_unless_it_is_told_otherwise() -> None:
    assert parameter_count(build_model("strided")) == 839_018
    assert {name.partition(".")[0] for name in build_model("strided").state_dict()} == {
        "conv1",
        "conv2",
        "hidden",
        "head",
    }
    larger = build_model("strided", width=8, depth=2, hidden=16, group_norm=True, channels=3, size=12, classes=4)
    assert larger(torch.rand(2, 3, 12, 12)).shape == (2, 4)
    # An example's answer does not depend on its batch.
    batch = torch.rand(3, 3, 12, 12)
    torch.testing.assert_close(larger(batch)[:1], larger(batch[:1]))


@pytest.mark.parametrize("learnable", [False, True])
def test_ramps_are_cut_and_gradients_pass_straight_through_on_request(learnable: bool) -> None:
    ramps = InputRamps([0.3, 0.5], slope=2.0, learnable=learnable)
    pixels = torch.tensor([0.0, 0.2, 0.5, 1.0]).reshape(1, 1, 2, 2).requires_grad_()
    expected = torch.tensor([[0.0, 0.3, 0.9, 1.0], [0.0, 0.0, 0.5, 1.0]])
    torch.testing.assert_close(ramps(pixels).flatten(2)[0], expected)
    (cut,) = torch.autograd.grad(ramps(pixels).sum(), pixels)
    with straight_through(ramps):
        torch.testing.assert_close(ramps(pixels).flatten(2)[0], expected)
        (passed,) = torch.autograd.grad(ramps(pixels).sum(), pixels)
    assert cut.flatten().tolist() == [0.0, 2.0, 4.0, 0.0]
    assert passed.flatten().tolist() == [4.0, 4.0, 4.0, 4.0]
    assert not ramps.straight_through
    assert all(it.requires_grad == learnable for it in ramps.parameters())


def test_levels_change_nothing_within_the_ball_around_a_digit_and_have_no_gradient_of_their_own() -> None:
    digits = load_dataset("mnist/validation").floats(torch.arange(50))
    levels = InputLevels(0.33)
    corners = 0.3 * (2.0 * (images(50) > 0.5) - 1.0)
    for moved in (
        digits,
        (digits + corners).clamp(0.0, 1.0),
        (digits - 0.3).clamp_min(0.0),
        (digits + 0.3).clamp_max(1.0),
    ):
        leaf = moved.requires_grad_()
        torch.testing.assert_close(levels(leaf), leaf)
        (gradient,) = torch.autograd.grad(levels(leaf).sum(), leaf)
        torch.testing.assert_close(gradient, torch.ones_like(leaf))


def test_levels_lower_gray_paper_and_raise_faint_ink_up_to_the_margin() -> None:
    digits = load_dataset("mnist/validation").floats(torch.arange(50))
    levels = InputLevels(0.3)
    torch.testing.assert_close(levels(0.5 + 0.5 * digits), 0.3 + 0.5 * digits)
    faint = 0.2 * digits / digits.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(levels(faint), 3.5 * faint)
    assert levels(torch.zeros(1, 1, 28, 28)).isfinite().all()
    assert levels(digits / 100).amax() <= 0.051


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_ensemble_has_the_studys_size(activation: str) -> None:
    members = [{"name": name, "arguments": {"activation": activation}} for name in STUDY_ENSEMBLE]
    ensemble = build_model("ensemble", members=members)
    assert parameter_count(ensemble) == 4_546_332
    kind = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]
    activations = [it for it in ensemble.modules() if isinstance(it, nn.GELU | nn.ReLU)]
    assert len(activations) == 10 + 5 + 4
    assert all(isinstance(it, kind) for it in activations)


@pytest.mark.parametrize("name", SIMPLE_NETS)
def test_the_simple_networks_shrink_the_map_by_each_unpadded_kernel(name: str) -> None:
    model = build_model(name)
    assert isinstance(model, SimpleNet)
    kernel, channels = SIMPLE_NETS[name]
    side = 28 - len(channels) * (kernel - 1)
    assert model.features(images(2)).shape == (2, channels[-1], side, side)
    assert model.head.bias is None


def test_the_shallow_networks_are_cut_off_from_the_deep_ones() -> None:
    for name in ("kernel3", "kernel5"):
        kernel, channels = SIMPLE_NETS[name]
        shallow_kernel, shallow = SIMPLE_NETS[f"{name}-shallow"]
        assert shallow_kernel == kernel
        assert shallow == channels[: len(shallow)]
        assert len(shallow) < len(channels)


def test_the_ensemble_averages_probabilities() -> None:
    logits = [(2.0, -1.0, 0.5), (0.0, 0.0, 0.0), (-30.0, 50.0, 120.0)]
    answer = Ensemble([Constant(*row) for row in logits])(images(2))
    powers = np.exp(np.array(logits))
    expected = np.log((powers / powers.sum(1, keepdims=True)).mean(0))
    np.testing.assert_allclose(answer.detach()[1], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(answer.exp().sum(1), torch.ones(2))
    torch.testing.assert_close(answer.softmax(1), answer.exp())


def test_the_ensemble_takes_the_most_probable_mean_and_not_the_mean_logit() -> None:
    # One member is wildly sure of class 2, two are mildly for class 0: logits would be outshouted.
    members = [Constant(2.0, 0.0, 1.0), Constant(2.0, 0.0, 1.0), Constant(0.0, 0.0, 100.0)]
    ensemble = Ensemble(members)
    expected = torch.stack([member(images(1)).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(ensemble(images(1)).softmax(1), expected)
    assert ensemble.member_logits(images(5)).shape == (3, 5, 3)


def test_an_ensemble_of_one_answers_with_its_probabilities() -> None:
    alone = Constant(1.0, 2.0, 4.0)
    torch.testing.assert_close(Ensemble([alone])(images(1)).softmax(1), alone(images(1)).softmax(1))


def test_an_ensemble_of_sure_members_stays_finite() -> None:
    answer = Ensemble([Constant(1000.0, 0.0), Constant(0.0, 1000.0)])(images(1))
    torch.testing.assert_close(answer.exp(), torch.full((1, 2), 0.5))


def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'kernel4'; did you mean kernel"):
        build_model("kernel4")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("compact", {"widht": 3}, r"model 'compact': .*'widht'.*; it takes .*width"),
        ("kernel3", {"kernel": 3}, r"model 'kernel3': .*'kernel'.*; it takes .*activation"),
        ("kernel5", {"activation": "gellu"}, "unknown activation 'gellu'; did you mean gelu"),
        ("ensemble", {}, r"model 'ensemble': .*'members'"),
    ],
)
def test_unknown_arguments_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_model(name, **arguments)


@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 3), (9, 3, 2), (32, 3, 100), (65, 1, 10)])
def test_the_compact_network_takes_other_sizes_and_channels(size: int, channels: int, classes: int) -> None:
    model = build_model("compact", width=4, size=size, channels=channels, classes=classes).eval()
    assert model(torch.rand(3, channels, size, size)).shape == (3, classes)


def test_a_network_of_ones_own_is_built_by_its_name() -> None:
    try:

        @register(name="mine")
        def mine(classes: int = 10) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))

        assert build_model("mine", classes=3)(images(2)).shape == (2, 3)
        with pytest.raises(UsageError, match=r"model 'mine'.*it takes .*classes"):
            build_model("mine", width=3)
        with pytest.raises(UsageError, match="there is a model 'mine' already"):
            register(name="mine")(mine)
    finally:
        MODELS.remove("mine")


@pytest.mark.parametrize("function", [build_model, register])
def test_its_example_runs(function: Callable[..., object]) -> None:
    run_examples(function, function.__name__)


def test_logits_are_predicted_batch_by_batch_without_gradients() -> None:
    model, batch = model_of("compact"), images(7)
    found = predict_logits(model, batch, 3)
    assert not found.requires_grad
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model(batch).detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_logits_that_do_not_change_or_depend_on_the_batch(name: str) -> None:
    model, batch = model_of(name), images(3, seed=1)
    with torch.no_grad():
        logits = model(batch)
        assert logits.shape == (3, 10)
        assert logits.dtype == torch.float32
        assert torch.equal(logits, model(batch))
        assert logits.std(0).min() > 0
        alone = torch.cat([model(image[None]) for image in batch])
        torch.testing.assert_close(alone, logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(model(batch.flip(0)).flip(0), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_reaches_every_image_and_stays_in_it(name: str) -> None:
    model = model_of(name)
    batch = images(3, seed=2).requires_grad_()
    model(batch)[:2].logsumexp(1).sum().backward()
    assert batch.grad is not None
    reached = batch.grad.abs().flatten(1).sum(1) > 0
    assert reached.tolist() == [True, True, False]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained(name: str) -> None:
    model = model_of(name).train()
    torch.nn.functional.cross_entropy(model(images(2)), torch.arange(2)).backward()
    # A bias right before batch norm has no effect but rounding; it has a gradient all the same.
    assert [key for key, it in model.named_parameters() if it.grad is None] == []


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_gives_the_same_answers(name: str) -> None:
    model, batch = model_of(name), images(2)
    with torch.no_grad():
        expected = model(batch)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moved = model(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_dropout_left_on_makes_the_cnn_random_and_nothing_else_does() -> None:
    usual, random = build_model("cnn").eval(), build_model("cnn", dropout_left_on=True).eval()
    random.load_state_dict(usual.state_dict())
    batch = images(5)
    assert torch.equal(usual(batch), usual(batch))
    assert not torch.equal(random(batch), random(batch))
    assert not torch.equal(usual.train()(batch), usual(batch))
