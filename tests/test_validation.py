"""The contract's own checks: what an image is, and that looking at a classifier leaves it as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hardy.errors import ContractError
from hardy.validation import check_images, frozen_evaluation

IMAGES = torch.linspace(0, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


def with_pixel(value: float) -> Tensor:
    images = IMAGES.clone()
    images[1, 2, 3, 0] = value
    return images


def mixed() -> nn.Sequential:
    """Some modules in training mode, some not; some parameters frozen, some not."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2))
    model[1].eval()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    return model


def modes_and_flags(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [it.training for it in model.modules()], [it.requires_grad for it in model.parameters()]


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:0], torch.zeros(2, 1, 0, 0), torch.zeros(1, 1, 1, 1)])
def test_images_are_accepted(images: Tensor) -> None:
    check_images(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"shape \(3, 4, 4\); images are \(N, C, H, W\)"),
        (IMAGES[None], r"shape \(1, 2, 3, 4, 4\)"),
        ((IMAGES * 255).to(torch.uint8), r"torch.uint8; images are float32 in \[0, 1\] \(divide uint8 by 255\)"),
        (IMAGES.double(), "torch.float64"),
        (IMAGES.half(), "torch.float16"),
        (with_pixel(1.0000001), "normalisation belongs inside the model"),
        (with_pixel(-1e-9), "normalisation belongs inside the model"),
        (IMAGES * 2 - 1, "from -1 to 1; images lie in"),
        (with_pixel(math.nan), "nan"),
        (with_pixel(math.inf), "to inf"),
        (with_pixel(-math.inf), "from -inf"),
    ],
)
def test_what_is_no_image_is_refused_by_name(images: Tensor, message: str) -> None:
    with pytest.raises(ContractError, match=f"probes: .*{message}"):
        check_images(images, "probes")


def test_inside_the_model_is_frozen_and_in_evaluation_mode() -> None:
    model = mixed()
    with frozen_evaluation(model) as same:
        assert same is model
        assert modes_and_flags(model) == ([False] * 6, [False] * 6)
        images = IMAGES.clone().requires_grad_()
        model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_modes_flags_weights_statistics_and_gradients_stay() -> None:
    model = mixed()
    model[4].bias.grad = torch.ones(2)
    before = modes_and_flags(model), {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_evaluation(model):
        model(IMAGES.clone().requires_grad_()).sum().backward()
    assert modes_and_flags(model) == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in model.state_dict().items())
    assert [name for name, it in model.named_parameters() if it.grad is not None] == ["4.bias"]
    assert model[4].bias.grad.tolist() == [1.0, 1.0]


def test_an_exception_leaves_the_model_as_it_was() -> None:
    model = mixed()
    before = modes_and_flags(model)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), frozen_evaluation(model):
        model(torch.zeros(1, 3, 9, 9))
    assert modes_and_flags(model) == before


def test_nested_use_gives_back_each_time_what_it_found() -> None:
    model = mixed()
    before = modes_and_flags(model)
    with frozen_evaluation(model):
        with frozen_evaluation(model):
            pass
        assert modes_and_flags(model) == ([False] * 6, [False] * 6)
    assert modes_and_flags(model) == before
