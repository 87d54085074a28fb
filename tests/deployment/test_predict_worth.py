"""How good answers are: digits as people have them are answered right, and refusal is as the bundle estimates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hardy.deployment import Bundle
from hardy.deployment.abstention import Decisions
from hardy.deployment.fit import answer_photos, fit_bundle
from hardy.deployment.preprocessing import preprocess
from hardy.synthetic.glyphs import LETTERS, TEST_FONTS
from hardy.synthetic.photos import DIGITS, blank_photos, drawn_photos, noise_photos
from hardy.training import train
from hardy.training.recipes import RECIPES

# In one group: its bundle, which takes minutes, is made once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("worth")]

SEED = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the compact network as its recipe trains it."""
    out = tmp_path_factory.mktemp("worth") / "run"
    train(RECIPES["compact"], out, device="cpu")
    return fit_bundle(out)


def right_where_answered(decisions: Decisions, labels: np.ndarray) -> float:
    return float((decisions.best == labels)[decisions.answered].mean())


def test_drawn_digits_are_right_where_they_are_answered(bundle: Bundle) -> None:
    pages = drawn_photos(DIGITS, TEST_FONTS, 3, SEED)
    decisions = answer_photos(bundle, pages)
    assert right_where_answered(decisions, np.array([int(it) for it in pages.characters])) >= 0.97
    assert decisions.answered.mean() > 0.3


def test_uci_digits_are_right_where_they_are_answered(bundle: Bundle) -> None:
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    decisions = bundle.answer(preprocess(torch.from_numpy(pixels.reshape(-1, 8, 8)).float() / 16))
    assert right_where_answered(decisions, labels) >= 0.97


@pytest.mark.parametrize("kind", ["photos of printed letters A to J", "photos of blank paper", "images of noise"])
def test_refusal_lies_in_the_estimated_interval(bundle: Bundle, kind: str) -> None:
    made = {
        "photos of printed letters A to J": lambda: drawn_photos(LETTERS, TEST_FONTS, 6, SEED),
        "photos of blank paper": lambda: blank_photos(300, SEED),
        "images of noise": lambda: noise_photos(300, SEED),
    }
    estimate = next(it for it in bundle.manifest.refusal_estimates if it.kind == kind)
    refused = (~answer_photos(bundle, made[kind]()).answered).mean()
    assert estimate.low <= refused <= estimate.high


def test_the_bundle_can_be_written(bundle: Bundle, tmp_path: Path) -> None:
    from hardy.deployment import load_bundle, write_bundle

    write_bundle(tmp_path / "bundle", bundle, "card")
    assert load_bundle(tmp_path / "bundle").manifest == bundle.manifest
