"""What every detector keeps: it is listed and described, and its function takes any model and any form of data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from helpers.docs import run_examples
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import hardy.ood
from hardy.cli.main import app
from hardy.data import Dataset
from hardy.errors import ContractError, UsageError
from hardy.models import Compact, Ensemble
from hardy.ood import DETECTORS, SCORES, Detector, Features, ModelDetector
from hardy.ood.member_scores import MEMBER_SCORES

CLASSES = 3
detectors = pytest.mark.parametrize("name", DETECTORS)
functions = [getattr(hardy.ood, name) for name in (*DETECTORS, "detector", "register")]


def test_every_score_is_listed() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "scores", "--json"], catch_exceptions=False).stdout)
    assert listed.keys() == DETECTORS.keys()
    assert listed.keys() >= {*SCORES, *MEMBER_SCORES, "odin", "learned", "combination"}
    assert len(listed) == 21


@detectors
def test_a_method_says_what_it_is_what_it_needs_and_what_it_is_fitted_on(name: str) -> None:
    method = DETECTORS[name]
    assert method.name == name
    assert method.title
    assert method.description == " ".join(method.description.split())
    assert (method.fit is None) == (method.fitted_on == "nothing" or "synthetic outliers" in method.fitted_on)
    assert name in hardy.ood.__all__


@pytest.mark.parametrize("function", functions, ids=[it.__name__ for it in functions])
def test_its_example_runs(function: Any) -> None:
    run_examples(function, function.__name__)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """An ensemble of color classifiers of three classes, in training mode; batch norm has seen some images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ensemble = Ensemble([Compact(CLASSES, channels=3, width=4, size=12) for _ in range(2)])
        ensemble(random_images(200))
    return ensemble


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


TRAIN = random_images(90), torch.arange(90) % CLASSES


def fitted(name: str, model: nn.Module, train: Any = TRAIN, batch_size: int = 500) -> ModelDetector:
    function = getattr(hardy.ood, name)
    if name == "discriminator":
        return function(model, train, [1 - random_images(20), random_images(20) / 2], batch_size=batch_size)
    if name == "combination":
        return function(model, train, TRAIN[0][:30], random_images(30, 1) ** 3, batch_size=batch_size)
    if name == "odin":
        return function(model, temperature=10.0, eps=0.01, batch_size=batch_size)
    if DETECTORS[name].fitted_on == "nothing":
        return function(model, batch_size=batch_size)
    return function(model, train, batch_size=batch_size)


@detectors
def test_scores_are_float64_the_same_each_time_and_independent_of_the_batch(name: str, model: nn.Module) -> None:
    images = random_images(20, 2)
    before = images.clone()
    detector = fitted(name, model)
    scores = detector(images)
    assert detector.name == name
    assert scores.shape == (20,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 20
    assert np.array_equal(detector(images.numpy()), scores)
    assert np.array_equal(fitted(name, model)(images), scores)
    # Rounding may move a score by a place among those that the combination was fitted on, and a network's training.
    expected = pytest.approx(scores, rel=1e-3, abs=0.1 if "synthetic outliers" in DETECTORS[name].fitted_on else 1e-3)
    assert np.concatenate([detector(image[None]) for image in images]) == expected
    assert fitted(name, model, batch_size=7)(images) == expected
    assert detector(images[:0]).shape == (0,)
    assert torch.equal(images, before)
    assert all(array.dtype.kind == "f" for array in detector.arrays.values())


@detectors
def test_the_model_is_left_as_it_was(name: str, model: nn.Module) -> None:
    model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fitted(name, model)(random_images(5))
    assert all(module.training for module in model.modules())
    assert all(it.requires_grad and it.grad is None for it in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name for name, it in DETECTORS.items() if it.fit])
def test_every_form_of_training_data_gives_the_same(name: str, model: nn.Module) -> None:
    images, labels = TRAIN
    expected = fitted(name, model)(random_images(10, 2))
    forms = (
        (images.numpy(), labels.numpy()),
        DataLoader(TensorDataset(images, labels), batch_size=20),
        Dataset("toy/train", images, labels, ("a", "b", "c")),
    )
    for form in forms:
        assert fitted(name, model, form)(random_images(10, 2)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_score_of_ones_own_needs_no_change_of_hardy(model: nn.Module) -> None:
    def fit(features: Features, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": features.logits[labels == 0].mean(axis=0)}

    try:

        @hardy.ood.register(name="mine", title="distance of the logits from those of class 0", fit=fit)
        def mine(arrays: dict[str, np.ndarray], features: Features) -> np.ndarray:
            return np.linalg.norm(features.logits - arrays["mean"], axis=1).astype(np.float64)

        detector = hardy.ood.detector("mine", model, TRAIN)
        assert detector(random_images(4)).shape == (4,)
        assert "mine" in hardy.ood.usable(
            Features(np.zeros((1, 2), np.float32), (hardy.ood.Member(np.zeros((1, 2), np.float32)),))
        )
        assert "mine" in CliRunner().invoke(app, ["list", "scores"], catch_exceptions=False).stdout
        with pytest.raises(UsageError, match="there is a detector 'mine' already"):
            hardy.ood.register(name="mine", title="again")(mine)
    finally:
        DETECTORS.remove("mine")


class NoHead(nn.Module):
    """Nothing linear at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).amax((2, 3))


def test_what_cannot_be_is_refused_with_the_reason(model: nn.Module) -> None:
    for name in ("vim", "react", "mahalanobis", "relative_mahalanobis", "nearest_neighbours"):
        with pytest.raises(UsageError, match=f"'{name}': the network has no nn.Linear"):
            getattr(hardy.ood, name)(NoHead(), TRAIN)
    assert hardy.ood.layers(NoHead(), TRAIN)(random_images(2)).shape == (2,)
    with pytest.raises(UsageError, match="no ensemble"):
        hardy.ood.mutual_information(NoHead())(random_images(2))
    with pytest.raises(UsageError, match="is fitted on training images; give them"):
        hardy.ood.detector("vim", model)
    with pytest.raises(UsageError, match=r"call hardy\.ood\.odin"):
        hardy.ood.detector("odin", model, TRAIN)
    with pytest.raises(UsageError, match="temperature 0"):
        hardy.ood.odin(model, temperature=0.0)
    with pytest.raises(UsageError, match=r"TensorDataset: .*; give a DataLoader"):
        hardy.ood.vim(model, TensorDataset(*TRAIN))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="labels float32"):
        hardy.ood.vim(model, (TRAIN[0], TRAIN[1].float()))
    with pytest.raises(UsageError, match="no examples"):
        hardy.ood.vim(model, [])
    with pytest.raises(ContractError, match="values from 0 to 255"):
        hardy.ood.energy(model)(255 * TRAIN[0][:1].round())
    assert restored_like(hardy.ood.vim(model, TRAIN), model)


def restored_like(detector: ModelDetector, model: nn.Module) -> bool:
    """Whether name and arrays are all that makes a detector."""
    again = ModelDetector(model, Detector(detector.name, dict(detector.arrays)))
    return np.array_equal(again(random_images(3)), detector(random_images(3)))
