"""Preparing pictures: MNIST's own pass as they are, and what is drawn elsewhere arrives in MNIST's form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hardy.data import load_dataset
from hardy.deployment.preprocessing import is_as_mnist, prepare
from hardy.synthetic.photos import blank_photos, drawn_photos


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """float32 (200, 28, 28)."""
    validation = load_dataset("mnist/validation")
    return validation.floats(validation.measuring_order()[:200])[:, 0]


def on_canvas(digit: Tensor, side: int, top: int, left: int, scale: int = 1) -> Tensor:
    """(1, side, side): a digit, enlarged by a whole number, somewhere on black."""
    canvas = torch.zeros(1, side, side)
    large = digit.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    canvas[0, top : top + len(large), left : left + len(large)] = large
    return canvas


def test_every_image_of_mnist_passes_as_it_is() -> None:
    for split in ("validation", "test"):
        images = load_dataset(f"mnist/{split}").floats()[:, 0]
        assert is_as_mnist(images).all()
    prepared = prepare(images[:3000])
    assert torch.equal(prepared.images[:, 0], images[:3000])
    assert prepared.ink.all()


def test_its_negative_passes_turned_over(digits: Tensor) -> None:
    assert torch.allclose(prepare(1 - digits).images[:, 0], digits, atol=1e-6)
    assert torch.allclose(prepare(1 - digits, "dark").images[:, 0], digits, atol=1e-6)


def difference(images: Tensor, others: Tensor) -> float:
    return float((images - others).abs().mean() / others.mean())


@pytest.mark.parametrize("light", [True, False])
def test_a_digit_anywhere_on_a_canvas_comes_back(digits: Tensor, light: bool) -> None:
    canvases = torch.cat([on_canvas(digit, 64, number, 36 - number) for number, digit in enumerate(digits[:20])])
    found = prepare(canvases if light else 1 - canvases).images[:, 0]
    # A digit that is moved by one pixel differs by at least 0.2.
    assert np.median([difference(one, digit) for one, digit in zip(found, digits, strict=False)]) < 0.2
    assert is_as_mnist(found).float().mean() > 0.7


def test_size_does_not_matter(digits: Tensor) -> None:
    for digit in digits[:10]:
        small = prepare(on_canvas(digit, 100, 20, 30, scale=2)).images[0, 0]
        large = prepare(on_canvas(digit, 250, 3, 20, scale=7)).images[0, 0]
        assert difference(large, small) < 0.2


def test_what_comes_out_is_in_the_form_of_mnist() -> None:
    pages = drawn_photos("0123456789", ["DejaVuSans"], 1, seed=3)
    made = torch.cat([prepare(torch.from_numpy(page).float()[None] / 255).images[:, 0] for page in pages.pictures])
    assert is_as_mnist(made).float().mean() >= 0.9
    assert torch.aminmax(made).min >= 0
    assert torch.aminmax(made).max <= 1


def test_preparing_twice_changes_little(digits: Tensor) -> None:
    once = torch.cat([prepare(on_canvas(digit, 80, 9, 31)).images[:, 0] for digit in digits[:30]])
    assert difference(prepare(once).images[:, 0], once) < 0.05


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("side", [1, 8, 28, 100])
def test_an_even_picture_has_no_ink(shade: float, side: int) -> None:
    prepared = prepare(torch.full((1, side, side), shade))
    assert not prepared.ink.any()
    assert not prepared.images.any()


def test_paper_with_a_shadow_and_noise_has_no_ink() -> None:
    pages = blank_photos(20, seed=5)
    assert not any(prepare(torch.from_numpy(page).float()[None] / 255).ink.any() for page in pages.pictures)


def test_a_shadow_over_the_page_changes_little(digits: Tensor) -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 128), torch.linspace(0, 1, 128), indexing="ij")
    for digit in digits[:10]:
        page = 1 - on_canvas(digit, 128, 20, 40, scale=3)
        assert difference(prepare(page * (0.6 + 0.3 * x + 0.1 * y)).images, prepare(page).images) < 0.15


def test_the_polarity_that_is_named_is_taken(digits: Tensor) -> None:
    canvas = on_canvas(digits[0], 64, 10, 10)
    assert difference(prepare(canvas, "light").images[0, 0], digits[0]) < 0.55
    assert not prepare(canvas, "dark").ink.any()


def test_a_thin_line_is_seen() -> None:
    image = Image.new("L", (400, 400), 255)
    image.paste(0, (200, 40, 202, 360))
    prepared = prepare(torch.from_numpy(np.array(image)).float()[None] / 255)
    assert prepared.ink.all()
    assert prepared.images.amax() > 0.7


def test_a_digit_that_fills_a_tiny_picture_is_seen_in_both_polarities() -> None:
    from sklearn.datasets import load_digits

    tiny = torch.from_numpy(np.asarray(load_digits(return_X_y=True)[0])[:50].reshape(-1, 8, 8)).float() / 16
    light, dark = prepare(tiny), prepare(1 - tiny)
    assert light.ink.all()
    assert torch.allclose(light.images, dark.images, atol=1e-4)


def test_a_picture_does_not_depend_on_those_beside_it(digits: Tensor) -> None:
    moved = torch.roll(digits, 3, dims=2)
    together = prepare(moved).images
    alone = torch.cat([prepare(image[None]).images for image in moved])
    assert torch.allclose(together, alone, atol=1e-5)
