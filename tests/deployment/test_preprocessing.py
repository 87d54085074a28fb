"""Preprocessing: MNIST's own images stay as they are, and what is drawn elsewhere gets their form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hardy.data import load_dataset
from hardy.deployment.preprocessing import is_as_mnist, preprocess
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
    result = preprocess(images[:3000])
    assert torch.equal(result.images[:, 0], images[:3000])
    assert result.foreground.all()


def test_its_negative_passes_turned_over(digits: Tensor) -> None:
    assert torch.allclose(preprocess(1 - digits).images[:, 0], digits, atol=1e-6)
    assert torch.allclose(preprocess(1 - digits, "dark").images[:, 0], digits, atol=1e-6)


def difference(images: Tensor, others: Tensor) -> float:
    return float((images - others).abs().mean() / others.mean())


@pytest.mark.parametrize("light", [True, False])
def test_a_digit_anywhere_on_a_canvas_comes_back(digits: Tensor, light: bool) -> None:
    canvases = torch.cat([on_canvas(digit, 64, number, 36 - number) for number, digit in enumerate(digits[:20])])
    found = preprocess(canvases if light else 1 - canvases).images[:, 0]
    # A digit that is moved by one pixel differs by at least 0.2.
    assert np.median([difference(one, digit) for one, digit in zip(found, digits, strict=False)]) < 0.2
    assert is_as_mnist(found).float().mean() > 0.7


def test_size_does_not_matter(digits: Tensor) -> None:
    for digit in digits[:10]:
        small = preprocess(on_canvas(digit, 100, 20, 30, scale=2)).images[0, 0]
        large = preprocess(on_canvas(digit, 250, 3, 20, scale=7)).images[0, 0]
        assert difference(large, small) < 0.2


def test_what_comes_out_is_in_the_form_of_mnist() -> None:
    pages = drawn_photos("0123456789", ["DejaVuSans"], 1, seed=3)
    made = torch.cat([preprocess(torch.from_numpy(page).float()[None] / 255).images[:, 0] for page in pages.pictures])
    assert is_as_mnist(made).float().mean() >= 0.9
    assert torch.aminmax(made).min >= 0
    assert torch.aminmax(made).max <= 1


def test_preprocessing_twice_changes_little(digits: Tensor) -> None:
    once = torch.cat([preprocess(on_canvas(digit, 80, 9, 31)).images[:, 0] for digit in digits[:30]])
    assert difference(preprocess(once).images[:, 0], once) < 0.05


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("side", [1, 8, 28, 100])
def test_an_even_picture_has_no_foreground(shade: float, side: int) -> None:
    result = preprocess(torch.full((1, side, side), shade))
    assert not result.foreground.any()
    assert not result.images.any()


def test_paper_with_a_shadow_and_noise_has_no_foreground() -> None:
    pages = blank_photos(20, seed=5)
    assert not any(preprocess(torch.from_numpy(page).float()[None] / 255).foreground.any() for page in pages.pictures)


def test_a_shadow_over_the_page_changes_little(digits: Tensor) -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 128), torch.linspace(0, 1, 128), indexing="ij")
    for digit in digits[:10]:
        page = 1 - on_canvas(digit, 128, 20, 40, scale=3)
        assert difference(preprocess(page * (0.6 + 0.3 * x + 0.1 * y)).images, preprocess(page).images) < 0.15


def test_the_polarity_that_is_named_is_taken(digits: Tensor) -> None:
    canvas = on_canvas(digits[0], 64, 10, 10)
    assert difference(preprocess(canvas, "light").images[0, 0], digits[0]) < 0.55
    assert not preprocess(canvas, "dark").foreground.any()


def test_a_thin_line_is_seen() -> None:
    image = Image.new("L", (400, 400), 255)
    image.paste(0, (200, 40, 202, 360))
    result = preprocess(torch.from_numpy(np.array(image)).float()[None] / 255)
    assert result.foreground.all()
    assert result.images.amax() > 0.7


def test_a_digit_that_fills_a_tiny_picture_is_seen_in_both_polarities() -> None:
    from sklearn.datasets import load_digits

    tiny = torch.from_numpy(np.asarray(load_digits(return_X_y=True)[0])[:50].reshape(-1, 8, 8)).float() / 16
    light, dark = preprocess(tiny), preprocess(1 - tiny)
    assert light.foreground.all()
    assert torch.allclose(light.images, dark.images, atol=1e-4)


def test_a_picture_does_not_depend_on_those_beside_it(digits: Tensor) -> None:
    moved = torch.roll(digits, 3, dims=2)
    together = preprocess(moved).images
    alone = torch.cat([preprocess(image[None]).images for image in moved])
    assert torch.allclose(together, alone, atol=1e-5)
