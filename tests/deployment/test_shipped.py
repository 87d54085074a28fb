"""The bundle that comes with hardy: that it is there, says what it is, and does what its scorecard says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.bundles import draw_seven

import hardy
from hardy.data import load_dataset
from hardy.deployment import Bundle, located, shipped
from hardy.deployment.bundle import SCORECARD
from hardy.errors import BundleError, UsageError
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import load_subject
from hardy.models import predict_logits
from hardy.models.weights import weights_sha256
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.training import RECIPES, Recipe

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def flagship() -> Bundle:
    return hardy.load("flagship")


def test_it_is_small_and_lies_in_the_package() -> None:
    (folder,) = shipped().values()
    assert folder.is_relative_to(Path(hardy.__file__).parent)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["README.md", "SHA256SUMS", "bundle.json", "fitted.safetensors", SCORECARD, "weights.safetensors"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_no_pattern_keeps_it_out_of_the_wheel() -> None:
    """The wheel holds what lies below src/hardy and git does not ignore."""
    (folder,) = shipped().values()
    asked = ["git", "check-ignore", *(str(path) for path in folder.iterdir())]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("not a checkout")
    assert done.stdout == ""


def test_it_says_what_it_was_trained_by_and_on(flagship: Bundle) -> None:
    training = flagship.manifest.training
    assert Recipe.from_dict(training["recipe"]).to_dict() == RECIPES["flagship-quick"].to_dict()
    assert training["seed"] == 0
    assert re.fullmatch("[0-9a-f]{40}", training["git_commit"])
    assert training["git_dirty"] is False
    for name, sha256 in flagship.manifest.data.items():
        assert load_dataset(name).sha256 == sha256


def test_its_scorecard_is_of_the_same_weights(flagship: Bundle) -> None:
    card = Scorecard.read(shipped()["flagship"] / SCORECARD)
    assert card.subject.weights_sha256 == weights_sha256(flagship.classifier) == flagship.manifest.weights_sha256
    assert {"accuracy", "adversarial", "out_of_distribution", "distribution_shift"} <= {*card.properties}


def test_it_is_right_and_stays_right_under_noise_at_the_edge_of_the_ball(flagship: Bundle) -> None:
    test = load_dataset("mnist/test")
    chosen = test.measuring_order()[:200]
    images, labels = test.floats(chosen), test.labels[chosen]
    noise = 0.3 * Randomness(0, chosen, ("test",)).signs(1, 28, 28)
    for moved, least in ((images, 0.97), ((images + noise).clamp(0.0, 1.0), 0.95)):
        assert ThreatModel("linf", 0.3).contains(moved, images).all()
        assert (predict_logits(flagship.classifier, moved).argmax(1) == labels).float().mean() >= least


@pytest.mark.parametrize("ink", ["black", "white"])
def test_a_drawn_seven_is_read(flagship: Bundle, tmp_path: Path, ink: str) -> None:
    answer = flagship.predict(draw_seven(tmp_path / "digit.png", ink))
    assert (answer.best, answer.error) == ("7", None)


def test_it_is_a_subject() -> None:
    subject = load_subject("flagship")
    assert (subject.name, subject.run) == ("flagship-quick", None)
    assert subject.data() == "mnist"
    assert predict_logits(subject.classifier, torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_what_lies_in_the_current_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert located("flagship") == shipped()["flagship"]
    assert located("no-such-thing") == Path("no-such-thing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flagship").mkdir()
    assert located("flagship") == Path("flagship")
    with pytest.raises(BundleError, match="flagship is no bundle"):
        hardy.load("flagship")
    with pytest.raises(UsageError, match="no subject 'flagship'"):
        load_subject("flagship")


def test_an_unknown_name_is_no_folder() -> None:
    with pytest.raises(BundleError, match="flagshp is no folder"):
        hardy.load("flagshp")
