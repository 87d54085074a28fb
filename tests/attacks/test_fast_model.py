"""The copy that attacks search with: it answers as its original does, and so do its gradients."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import some_digits
from helpers.zoo import ZOO, Around
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from hardy.attacks.fast_model import Count, Float32Linear, RowsAsPixels, SubPixelConv, behavior_of, fast_model
from hardy.validation import Classifier


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _gradient(layer: Classifier, images: Tensor, weights: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_(True)
    return torch.autograd.grad((layer(leaf) * weights).sum(), leaf)[0]


@settings(deadline=None, max_examples=40)
@given(
    channels=st.integers(1, 3),
    stride=st.integers(2, 3),
    windows=st.integers(1, 2),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(6, 11), st.integers(6, 11)),
    seed=st.integers(0, 2**16),
)
def test_sub_pixels_give_the_gradient_of_the_convolution(
    channels: int, stride: int, windows: int, padding: int, size: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(channels, 5, stride * windows, stride, padding).requires_grad_(False)
    images = torch.rand(2, channels, *size)
    weights = torch.randn_like(conv(images))
    assert_close(_gradient(SubPixelConv(conv), images, weights), _gradient(conv, images, weights))


@pytest.mark.parametrize("rows", [1, 2, 37])
def test_rows_as_pixels_are_a_linear_layer(rows: int, generator: torch.Generator) -> None:
    linear = nn.Linear(20, 6).requires_grad_(False)
    features, weights = torch.rand(rows, 20, generator=generator), torch.rand(rows, 6, generator=generator)
    exchanged = RowsAsPixels(linear)
    assert_close(exchanged(features), linear(features))
    assert_close(_gradient(exchanged, features, weights), _gradient(linear, features, weights))


class _Net(nn.Module):
    """A convolution with stride, a wide and a last linear layer; ``after`` comes last of all."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 4, 2, 1)
        self.hidden = nn.Linear(8 * 4 * 4, 12)
        self.head = nn.Linear(12, 3)
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.head(self.hidden(self.conv(images).relu().flatten(1)).relu()))


def test_the_layers_are_exchanged_where_they_may_be(generator: torch.Generator) -> None:
    probe = torch.rand(4, 1, 8, 8, generator=generator)
    for dtype, hidden, head in (
        (torch.float32, RowsAsPixels, RowsAsPixels),
        (torch.bfloat16, nn.Linear, Float32Linear),
    ):
        net = _Net(nn.Identity()).eval()
        found = fast_model(net, behavior_of(net, probe), dtype, Count(), [])
        assert found is not None
        model = found._model
        assert isinstance(model.conv, SubPixelConv)
        assert isinstance(model.hidden, hidden)
        assert isinstance(model.head, head)
        with torch.no_grad():
            wanted = net(probe)
        assert_close(found(probe), wanted, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0.0)


def test_a_layer_that_feeds_weights_stays_in_bf16(generator: torch.Generator) -> None:
    probe = torch.rand(4, 1, 8, 8, generator=generator)
    net = _Net(nn.Linear(3, 3)).eval()
    found = fast_model(net, behavior_of(net, probe), torch.bfloat16, Count(), [])
    assert found is not None
    assert isinstance(found._model.head, nn.Linear)
    assert isinstance(found._model.after, Float32Linear)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("no_grad inside", torch.float32),
        ("another gradient mode", torch.float32),
        ("hook before the network", torch.float32),
        ("hook on one output", torch.float32),
        ("backward hook of zeros", torch.float32),
        ("backward hook of zeros on the network", torch.float32),
        ("tiny logits", torch.float32),
        ("noise of a fixed seed", torch.float32),
        ("module called twice", torch.bfloat16),
        ("offset of 4", torch.bfloat16),
    ],
)
def test_a_copy_has_the_input_gradients_of_its_original(name: str, precision: torch.dtype) -> None:
    """For each logit alone, on images that the copy was not compared on."""
    classifier, (digits, _, _) = ZOO[name]().eval().requires_grad_(False), some_digits()
    model = fast_model(classifier, behavior_of(classifier, digits[:4]), precision, Count(), [])
    assert model is not None
    images = digits[4:].repeat_interleave(10, 0)
    each = torch.eye(10).repeat(len(images) // 10, 1)
    wanted, found = (_gradient(it, images, each) for it in (classifier, model))
    if precision == torch.float32:
        apart = (found - wanted).flatten(1).norm(dim=1)
        assert (apart <= 1e-3 * wanted.flatten(1).norm(dim=1)).double().mean() >= 0.98
    else:
        assert torch.cosine_similarity(found.flatten(1), wanted.flatten(1), dim=1).quantile(0.1) >= 0.9


@pytest.mark.parametrize("name", ["offset of 16", "noise by hash"])
def test_what_bfloat16_loses_is_searched_in_float32(name: str) -> None:
    classifier, (digits, _, _) = ZOO[name]().eval().requires_grad_(False), some_digits()
    warnings: list[str] = []
    assert fast_model(classifier, behavior_of(classifier, digits[:16]), torch.bfloat16, Count(), warnings) is None
    assert len(warnings) == 1
    assert "could not be copied in bfloat16" in warnings[0]


def test_numbers_drawn_at_each_call_are_not_kept_in_a_copy() -> None:
    classifier, (digits, _, _) = Around(lambda images: images + 0.1 * torch.randn(1, 1, 28, 28)).eval(), some_digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert fast_model(classifier, behavior_of(classifier, digits), torch.float32, Count(), []) is None


def test_a_last_layer_in_float32_tells_small_differences(generator: torch.Generator) -> None:
    linear = nn.Linear(64, 2).requires_grad_(False).bfloat16()
    near = torch.rand(1, 64, generator=generator).bfloat16().repeat(65, 1)
    near[torch.arange(64), torch.arange(64)] *= 1.125
    exact = near.double() @ linear.weight.double().T + linear.bias.double()
    assert_close(Float32Linear(linear)(near).double(), exact, atol=1e-5, rtol=1e-5)
