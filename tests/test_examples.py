"""The examples in the docstrings of data, training, deployment, evaluation and validation run as they stand."""

from __future__ import annotations

import doctest
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers.bundles import measure_little, write_small_run
from helpers.examples import examples_of, run_example
from PIL import Image

from hardy.data import DATASETS, load_dataset
from hardy.deployment.bundle import Bundle
from hardy.deployment.fit import fit_bundle
from hardy.training import LOSSES, RECIPES, Recipe

MODULES = (
    "data.arrays",
    "data.loading",
    "data.registry",
    "data.user",
    "training.losses.loss",
    "training.recipe",
    "training.recipes",
    "training.run",
    "deployment.preprocessing",
    "deployment.bundle",
    "deployment.fit",
    "evaluation.evaluate",
    "progress",
    "validation",
)
EXAMPLES = list(examples_of(*(import_module(f"hardy.{name}") for name in MODULES)))


@pytest.fixture(autouse=True)
def clean_registries() -> Iterator[None]:
    before = [(registry, set(registry)) for registry in (DATASETS, LOSSES, RECIPES)]
    yield
    for registry, names in before:
        for name in set(registry) - names:
            registry.remove(name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick: Recipe) -> Path:
    return write_small_run(tmp_path_factory.mktemp("examples"), quick)


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        return fit_bundle(run, alpha=0.1)


def test_there_are_examples() -> None:
    assert {test.name.rpartition(".")[2] for test in EXAMPLES} >= {
        "as_dataset",
        "load_dataset",
        "register",
        "load_user_dataset",
        "register_loss",
        "register_recipe",
        "train",
        "with_settings",
        "preprocess",
        "predict",
        "load_bundle",
        "fit_bundle",
        "check_classifier",
        "evaluate",
        "progress_bars",
        "frozen_evaluation",
    }


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_an_example_runs(
    test: doctest.DocTest, run: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    Image.fromarray(load_dataset("mnist/test").images[0, 0].numpy()).save("digit.png")
    shutil.copy(run.parent / "digits.npz", tmp_path)
    with torch.random.fork_rng(devices=[]):
        run_example(test, run=run, bundle=bundle)
