"""Preprocessing: MNIST's own images stay as they are, and what is drawn elsewhere gets their form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
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


def page_of(digit: Tensor, side: int = 120, top: int = 20, left: int = 24, scale: int = 3) -> Tensor:
    """(1, side, side): a digit in dark ink on light paper."""
    return 0.9 - 0.8 * on_canvas(digit, side, top, left, scale)


def smooth_enlarged(digit: Tensor, times: int) -> Tensor:
    return torch.nn.functional.interpolate(digit[None, None], scale_factor=times, mode="bicubic").clamp(0, 1)[0, 0]


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("light", [True, False])
def test_a_digit_cropped_to_its_ink_is_seen(digits: Tensor, times: int, light: bool) -> None:
    differences = []
    for digit in digits[:30]:
        rows, columns = (torch.nonzero((digit > 0.25).any(axis))[:, 0] for axis in (1, 0))
        cut = smooth_enlarged(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], times)[None]
        result = preprocess(cut if light else 1 - cut)
        assert result.foreground.all()
        differences.append(difference(result.images[0, 0], digit))
    assert np.mean(np.array(differences) < 0.6) >= 0.9


def test_a_frame_around_the_canvas_is_no_part_of_the_digit(digits: Tensor) -> None:
    for inset, wide in ((0, 2), (4, 3)):
        plain = torch.cat([page_of(digit) for digit in digits[:10]])
        framed = plain.clone()
        inside = slice(inset + wide, 120 - inset - wide)
        frame = torch.zeros(120, 120, dtype=torch.bool)
        frame[inset : 120 - inset, inset : 120 - inset] = True
        frame[inside, inside] = False
        framed[:, frame] = 0.1
        assert difference(preprocess(framed).images, preprocess(plain).images) < 0.1


def test_a_fine_pen_is_seen_beside_the_edge_of_a_shadow() -> None:
    page = torch.full((1, 160, 160), 0.9)
    page[:, :, 110:] *= 0.7
    plain = torch.full((1, 160, 160), 0.9)
    for paper in (page, plain):
        paper[:, 40:120, 60:62] *= 0.4
    assert preprocess(page).foreground.all()
    assert difference(preprocess(page).images, preprocess(plain).images) < 0.15


@pytest.mark.parametrize("tilt", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("where", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("table", [0.15, 0.5])
def test_the_edge_of_a_table_beside_empty_paper_is_nothing(tilt: float, where: float, table: float) -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 150), torch.linspace(0, 1, 150), indexing="ij")
    noise = 0.01 * torch.randn(150, 150, generator=torch.Generator().manual_seed(0))
    page = torch.where(x + tilt * (y - 0.5) > where, table, 0.85) + noise
    for turned in (page, page.T, page.flip(1)):
        assert not preprocess(turned[None].clamp(0, 1)).foreground.any()


def test_two_digits_are_counted(digits: Tensor) -> None:
    pages = torch.cat(
        [
            torch.minimum(page_of(one, 150, 40, 0, 2), page_of(other, 150, 40, 75, 2))
            for one, other in zip(digits[:20], digits[20:40], strict=True)
        ]
    )
    assert preprocess(pages).several.float().mean() >= 0.95
    assert preprocess(torch.cat([page_of(digit) for digit in digits[:50]])).several.float().mean() <= 0.02


def test_hardly_any_digit_counts_as_several() -> None:
    validation = load_dataset("mnist/validation").floats()
    assert preprocess(validation[:, 0]).several.float().mean() <= 0.002


def test_a_large_disc_stays_filled() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 120), torch.linspace(-1, 1, 120), indexing="ij")
    for radius in (0.2, 0.3):
        disc = torch.where(torch.hypot(x, y) < radius, 0.1, 0.9)[None]
        assert preprocess(disc).images[0, 0, 9:19, 9:19].min() > 0.8


def test_small_digits_that_reach_two_borders_keep_their_polarity() -> None:
    """Of 8x8, light on dark: what lies around them covers most of the border, so it is no digit cropped to its ink."""
    values, _ = load_digits(return_X_y=True)
    gray = torch.from_numpy(values[:200].reshape(-1, 8, 8) / 16).float()
    turned = [preprocess(images).images for images in (gray, 1 - gray)]
    wanted = preprocess(gray, "light").images
    for images in turned:
        assert ((images - wanted).abs().amax((1, 2, 3)) < 0.02).float().mean() > 0.97
