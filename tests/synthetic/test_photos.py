"""Synthetic photographs: the same every time, each as it says."""

from __future__ import annotations

import numpy as np
import pytest

from hardy.errors import DataError
from hardy.synthetic.glyphs import EXPOSURE_FONTS, TEST_FONTS
from hardy.synthetic.photos import SIDES, blank_photos, drawn_photos, noise_photos


def test_each_character_is_drawn_in_each_font_as_often_as_asked() -> None:
    photos = drawn_photos("3A", ["cmr10", "DejaVuSans"], 2, seed=0)
    assert photos.characters == ["3", "3", "A", "A"] * 2
    assert photos.fonts == ["cmr10"] * 4 + ["DejaVuSans"] * 4
    assert all(photo.dtype == np.uint8 and photo.shape[0] == photo.shape[1] in SIDES for photo in photos.pictures)


def test_photos_are_the_same_every_time_and_differ_by_seed() -> None:
    first, again, other = (drawn_photos("7", ["cmr10"], 1, seed=seed).pictures[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert np.array_equal(blank_photos(2, 0).pictures[1], blank_photos(2, 0).pictures[1])
    assert np.array_equal(noise_photos(3, 0).pictures[2], noise_photos(3, 0).pictures[2])


def test_the_ink_is_dark_and_its_margin_is_paper() -> None:
    for photo in drawn_photos("8", TEST_FONTS[:4], 3, seed=2).pictures:
        side = len(photo)
        edge = max(2, side // 20) - 2
        paper = np.median(photo)
        assert photo.min() < 0.65 * paper
        frame = np.concatenate([photo[:edge].ravel(), photo[-edge:].ravel()]) if edge > 0 else photo[0]
        assert np.quantile(frame, 0.05) > 0.6 * paper


def test_promises_and_their_check_share_no_font() -> None:
    assert not set(EXPOSURE_FONTS) & set(TEST_FONTS)


def test_a_font_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="NoSuchFont"):
        drawn_photos("1", ["NoSuchFont"], 1, seed=0)
