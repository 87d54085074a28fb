"""Augmentations: what all of them keep, and what each does, against other ways to compute it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.docs import run_examples
from scipy import ndimage, stats
from torch import Tensor

from hardy.augmentations import AUGMENTATIONS, augment, check_augmentation, mixes, register
from hardy.augmentations.geometry import affine, elastic, rotate, scale, shear, shift, translate
from hardy.augmentations.noise import gaussian_noise, impulse_noise, uniform_noise
from hardy.errors import UsageError
from hardy.rng import Randomness

SETTINGS: dict[str, dict[str, float]] = {
    "rotate": {"degrees": 30.0},
    "translate": {"fraction": 0.2},
    "shift": {"pixels": 3},
    "scale": {"fraction": 0.3},
    "shear": {"degrees": 20.0},
    "affine": {"degrees": 15.0, "shear": 10.0, "scale": 0.2, "fraction": 0.1},
    "elastic": {"pixels": 1.5},
    "gaussian_noise": {"deviation": 0.2},
    "uniform_noise": {"amount": 0.3},
    "impulse_noise": {"amount": 0.2},
    "erase": {"area": 0.4},
    "invert_part": {"area": 0.9},
    "strokes": {"count": 3, "width": 3.0},
    "contrast": {"loss": 0.8},
    "invert": {},
    "shade": {"weight": 0.8},
    "blur": {"deviation": 1.5},
    "random_convolution": {"weight": 1.0},
    "augmix": {"severity": 3.0},
    "pixmix": {"beta": 3.0, "severity": 3.0},
}
# AugMix stretches gray levels at any severity, PixMix mixes pictures in at any.
ALWAYS_CHANGE = ("invert", "augmix", "pixmix")


class Fixed:
    """In place of random streams: every number is the same, and the bounds that were asked for are kept."""

    def __init__(self, value: Any, count: int) -> None:
        self.value = torch.as_tensor(value)
        self.count = count
        self.bounds: tuple[float, float] | None = None

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        self.bounds = (low, high)
        return self.value.to(torch.float32).expand(self.count, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        self.bounds = (0, high)
        return self.value.expand(self.count, *shape)


def fixed(value: Any, count: int) -> Any:
    return Fixed(value, count)


def pictures(count: int = 20, channels: int = 2, height: int = 28, width: int = 28) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def streams(count: int = 20) -> Randomness:
    return Randomness(0, torch.arange(count), ("augmentation",))


def test_an_augmentation_of_ones_own_is_used_by_its_name() -> None:
    def dim(images: Tensor, rng: Randomness, *, factor: float) -> Tensor:
        return factor * images

    try:
        assert register(dim) is dim
        steps = {"dim": {"factor": 0.5}}
        check_augmentation(steps)
        assert torch.equal(augment(pictures(), torch.zeros(20).long(), streams(), steps)[0], 0.5 * pictures())
        with pytest.raises(UsageError, match="augmentation 'dim' already"):
            register(dim)
    finally:
        AUGMENTATIONS.remove("dim")


def test_its_example_runs() -> None:
    run_examples(register, "register")


def test_every_augmentation_is_tested_here() -> None:
    assert SETTINGS.keys() == AUGMENTATIONS.keys()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 20, 31)])
def test_range_shape_and_type_stay(name: str, size: tuple[int, int, int]) -> None:
    for images in (pictures(20, *size), torch.ones(20, *size), torch.zeros(20, *size), pictures(20, *size).round()):
        before = images.clone()
        changed = AUGMENTATIONS[name](images, streams(), **SETTINGS[name])
        assert changed.shape == images.shape
        assert changed.dtype == torch.float32
        assert float(changed.min()) >= 0.0
        assert float(changed.max()) <= 1.0
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_changed_in_its_own_way_whatever_its_batch(name: str) -> None:
    same = pictures(1).expand(20, -1, -1, -1)
    changed = AUGMENTATIONS[name](same, streams(), **SETTINGS[name])
    assert torch.equal(changed, AUGMENTATIONS[name](same, streams(), **SETTINGS[name]))
    assert len(changed.flatten(1).unique(dim=0)) > (10 if name != "invert" else 0)
    chosen = torch.tensor([13, 2, 7])
    apart = AUGMENTATIONS[name](same[chosen], streams().select(chosen), **SETTINGS[name])
    torch.testing.assert_close(apart, changed[chosen], rtol=0, atol=1e-6)
    assert changed.isfinite().all()
    assert name == "invert" or not torch.equal(
        changed, AUGMENTATIONS[name](same, streams().fold("another epoch"), **SETTINGS[name])
    )


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS.keys() - ALWAYS_CHANGE))
def test_a_setting_of_zero_changes_nothing(name: str) -> None:
    images = pictures()
    unchanged = AUGMENTATIONS[name](images, streams(), **dict.fromkeys(SETTINGS[name], 0))
    torch.testing.assert_close(unchanged, images, rtol=0, atol=1e-5)


def test_shift_moves_whole_pixels_in_all_directions() -> None:
    images = pictures(300, 1, 6, 9)
    shifted = shift(images, streams(300), pixels=2)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    candidates = {
        (down, right): torch.roll(padded, (down, right), (2, 3))[:, :, 2:-2, 2:-2]
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    seen = [
        next(move for move, candidate in candidates.items() if torch.equal(candidate[number], shifted[number]))
        for number in range(300)
    ]
    counts = [seen.count(move) for move in candidates]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(28, 28), (12, 21)])
@pytest.mark.parametrize("degrees", [-90.0, 7.0, 33.0, 90.0, 180.0])
def test_rotate_turns_about_the_center_as_scipy_does(height: int, width: int, degrees: float) -> None:
    images, angle = pictures(2, 2, height, width), math.radians(degrees)
    turned = rotate(images, fixed(angle, 2), degrees=180.0)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    center = np.array([(height - 1) / 2, (width - 1) / 2])
    for image, result in zip(images.flatten(0, 1).double(), turned.flatten(0, 1), strict=True):
        offset: Any = center - matrix @ center
        expected = ndimage.affine_transform(image.numpy(), matrix, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(result, expected, atol=2e-4)


def test_a_quarter_turn_moves_pixels_exactly() -> None:
    images = pictures(3)
    turned = rotate(images, fixed(math.pi / 2, 3), degrees=90.0)
    torch.testing.assert_close(turned, torch.rot90(images, 1, (2, 3)), rtol=0, atol=1e-4)


def test_rotate_draws_angles_up_to_its_setting() -> None:
    rng = Fixed(0.0, 2)
    rotate(pictures(2), rng, degrees=20.0)  # type: ignore[arg-type]
    assert rng.bounds == pytest.approx((-math.pi / 9, math.pi / 9))


def test_translate_moves_by_shares_of_the_size() -> None:
    images = pictures(2, 1, 10, 20)
    # Places run over a length of 2, so these are 3 of 20 columns and 1 of 10 rows.
    moved = translate(images, fixed([2 * 3 / 20, 2 * 1 / 10], 2), fraction=0.2)
    expected = torch.zeros_like(images)
    expected[:, :, :-1, :-3] = images[:, :, 1:, 3:]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_translate_by_half_a_pixel_is_the_mean_of_neighbours() -> None:
    images = pictures(2, 1, 8, 8)
    moved = translate(images, fixed([1 / 8, 0.0], 2), fraction=0.2)
    right = torch.nn.functional.pad(images[..., 1:], (0, 1))
    torch.testing.assert_close(moved, (images + right) / 2, rtol=0, atol=1e-5)


def test_translate_draws_shares_up_to_its_setting() -> None:
    rng = Fixed(0.0, 2)
    translate(pictures(2), rng, fraction=0.15)  # type: ignore[arg-type]
    assert rng.bounds == pytest.approx((-0.3, 0.3))


def test_gaussian_noise_is_normal_and_clipped() -> None:
    gray = torch.full((50, 1, 28, 28), 0.5)
    noise = gaussian_noise(gray, streams(50), deviation=0.05) - 0.5
    assert stats.kstest(noise.flatten().numpy() / 0.05, "norm").pvalue > 1e-3
    black = gaussian_noise(torch.zeros(50, 1, 28, 28), streams(50), deviation=0.05)
    share = float((black == 0).float().mean())
    assert share == pytest.approx(0.5, abs=0.02)


def test_scale_draws_factors_about_one() -> None:
    images = pictures(2, 1, 8, 12)
    # A factor of two about the center: each side shows its middle half.
    grown = scale(images, fixed(1.0, 2), fraction=1.0)
    expected = torch.nn.functional.interpolate(images[:, :, 2:6, 3:9], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(grown[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_shear_moves_each_row_by_its_distance_from_the_center() -> None:
    images = pictures(2, 1, 9, 9)
    slanted = shear(images, fixed(1.0, 2), degrees=45.0)
    for row in range(9):
        expected = torch.zeros(2, 9)
        for column in range(9):
            if 0 <= column + row - 4 < 9:
                expected[:, column] = images[:, 0, row, column + row - 4]
        torch.testing.assert_close(slanted[:, 0, row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (12, 21)])
def test_affine_turns_as_rotate_does_and_moves_as_translate_does(height: int, width: int) -> None:
    images = pictures(2, 2, height, width)
    turned = affine(images, fixed(1.0, 2), degrees=33.0, shear=0.0, scale=0.0, fraction=0.0)
    expected = rotate(images, fixed(math.radians(33.0), 2), degrees=180.0)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)
    moved = affine(images, fixed(1.0, 2), degrees=0.0, shear=0.0, scale=0.0, fraction=0.1)
    torch.testing.assert_close(moved, translate(images, fixed(0.2, 2), fraction=0.1), rtol=0, atol=1e-5)


def test_elastic_moves_pixels_by_its_standard_deviation_and_neighbours_alike() -> None:
    # On a ramp, a pixel's value tells where it came from.
    ramp = torch.linspace(0.0, 1.0, 61).expand(100, 1, 61, 61).contiguous()
    moves = (elastic(ramp, streams(100), pixels=1.0) - ramp)[:, 0, 10:-10, 10:-10] * 60
    assert 0.6 < float(moves.std()) < 1.0
    assert abs(float(moves.mean())) < 0.05
    assert float((moves[:, :, 1:] - moves[:, :, :-1]).abs().mean()) < 0.3


def test_uniform_noise_is_uniform_and_clipped() -> None:
    gray = torch.full((50, 1, 28, 28), 0.5)
    noise = uniform_noise(gray, streams(50), amount=0.2) - 0.5
    assert stats.kstest(noise.flatten().numpy(), "uniform", (-0.2, 0.4)).pvalue > 1e-3
    assert float((uniform_noise(gray * 0, streams(50), amount=0.2) == 0).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_impulse_noise_makes_half_of_its_pixels_black_and_half_white_in_all_channels() -> None:
    noisy = impulse_noise(torch.full((50, 3, 28, 28), 0.5), streams(50), amount=0.3)
    for value in (0.0, 1.0):
        assert float((noisy == value).float().mean()) == pytest.approx(0.15, abs=0.01)
    assert torch.equal(noisy[:, 0], noisy[:, 2])


def test_augment_applies_the_steps_in_order_each_with_its_own_streams() -> None:
    images, rng, labels = pictures(), streams(), torch.arange(20)
    steps = {"shift": SETTINGS["shift"], "gaussian_noise": SETTINGS["gaussian_noise"]}
    shifted = shift(images, rng.fold("shift"), pixels=3)
    expected = gaussian_noise(shifted, rng.fold("gaussian_noise"), deviation=0.2)
    augmented, targets = augment(images, labels, rng, steps)
    assert torch.equal(augmented, expected)
    assert targets is labels
    assert not torch.equal(augment(images, labels, rng, dict(reversed(steps.items())))[0], expected)
    assert augment(images, labels, rng, {})[0] is images


def test_a_word_after_a_colon_tells_two_steps_apart() -> None:
    images, rng, labels = pictures(), streams(), torch.arange(20)
    twice = {"gaussian_noise": {"deviation": 0.2}, "gaussian_noise:again": {"deviation": 0.1}}
    once = gaussian_noise(images, rng.fold("gaussian_noise"), deviation=0.2)
    expected = gaussian_noise(once, rng.fold("gaussian_noise:again"), deviation=0.1)
    assert torch.equal(augment(images, labels, rng, twice)[0], expected)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_probability_leaves_the_other_examples_as_they_were(probability: float) -> None:
    images, rng, labels = pictures(2000, 1, 4, 4), streams(2000), torch.arange(2000)
    steps = {"invert": {"probability": probability}}
    augmented = augment(images, labels, rng, steps)[0]
    changed = (augmented != images).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(probability, abs=0.04)
    assert torch.equal(augmented[changed], 1 - images[changed])
    some = torch.arange(0, 2000, 7)
    assert torch.equal(augment(images[some], labels[some], rng.select(some), steps)[0], augmented[some])


def test_one_of_applies_one_step_to_each_example_all_equally_often() -> None:
    images, rng, labels = torch.full((3000, 1, 4, 4), 0.25), streams(3000), torch.arange(3000)
    options = {"invert": {}, "contrast": {"loss": 0.0}, "one_of:inner": {"erase": {"area": 1e-6}}}
    inverted = augment(images, labels, rng, {"one_of": options})[0][:, 0, 0, 0] == 0.75
    assert float(inverted.float().mean()) == pytest.approx(1 / 3, abs=0.03)
    half = augment(images, labels, rng, {"one_of": {"probability": 0.5, **options}})[0][:, 0, 0, 0] == 0.75
    assert float(half.float().mean()) == pytest.approx(1 / 6, abs=0.03)


def test_steps_that_mix_are_found_wherever_they_are() -> None:
    assert mixes({"mixup": {"alpha": 1.0}})
    assert mixes({"one_of": {"invert": {}, "one_of:more": {"probability": 0.1, "cutmix:late": {"alpha": 1.0}}}})
    assert not mixes({"rotate": {"degrees": 3.0}, "one_of": {"probability": 0.5, "invert": {}}})


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"rotat": {"degrees": 1.0}}, "unknown augmentation 'rotat'; did you mean rotate"),
        ({"rotate": {}}, "'rotate': missing a required argument: 'degrees'; its settings: degrees"),
        ({"rotate": {"degrees": 1.0, "angle": 2.0}}, "'rotate': .*'angle'; its settings: degrees"),
        ({"shift": {"images": 1, "pixels": 1}}, "'shift': .*'images'"),
        ({"shift": 2}, "'shift': .*mapping"),
        ({"shift": {"pixels": 1.5}}, "pixels is 1.5; it is a whole number from 0 up"),
        ({"shift": {"pixels": -1}}, "pixels is -1; it is a whole number from 0 up"),
        ({"shift": {"pixels": True}}, "pixels is True"),
        ({"rotate": {"degrees": math.nan}}, "degrees is nan; it is a number from 0 up"),
        ({"translate": {"fraction": math.inf}}, "fraction is inf"),
        ({"gaussian_noise": {"deviation": "much"}}, "deviation is 'much'"),
        ({"invert": {"probability": 1.5}}, "'invert': probability is 1.5; it lies from 0 to 1"),
        ({"invert": {"probability": True}}, "probability is True"),
        ({"one_of": {"probability": 0.5}}, "'one_of': it names no augmentation"),
        ({"one_of": {"invret": {}}}, "unknown augmentation 'invret'; did you mean invert"),
        ({"one_of:a": {"rotate": {}}}, "'rotate': missing"),
        ({"one_off": {}}, "unknown augmentation 'one_off'; did you mean one_of"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(steps: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_augmentation(steps)


def test_right_settings_are_accepted() -> None:
    check_augmentation(SETTINGS)
    check_augmentation({"shift": {"pixels": 2.0}, "rotate": {"degrees": 0}})
    check_augmentation({"one_of:a": {"probability": 0.5, "mixup": {"alpha": 1, "probability": 0}, "invert:b": {}}})
