"""What defines each corruption, against closed forms and independent implementations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.feature
import skimage.transform
import torch
from helpers.classifiers import some_digits
from PIL import Image
from torch import Tensor

from hardy.corruptions import CORRUPTIONS, blur, corrupt_with, drawing, geometry, noise, tones, weather
from hardy.corruptions.filters import gaussian_filter
from hardy.rng import Randomness


def digits(count: int = 12) -> tuple[Tensor, Randomness]:
    images, _, indices = some_digits(count)
    return images, Randomness(0, indices)


def flat(value: float, count: int = 40) -> tuple[Tensor, Randomness]:
    return torch.full((count, 1, 28, 28), value), Randomness(0, torch.arange(count))


def streams(count: int) -> Randomness:
    return Randomness(0, torch.arange(count))


def test_corruptions_are_the_identity_in_the_limit() -> None:
    images, rng = digits()
    none = [
        noise.gaussian_noise(images, rng, deviation=0.0),
        noise.speckle_noise(images, rng, deviation=0.0),
        noise.impulse_noise(images, rng, amount=0.0),
        geometry.shear(images, rng, radians=0.0),
        geometry.rotate(images, rng, radians=0.0),
        geometry.scale(images, rng, factor=1.0),
        geometry.translate(images, rng, pixels=0),
        geometry.elastic_transform(images, rng, strength=0.0, smooth=0.1, affine=0.0),
        blur.gaussian_blur(images, rng, deviation=1e-3),
        blur.motion_blur(images, rng, radius=5, deviation=1e-3),
        blur.zoom_blur(images, rng, stop=1.005, step=0.01),
        blur.defocus_blur(images, rng, radius=0, edge=0.01),
        tones.brightness(images, rng, added=0.0),
        tones.contrast(images, rng, factor=1.0),
        tones.saturate(images, rng, factor=1.0, added=0.0),
        tones.quantize(images, rng, bits=8),
        tones.pixelate(images, rng, share=1.0),
        weather.fog(images, rng, thickness=0.0, decay=2.0),
        weather.spatter(images, rng, mean=0.65, deviation=0.3, smooth=1.0, cut=9.0, edge=1.0),
    ]
    for corrupted in none:
        assert torch.allclose(corrupted, images, atol=1e-4)


def test_glass_without_swaps_blurs_the_height_alone() -> None:
    images, rng = digits()
    still = blur.glass_blur(images, rng, deviation=1.0, reach=1, rounds=0)
    for found, image in zip(still[:, 0].numpy(), images[:, 0].numpy(), strict=True):
        once = np.floor(255 * scipy.ndimage.gaussian_filter(image.astype(float), (1.0, 0.0), mode="nearest")) / 255
        wanted = scipy.ndimage.gaussian_filter(once, (1.0, 0.0), mode="nearest")
        # A value that falls on a whole grey may be rounded to either side.
        assert np.abs(found - wanted).max() <= 1.01 / 255


def test_glass_swaps_one_pixel_after_another() -> None:
    places = blur._swap_order(2, 2, 10, 12)
    assert places[0] == 8 * 12 + 10
    assert places[-1] == 3 * 12 + 3
    rng = np.random.default_rng(0)
    partners = places[:, None] + rng.integers(-2, 2, (len(places), 3)) * 12 + rng.integers(-2, 2, (len(places), 3))
    order = blur._swapped(places, partners, 120)
    for example in range(3):
        expected = list(range(120))
        for place, partner in zip(places, partners[:, example], strict=True):
            expected[place], expected[partner] = expected[partner], expected[place]
        assert order[:, example].tolist() == expected


@pytest.mark.parametrize("photons", [3, 60])
def test_shot_noise_is_poisson_up_to_white(photons: int) -> None:
    images, rng = flat(0.2)
    found = noise.shot_noise(images, rng, photons=photons) * photons
    assert torch.allclose(found, found.round(), atol=1e-4)
    chance = scipy.stats.poisson.pmf(np.arange(photons), 0.2 * photons)
    shares = np.bincount(found.round().long().flatten().numpy(), minlength=photons + 1) / found.numel()
    wanted = np.append(chance, 1 - chance.sum())
    assert np.abs(shares - wanted).max() < 5 * math.sqrt(0.25 / found.numel())
    assert float(found.mean()) == pytest.approx(wanted @ np.arange(photons + 1), rel=0.02)


def test_impulse_noise_sets_its_amount_to_black_and_white_alike() -> None:
    images, rng = flat(0.5)
    found = corrupt_with(images, "impulse_noise", 4, rng)
    sides = math.sqrt(0.085 / found.numel())
    assert float((found == 0).float().mean()) == pytest.approx(0.085, abs=5 * sides)
    assert float((found == 1).float().mean()) == pytest.approx(0.085, abs=5 * sides)
    assert float((found == 0.5).float().mean()) == pytest.approx(0.83, abs=10 * sides)


def test_speckle_noise_leaves_black_alone_and_gaussian_noise_does_not() -> None:
    images, rng = flat(0.5)
    assert float(noise.speckle_noise(images, rng, deviation=0.2).std()) == pytest.approx(0.1, rel=0.03)
    assert float(noise.gaussian_noise(images, rng, deviation=0.2).std()) == pytest.approx(0.2, rel=0.03)
    black, rng = flat(0.0)
    assert torch.equal(corrupt_with(black, "speckle_noise", 5, rng), black)


def warped(image: Tensor, matrix: list[list[float]]) -> np.ndarray:
    """As the authors' code does: scikit-image, about the centre (13.5, 13.5)."""
    full = np.eye(3)
    full[:2, :2] = matrix
    full[:2, 2] = 13.5 * (1 - full[:2, :2].sum(1))
    return skimage.transform.warp(image.numpy().astype(float), skimage.transform.AffineTransform(full))


def either(found: Tensor, one: np.ndarray, other: np.ndarray) -> int:
    """Which of the two it is."""
    fits = [np.abs(found.numpy() - wanted).max() < 1e-3 for wanted in (one, other)]
    assert sum(fits) == 1
    return fits.index(True)


def test_shear_and_rotate_are_those_of_scikit_image_one_way_or_the_other() -> None:
    images, rng = digits()
    sheared, turned = (corrupt_with(images, name, 2, rng) for name in ("shear", "rotate"))
    ways = []
    for image, slanted, round_ in zip(images[:, 0], sheared[:, 0], turned[:, 0], strict=True):
        sin, cos = math.sin(0.4), math.cos(0.4)
        ways.append(either(slanted, warped(image, [[1, -sin], [0, cos]]), warped(image, [[1, sin], [0, cos]])))
        ways.append(either(round_, warped(image, [[cos, -sin], [sin, cos]]), warped(image, [[cos, sin], [-sin, cos]])))
    assert set(ways) == {0, 1}


def test_scale_makes_the_digit_smaller_by_a_seventh_of_ten() -> None:
    images, rng = digits()
    assert CORRUPTIONS["scale"].settings[2] == {"factor": 1 / 0.7}
    for image, found in zip(images[:, 0], corrupt_with(images, "scale", None, rng)[:, 0], strict=True):
        assert np.abs(found.numpy() - warped(image, [[1 / 0.7, 0], [0, 1 / 0.7]])).max() < 1e-3


def test_translate_moves_three_pixels_along_both_axes() -> None:
    images, rng = digits(40)
    seen = set()
    for image, found in zip(images[:, 0], corrupt_with(images, "translate", None, rng)[:, 0], strict=True):
        padded = torch.nn.functional.pad(image, (3, 3, 3, 3))
        fits = [
            (top, left)
            for top in (0, 6)
            for left in (0, 6)
            if torch.equal(found, padded[top : top + 28, left : left + 28])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 4


def test_brightness_adds_to_the_value_and_keeps_the_hue() -> None:
    images, rng = digits()
    assert torch.allclose(corrupt_with(images, "brightness", 5, rng), (images + 0.5).clamp(max=1.0), atol=1e-6)
    colours = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    brighter = corrupt_with(colours, "brightness", 1, streams(4))
    assert torch.allclose(brighter.amax(1), (colours.amax(1) + 0.1).clamp(max=1.0), atol=1e-6)
    assert torch.allclose(brighter * colours.amax(1, True), colours * brighter.amax(1, True), atol=1e-5)


def test_stripe_inverts_the_outer_columns() -> None:
    images, rng = digits()
    found = corrupt_with(images, "stripe", None, rng)
    outer = [*range(7), *range(21, 28)]
    assert torch.equal(found[..., outer], 1 - images[..., outer])
    assert torch.equal(found[..., 7:21], images[..., 7:21])


def test_inverse_and_quantize_and_contrast() -> None:
    images, rng = digits()
    assert torch.equal(corrupt_with(images, "inverse", None, rng), 1 - images)
    assert set(corrupt_with(images, "quantize", 5, rng).unique().tolist()) == {0.0, 1.0}
    assert len(corrupt_with(images, "quantize", 3, rng).unique()) == 8
    faint = corrupt_with(images, "contrast", 4, rng)
    assert torch.allclose(faint.mean((2, 3)), images.mean((2, 3)), atol=1e-6)
    assert torch.allclose(faint.std((2, 3)), 0.1 * images.std((2, 3)), atol=1e-6)


def test_saturate_makes_the_colour_of_a_grey_grey_again() -> None:
    import colorsys

    for factor, added in ((5.0, 0.1), (20.0, 0.2)):
        value = min(0.03 * factor + added, 1.0)
        colour = colorsys.hsv_to_rgb(added, added, value)
        wanted = np.dot(colour, (0.2125, 0.7154, 0.0721))
        found = tones.saturate(torch.full((1, 1, 2, 2), 0.03), streams(1), factor=factor, added=added)
        assert np.allclose(found, wanted, atol=1e-6)


def test_fog_is_a_map_from_0_to_1_before_the_digit() -> None:
    corners = weather.plasma_corner(streams(4), 1.4, 256, 256)
    assert corners.shape == (4, 256, 256)
    # What the last halving adds beyond the extremes is less than one of 255 greys.
    assert torch.allclose(corners.amin((1, 2)), torch.zeros(4), atol=1 / 255)
    assert torch.allclose(corners.amax((1, 2)), torch.ones(4), atol=1 / 255)
    white, rng = flat(1.0, 30)
    found = weather.fog(white, rng, thickness=3.0, decay=1.4)
    assert float(found.min()) > 0.25 - 0.01
    # A smaller decay gives a rougher map.
    rough, smooth = (weather.plasma_corner(streams(8), decay, 28, 28).diff(dim=2).abs().mean() for decay in (1.4, 2.0))
    assert rough > 1.3 * smooth


def test_fog_at_its_default_leaves_a_digit_a_contrast_of_a_quarter() -> None:
    images = torch.zeros(50, 1, 28, 28)
    images[:, :, :, 14:] = 1.0
    found = weather.fog(images, streams(50), thickness=3.0, decay=1.4)
    # The fog on both sides of the edge is much the same.
    assert float((found[..., 14] - found[..., 13]).mean()) == pytest.approx(0.25, abs=0.02)


def test_halving_the_corner_is_halving_the_whole() -> None:
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = weather._refined_corner(maps, torch.zeros(2, 3, 5, 5))
    for row in range(4):
        for column in range(4):
            centre = (
                maps[:, row - 1, column - 1]
                + maps[:, row - 1, column]
                + maps[:, row, column - 1]
                + maps[:, row, column]
            ) / 4
            assert torch.equal(found[:, 2 * row, 2 * column], maps[:, row, column])
            assert torch.allclose(found[:, 2 * row - 1, 2 * column - 1], centre)
    beside = (found[:, 1, 1] + found[:, -1, 1] + found[:, 0, 0] + found[:, 0, 2]) / 4
    assert torch.allclose(found[:, 0, 1], beside)
    below = (found[:, 1, 1] + found[:, 1, -1] + found[:, 0, 0] + found[:, 2, 0]) / 4
    assert torch.allclose(found[:, 1, 0], below)


def test_spatter_leaves_the_digit_or_mud() -> None:
    white, rng = flat(1.0)
    found = corrupt_with(white, "spatter", 4, rng)
    assert weather.MUD - 1e-5 <= float(found.min()) < 0.35
    assert 0.02 < float((found < 1.0).float().mean()) < 0.6
    covered = found < 0.999
    # Cover starts at 0.8: nothing is muddied less.
    assert float(found[covered].max()) <= 1 - 0.8 + 0.8 * weather.MUD + 1e-5


def line_of(c0: float, r0: float, c1: float, r1: float) -> np.ndarray:
    """The authors' line, pixel by pixel."""
    drawn = np.zeros((28, 28))
    for row in range(28):
        for column in range(math.floor(c0), math.ceil(c1)):
            distance = abs(row - ((r1 - r0) / (c1 - c0) * (column - c0) + r0))
            drawn[row, column] = max(0.0, 1 + math.log(1 - min(distance, 2.3 - 1e-10) / 2.3))
    return drawn


def test_a_dotted_line_goes_from_left_to_right_two_columns_on_two_off() -> None:
    black, rng = flat(0.0, 20)
    found = corrupt_with(black, "dotted_line", None, rng)[:, 0].numpy()
    off = [column for column in range(28) if column // 2 % 2 == 0 or column == 27]
    assert (found[:, :, off] == 0).all()
    dots = [line_of(0, r0, 27, r1) for r0 in range(27) for r1 in range(27)]
    for drawn in dots:
        drawn[:, off] = 0
    for image in found:
        assert min(np.abs(image - drawn).max() for drawn in dots) < 1e-4


def test_a_line_starts_left_and_ends_right() -> None:
    black, rng = flat(0.0, 60)
    found = corrupt_with(black, "line", None, rng)[:, 0].numpy()
    columns = [np.flatnonzero(image.any(axis=0)) for image in found]
    assert {seen.min() for seen in columns} <= {0, 1, 2, 3, 4}
    assert {seen.max() for seen in columns} <= {21, 22, 23, 24, 25}
    assert len({seen.min() for seen in columns}) > 2


def test_a_zigzag_turns_every_four_pixels() -> None:
    along, across = drawing._corners(torch.tensor([23.0, 20.0, 23.5]))
    assert along[0].tolist() == [0, 2, 6, 10, 14, 18, 22, 23]
    assert across[0].tolist() == pytest.approx([0, 2, -2, 2, -2, 2, -2, -1 / 3])
    assert along[1].tolist() == [0, 2, 6, 10, 14, 18, 18, 18]
    assert across[2].tolist()[-1] == pytest.approx(-2 / 7)
    black = torch.zeros(1, 1, 28, 28)
    rng = next(
        rng
        for rng in (Randomness(seed, torch.arange(1)) for seed in range(200))
        if int(rng.fold("fall").integers(10)) == 5
    )
    row = int(rng.fold("rows").integers(27))
    found = drawing.zigzag(black, rng)[0, 0].numpy()
    corners = [(2 + float(x), row + float(y)) for x, y in zip(along[0], across[0], strict=True)]
    wanted = sum(line_of(*start, *end) for start, end in pairwise(corners))
    assert np.abs(found - wanted).max() < 1e-4


def test_canny_edges_are_scikit_images() -> None:
    images, rng = digits()
    for image, found in zip(images[:, 0].numpy(), corrupt_with(images, "canny_edges", None, rng)[:, 0], strict=True):
        assert np.array_equal(found.numpy(), skimage.feature.canny(image.astype(float)))


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
def test_blurring_by_matrices_is_scipys_filter(deviation: float) -> None:
    images, _ = digits()
    for mode in ("nearest", "reflect"):
        found = gaussian_filter(images, deviation, mode=mode)[:, 0].numpy()
        wanted = [
            scipy.ndimage.gaussian_filter(image.astype(float), deviation, mode=mode) for image in images[:, 0].numpy()
        ]
        assert np.abs(found - np.stack(wanted)).max() < 1e-5


def test_motion_blur_smears_a_point_along_a_line() -> None:
    images = torch.zeros(30, 1, 41, 41)
    images[:, :, 20, 30] = 1.0
    found = corrupt_with(images, "motion_blur", 1, streams(30))
    assert torch.allclose(found.sum((1, 2, 3)), torch.ones(30), atol=1e-5)
    weights = torch.exp(-(torch.arange(21) ** 2) / 18.0)
    weights /= weights.sum()
    slopes = []
    for image in found[:, 0]:
        # Each pixel gathers from its right, so the point is smeared to the left.
        assert image[20, 30] == pytest.approx(float(weights[0]))
        assert (image[:, 31:] == 0).all()
        down = (image.sum(1) * (torch.arange(41) - 20)).sum()
        left = (image.sum(0) * (30 - torch.arange(41))).sum()
        slopes.append(float(-down / left))
    assert max(map(abs, slopes)) <= 1.2
    assert min(slopes) < -0.5 < 0.5 < max(slopes)


def test_defocus_is_a_disk() -> None:
    images = torch.zeros(1, 1, 41, 41)
    images[:, :, 20, 20] = 1.0
    found = blur.defocus_blur(images, streams(1), radius=3, edge=0.1)[0, 0]
    inside = [(x, y) for x in range(-20, 21) for y in range(-20, 21) if x * x + y * y <= 9]
    assert int((found > 1e-6).sum()) == len(inside)
    assert all(float(found[20 + x, 20 + y]) == pytest.approx(1 / len(inside)) for x, y in inside)


def enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """The authors' zoom: both axes at once."""
    kept = math.ceil(28 / factor)
    top = (28 - kept) // 2
    large = np.asarray(scipy.ndimage.zoom(image[top : top + kept, top : top + kept], (factor, factor), order=1))
    cut = (len(large) - 28) // 2
    return large[cut : cut + 28, cut : cut + 28]


def test_zoom_blur_is_the_mean_of_enlargements() -> None:
    images, rng = digits(3)
    for image, found in zip(images[:, 0].numpy(), corrupt_with(images, "zoom_blur", 3, rng)[:, 0], strict=True):
        factors = np.arange(1, 1.21, 0.02)
        wanted = (image + sum(enlarged(image, factor) for factor in factors)) / (len(factors) + 1)
        assert np.abs(found.numpy() - wanted).max() < 1e-5


def test_pixelate_and_jpeg_are_pillows() -> None:
    images, rng = digits()
    large = corrupt_with(images, "pixelate", 2, rng)
    blocks = large.reshape(-1, 14, 2, 14, 2)
    assert torch.allclose(blocks, blocks[:, :, :1, :, :1].expand_as(blocks), atol=1e-6)
    means = images.reshape(-1, 14, 2, 14, 2).mean((2, 4))
    assert torch.allclose(blocks[:, :, 0, :, 0], means, atol=1e-5)
    for share in (0.6, 0.3):
        found = tones.pixelate(images, rng, share=share)
        for image, coarse in zip(images[:, 0].numpy(), found[:, 0].numpy(), strict=True):
            small = Image.fromarray(image).resize((int(28 * share), int(28 * share)), Image.Resampling.BOX)
            assert np.abs(np.asarray(small.resize((28, 28), Image.Resampling.BOX)) - coarse).max() < 1e-5
    errors = [float((corrupt_with(images, "jpeg_compression", it, rng) - images).abs().mean()) for it in (1, 5)]
    assert 0 < errors[0] < errors[1] < 0.1


def test_elastic_transform_at_1_is_mostly_affine_and_at_5_local() -> None:
    images, rng = digits()
    found = corrupt_with(images, "elastic_transform", 5, rng)
    assert 0.01 < float((found - images).abs().mean()) < 0.3
    # Without noise, three points of the image go where the affine map sends them: straight lines stay straight.
    bar = torch.zeros(1, 1, 29, 29)
    bar[:, :, 14, :] = 1.0
    slanted = geometry.elastic_transform(bar, streams(1), strength=0.0, smooth=0.1, affine=0.1)[0, 0]
    middle = slanted[:, 6:23]
    rows = (middle * torch.arange(29.0)[:, None]).sum(0) / middle.sum(0)
    assert float(rows.diff().diff().abs().max()) < 0.2
