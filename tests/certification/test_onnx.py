"""Networks as ONNX answer as they do in PyTorch, by ONNX's own checker and reference implementation."""

from __future__ import annotations

import onnx
import pytest
import torch
from helpers.certifying import ARCHITECTURES, build
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import hardy
from hardy.certification import NoOnnxError, onnx_model
from hardy.certification.onnx import INPUT, OUTPUT
from hardy.models import MODELS, Ensemble


def check_same_answers(model: nn.Module, shape: tuple[int, ...], tolerance: float = 1e-4) -> None:
    model.eval()
    written = onnx.load_model_from_string(onnx_model(model, shape))
    onnx.checker.check_model(written, full_check=True)
    evaluator, images = ReferenceEvaluator(written), torch.rand(2, *shape)
    with torch.no_grad():
        for image in images.split(1):
            (found,) = evaluator.run([OUTPUT], {INPUT: image.numpy()})
            torch.testing.assert_close(torch.from_numpy(found), model(image), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["compact", "strided", "cnn", "kernel3"])
def test_hardys_networks(name: str) -> None:
    assert name in MODELS
    check_same_answers(hardy.build_model(name), (1, 28, 28))


def test_group_norm_and_ramps() -> None:
    model = hardy.build_model("strided", width=4, hidden=8, group_norm=True, ramps=[0.3, 0.6], size=12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    check_same_answers(model, (1, 12, 12))


def test_an_ensemble_is_one_network() -> None:
    check_same_answers(Ensemble([build("relu"), build("gelu"), build("linear")]), (1, 6, 6))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_bounded_can_be_written(name: str) -> None:
    check_same_answers(build(name), (1, 6, 6))


class Through(nn.Module):
    """A function of color images, and a linear layer."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function, self.head = function, nn.LazyLinear(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.function(images).flatten(1))  # type: ignore[operator]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 1:, ::2, -3:],
        lambda x: x[:, 1],
        lambda x: x.flip(2, 3),
        lambda x: x.transpose(1, 3),
        lambda x: nn.functional.pad(x, (1, 2, 0, 3), value=0.5),
        lambda x: nn.functional.adaptive_avg_pool2d(x[..., :6], 3),
        lambda x: nn.functional.avg_pool2d(x, 3, 2, padding=1),
        lambda x: nn.functional.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        lambda x: nn.functional.conv2d(x, torch.linspace(-1, 1, 27).reshape(3, 1, 3, 3), dilation=2, groups=3),
        lambda x: nn.functional.conv_transpose2d(x, torch.linspace(-1, 1, 54).reshape(3, 2, 3, 3), stride=2),
        lambda x: torch.cat([x.clamp_min(0.4), x.clamp_max(0.6), x.clamp(0.2, 0.8)], 1),
        lambda x: x * x / (1 + x.abs()) - 2 * x.mean((2, 3), keepdim=True),
        lambda x: torch.sub(3, x, alpha=2) + x.sum(1, keepdim=True) - x.amax((1, 2), keepdim=True),
        lambda x: torch.add(x, x.sqrt(), alpha=0.5) ** 2,
        lambda x: nn.functional.elu(x - 0.5) + nn.functional.softmax(x, 1) + torch.maximum(x, 1 - x),
        lambda x: nn.functional.group_norm(x, 3, eps=0.1),
        lambda x: (x - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor(0.7),
    ],
)  # fmt: skip
def test_single_operators(function: object) -> None:
    model = Through(function)
    torch.manual_seed(0)
    with torch.no_grad():
        model(torch.rand(1, 3, 6, 8))
    check_same_answers(model, (3, 6, 8))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: torch.fft.rfft(x).real, "_fft_r2c"),
        (lambda x: x + torch.rand_like(x), "random"),
        (lambda x: x.double() + 1, "float64"),
        (lambda x: x.argmax(1).float(), "int64"),
        (lambda x: nn.functional.gelu(x, approximate="tanh"), "tanh"),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 4), "different sizes"),
        (lambda x: x if float(x.sum()) > 0 else -x, "cannot be recorded"),
        (lambda x: torch.zeros(len(x), 2), "do not depend"),
    ],
)
def test_what_has_no_form_is_named(function: object, named: str) -> None:
    with pytest.raises(NoOnnxError, match=named):
        onnx_model(Wrapped(function), (3, 6, 6))


class Wrapped(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images).flatten(1)[:, :2].float()  # type: ignore[operator]
