"""Augmentations: what all of them keep, and what each does, against other ways to compute it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from hardy.augmentation import AUGMENTATIONS, augment, check_augmentation, gaussian_noise, rotate, shift, translate
from hardy.errors import UsageError
from hardy.randomness import Randomness

SETTINGS: dict[str, dict[str, float]] = {
    "rotate": {"degrees": 30.0},
    "translate": {"fraction": 0.2},
    "shift": {"pixels": 3},
    "gaussian_noise": {"deviation": 0.2},
}


class Fixed:
    """In place of random streams: every number is the same, and the bounds that were asked for are kept."""

    def __init__(self, value: Any, count: int) -> None:
        self.value = torch.as_tensor(value)
        self.count = count
        self.bounds: tuple[float, float] | None = None

    def uniform(self, *shape: int, low: float, high: float) -> Tensor:
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
    assert len(changed.flatten(1).unique(dim=0)) > 10
    chosen = torch.tensor([13, 2, 7])
    apart = AUGMENTATIONS[name](same[chosen], streams().select(chosen), **SETTINGS[name])
    torch.testing.assert_close(apart, changed[chosen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
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
def test_rotate_turns_about_the_centre_as_scipy_does(height: int, width: int, degrees: float) -> None:
    images, angle = pictures(2, 2, height, width), math.radians(degrees)
    turned = rotate(images, fixed(angle, 2), degrees=180.0)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    for image, result in zip(images.flatten(0, 1).double(), turned.flatten(0, 1), strict=True):
        offset: Any = centre - matrix @ centre
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
    grey = torch.full((50, 1, 28, 28), 0.5)
    noise = gaussian_noise(grey, streams(50), deviation=0.05) - 0.5
    assert stats.kstest(noise.flatten().numpy() / 0.05, "norm").pvalue > 1e-3
    black = gaussian_noise(torch.zeros(50, 1, 28, 28), streams(50), deviation=0.05)
    share = float((black == 0).float().mean())
    assert share == pytest.approx(0.5, abs=0.02)


def test_augment_applies_the_steps_in_order_each_with_its_own_streams() -> None:
    images, rng = pictures(), streams()
    steps = {"shift": SETTINGS["shift"], "gaussian_noise": SETTINGS["gaussian_noise"]}
    shifted = shift(images, rng.fold("shift"), pixels=3)
    expected = gaussian_noise(shifted, rng.fold("gaussian_noise"), deviation=0.2)
    assert torch.equal(augment(images, rng, steps), expected)
    assert not torch.equal(augment(images, rng, dict(reversed(steps.items()))), expected)
    assert augment(images, rng, {}) is images


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
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(steps: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_augmentation(steps)


def test_right_settings_are_accepted() -> None:
    check_augmentation(SETTINGS)
    check_augmentation({"shift": {"pixels": 2.0}, "rotate": {"degrees": 0}})
