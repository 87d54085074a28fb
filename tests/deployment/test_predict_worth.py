"""What answers are worth: digits as people have them are answered right, and the bundle keeps its promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hardy.deployment import Bundle
from hardy.deployment.abstention import Decisions
from hardy.deployment.fit import answer_pages, fit_bundle
from hardy.deployment.preprocessing import prepare
from hardy.synthetic.glyphs import LETTERS, TEST_FONTS
from hardy.synthetic.photos import DIGITS, blank_pages, drawn_pages, noise_pages
from hardy.training import train
from hardy.training.recipes import RECIPES

pytestmark = pytest.mark.slow

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
    pages = drawn_pages(DIGITS, TEST_FONTS, 3, SEED)
    decisions = answer_pages(bundle, pages)
    assert right_where_answered(decisions, np.array([int(it) for it in pages.characters])) >= 0.97
    assert decisions.answered.mean() > 0.3


def test_uci_digits_are_right_where_they_are_answered(bundle: Bundle) -> None:
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    decisions = bundle.answer(prepare(torch.from_numpy(pixels.reshape(-1, 8, 8)).float() / 16))
    assert right_where_answered(decisions, labels) >= 0.97


@pytest.mark.parametrize("kind", ["printed letters A to J on paper", "blank pages", "pages of noise"])
def test_promises_are_kept(bundle: Bundle, kind: str) -> None:
    made = {
        "printed letters A to J on paper": lambda: drawn_pages(LETTERS, TEST_FONTS, 6, SEED),
        "blank pages": lambda: blank_pages(300, SEED),
        "pages of noise": lambda: noise_pages(300, SEED),
    }
    promise = next(promise for promise in bundle.facts.promises if promise.kind == kind)
    refused = (~answer_pages(bundle, made[kind]()).answered).mean()
    assert promise.low <= refused <= promise.high


def test_the_bundle_can_be_written(bundle: Bundle, tmp_path: Path) -> None:
    from hardy.deployment import load_bundle, write_bundle

    write_bundle(tmp_path / "bundle", bundle, "card")
    assert load_bundle(tmp_path / "bundle").facts == bundle.facts
