"""Recipes for images of any kind and size: what their networks get from the images, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.classifiers import TINY
from helpers.shapes import write_shapes

from hardy.augmentations import augment
from hardy.errors import DataError, UsageError
from hardy.models import build_model
from hardy.models.study import SIMPLE_NETS
from hardy.rng import Randomness
from hardy.training import RECIPES, Recipe, train
from hardy.training.filling import fill_in

SMALL = Recipe("small", "for tests", model_arguments={"width": 4}, batch_size=16, epochs=6, learning_rate=0.03)


@pytest.mark.parametrize("name", RECIPES)
def test_mnist_leaves_a_recipe_as_it_is(name: str) -> None:
    assert fill_in(RECIPES[name], (1, 28, 28)) == RECIPES[name]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 24), (3, 40, 33)])
@pytest.mark.parametrize("name", RECIPES)
def test_networks_take_the_images_or_say_that_they_are_too_small(name: str, shape: tuple[int, ...]) -> None:
    images = torch.rand(2, *shape)
    for network in fill_in(RECIPES[name], shape).networks:
        arguments = network.architecture(100)["arguments"]
        kernel, widths = SIMPLE_NETS.get(network.model, (1, ()))
        if min(shape[1:]) <= (kernel - 1) * len(widths):
            with pytest.raises(ValueError, match="too small"):
                build_model(network.model, **arguments)
            continue
        assert build_model(network.model, **arguments).eval()(images).shape == (2, 100)
        labels = torch.nn.functional.one_hot(torch.tensor([0, 1]), 100).float()
        rng = Randomness(0, torch.arange(2), ("training", 0))
        assert augment(images, labels, rng, network.augmentation)[0].shape == images.shape


def test_what_a_recipe_sets_itself_stays() -> None:
    assert fill_in(TINY, (3, 32, 24)).model_arguments == {"width": 2, "size": 8, "channels": 3}


def test_a_folder_without_splits_is_trained_on_and_its_test_images_are_set_apart(tmp_path: Path) -> None:
    data = f"{write_shapes(tmp_path, 40, side=16) / 'shapes'}?resize=16x12"
    run = train(SMALL, tmp_path / "run", data=data, device="cpu", progress=False)
    manifest = run.manifest
    assert manifest["training"]["data"] == f"{data}&test=0.2"
    assert manifest["input"] == [3, 12, 16]
    assert manifest["classes"] == ["circle", "square", "triangle"]
    assert manifest["model"]["arguments"] == {"classes": 3, "width": 4, "channels": 3, "size": [12, 16]}
    again = train(SMALL, tmp_path / "run", data=data, device="cpu", progress=False, resume=True)
    assert again.manifest == manifest


def test_too_few_images_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", images=np.zeros((2, 9, 9), np.uint8), labels=[0, 1])
    with pytest.raises(DataError, match="1 different images cannot be divided into test, validation, train; add"):
        train(SMALL, tmp_path / "run", data=str(tmp_path / "two.npz"))
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9), dtype=np.uint8)
    np.savez(tmp_path / "three.npz", images=images, labels=[0, 1, 1])
    with pytest.raises(UsageError, match="1 training images are fewer than one batch of 16"):
        train(SMALL, tmp_path / "run", data=str(tmp_path / "three.npz"))
    assert not (tmp_path / "run").exists()
