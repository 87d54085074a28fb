"""Synthetic outliers: reproducible example by example, of no class, and none of what detection is measured on."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import some_digits

from hardy.data import load_dataset
from hardy.errors import UsageError
from hardy.rng import Randomness
from hardy.synthetic.glyphs import EXPOSURE_FONTS, LETTERS, TEST_FONTS, drawn_letter
from hardy.synthetic.outliers import EXPOSURE_CHARACTERS, FITTING_FAMILIES, OUTLIERS, _glyph_bank, make_outliers
from hardy.synthetic.transforms import TRANSFORMS

families = pytest.mark.parametrize("name", OUTLIERS)


@families
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 12)])
def test_a_family_makes_images_of_the_same_shape(name: str, shape: tuple[int, int, int]) -> None:
    images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    made = OUTLIERS[name].function(images, Randomness(0, torch.arange(6)))
    assert torch.equal(images, before)
    assert made.shape == images.shape
    assert made.dtype == torch.float32
    assert made.isfinite().all()
    assert made.min() >= 0.0
    assert made.max() <= 1.0
    assert not torch.equal(made, images)


@families
def test_an_outlier_belongs_to_its_example(name: str) -> None:
    images, _, indices = some_digits()
    function, rng = OUTLIERS[name].function, Randomness(0, indices)
    made = function(images, rng)
    assert torch.equal(function(images, rng), made)
    some = torch.tensor([7, 3, 11])
    assert torch.allclose(function(images[some], rng.select(some)), made[some], atol=1e-5)
    # Mirroring leaves nothing to chance.
    assert torch.equal(function(images, Randomness(1, indices)), made) == (name == "mirrored")
    assert len(made.flatten(1).unique(dim=0)) == len(made)


@families
def test_a_family_says_what_it_is(name: str) -> None:
    assert OUTLIERS[name].name == name
    assert OUTLIERS[name].description


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 12)])
def test_a_transform_gives_images_of_the_same_shape_each_by_its_own_streams(
    name: str, shape: tuple[int, int, int]
) -> None:
    images, rng = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)), Randomness(0, torch.arange(6))
    before = images.clone()
    found = TRANSFORMS[name](images, rng)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    assert not torch.equal(found, images)
    assert torch.equal(TRANSFORMS[name](images, rng), found)
    some = torch.tensor([4, 1])
    assert torch.allclose(TRANSFORMS[name](images[some], rng.select(some)), found[some], atol=1e-5)
    assert torch.equal(images, before)


def test_permuted_pixels_keep_the_pixels_and_nothing_else() -> None:
    images, _, indices = some_digits()
    made = OUTLIERS["permuted_pixels"].function(images, Randomness(0, indices))
    assert torch.equal(made.flatten(1).sort(dim=1).values, images.flatten(1).sort(dim=1).values)


def test_pieces_keep_the_ink() -> None:
    images, _, indices = some_digits()
    made = OUTLIERS["pieces"].function(images, Randomness(0, indices))
    assert torch.allclose(made.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=1e-4)


def test_families_can_be_validation_and_each_is_drawn() -> None:
    images, _, indices = some_digits()
    rng = Randomness(0, indices)
    only = make_outliers(images, rng, ["textures"])
    assert torch.equal(only, OUTLIERS["textures"].function(images, rng.fold("textures")))
    mixed = make_outliers(images, rng, ["textures", "noise"])
    alone = {name: OUTLIERS[name].function(images, rng.fold(name)) for name in ("textures", "noise")}
    came_from = {name: torch.isclose(mixed, made, atol=1e-5).flatten(1).all(1) for name, made in alone.items()}
    assert (came_from["textures"] ^ came_from["noise"]).all()
    assert came_from["textures"].any()
    assert came_from["noise"].any()
    with pytest.raises(UsageError, match="did you mean textures"):
        make_outliers(images, rng, ["texture"])
    with pytest.raises(UsageError, match="no family"):
        make_outliers(images, rng, [])


def test_what_detectors_are_fitted_on_is_not_what_they_are_measured_on() -> None:
    assert not set(FITTING_FAMILIES) & TRANSFORMS.keys()


class TestGlyphs:
    def test_the_dataset_shares_no_font_and_no_letter_with_them(self) -> None:
        assert not set(TEST_FONTS) & set(EXPOSURE_FONTS)
        assert len(TEST_FONTS) == len(EXPOSURE_FONTS) == 11
        assert not set(EXPOSURE_CHARACTERS) & set(LETTERS)

    def test_no_font_is_another_under_a_second_name(self) -> None:
        """The letter A, drawn large, is another picture in each font of the two halves."""
        test, exposure = (
            {drawn_letter(font, "A", 64).tobytes() for font in fonts} for fonts in (TEST_FONTS, EXPOSURE_FONTS)
        )
        assert not test & exposure

    def test_no_image_is_one_of_the_datasets(self) -> None:
        dataset = load_dataset("glyphs/test").images
        known = {image.numpy().tobytes() for image in dataset}
        black = torch.zeros(1500, 1, 28, 28)
        made = OUTLIERS["glyphs"].function(black, Randomness(0, torch.arange(1500)))
        assert not known & {(255 * image).round().byte().numpy().tobytes() for image in made}

    def test_the_bank_has_every_character_of_every_font(self) -> None:
        bank = _glyph_bank()
        assert bank.shape == (len(EXPOSURE_FONTS) * len(EXPOSURE_CHARACTERS), 64, 64)
        assert (bank.flatten(1).float().mean(1) > 10).all()
