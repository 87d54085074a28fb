"""One of each kind is added from a module of the user's own, through the public decorators, and then works."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.classifiers import small_classifier
from helpers.snippets import registries_kept

import hardy
from hardy.attacks import ATTACKS
from hardy.cli.main import app
from hardy.corruptions import CORRUPTIONS
from hardy.data import DATASETS
from hardy.evaluation.properties import PROPERTIES
from hardy.models import MODELS
from hardy.ood import DETECTORS
from hardy.training import LOSSES, RECIPES

ROOT = Path(__file__).parent.parent
MODULE = '''
import torch
from torch.nn.functional import multi_margin_loss

import hardy
from hardy.evaluation.framework import MetricKind, mean_of
from hardy.evaluation.predictions import predictions_of, test_measurement


@hardy.attacks.register(title="brighter", norms=("linf",), reference="a test")
def brighter(classifier, images, labels, threat, *, rng):
    return images + threat.eps


@hardy.corruptions.register(name="my_dim", severities=[{"factor": 0.8}, {"factor": 0.5}])
def my_dim(images, rng, *, factor):
    """Every pixel darker."""
    return factor * images


@hardy.ood.register(name="my_score", title="minus the spread of the logits")
def my_score(arrays, features):
    return -features.logits.std(axis=1).astype(float)


@hardy.evaluation.register_property("my_property", title="Mine", description="How sure the answers are.")
def my_property(results):
    answers = predictions_of(results, test_measurement(results.context))
    kind = MetricKind.share("my_confidence", "Mean confidence", higher_is_better=None)
    return [mean_of(kind, answers.confidence, answers.examples)]


@hardy.training.register_loss("my_margin")
def my_margin(model, batch, *, width: float = 1.0):
    return multi_margin_loss(model(batch.images), batch.targets, margin=width)


@hardy.models.register(name="my_model")
def my_model(classes=10):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))


hardy.training.register_recipe(
    hardy.training.Recipe("my-recipe", "for a test", model="my_model", batch_size=20, epochs=8,
    learning_rate=0.02, averaging=0.0, objectives=(hardy.training.Objective("my_margin"),))
)


def bars(count):
    labels = torch.arange(count) % 2
    images = torch.zeros(count, 1, 8, 8)
    images[labels == 0, :, ::2] = 1
    images[labels == 1, :, :, ::2] = 1
    return images, labels


@hardy.data.register("my-bars/train")
def my_training_bars():
    return bars(200)


@hardy.data.register("my-bars/test")
def my_test_bars():
    return bars(60)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that registers one of each, as a user's file does."""
    (tmp_path / "their_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with registries_kept():
        import their_module  # type: ignore[import-not-found]

        yield their_module
    del sys.modules["their_module"]


def test_each_is_registered_and_gone_afterwards(own: ModuleType) -> None:
    added = {
        "brighter": ATTACKS,
        "my_dim": CORRUPTIONS,
        "my_score": DETECTORS,
        "my_property": PROPERTIES,
        "my_margin": LOSSES,
        "my_model": MODELS,
        "my-recipe": RECIPES,
        "my-bars": DATASETS,
    }
    assert [name for name, registry in added.items() if name not in registry] == []


def test_an_attack_a_corruption_and_a_score_work(own: ModuleType) -> None:
    model = small_classifier()
    images = torch.rand(6, 1, 28, 28)
    with torch.no_grad():
        labels = model.eval()(images).argmax(1)
    result = own.brighter(model, images, labels, norm="linf", eps=0.4)
    with torch.no_grad():
        wrong = model((images + 0.4).clamp(0, 1)).argmax(1) != labels
    assert torch.equal(torch.as_tensor(result.broken), wrong)
    torch.testing.assert_close(hardy.corrupt(images, "my_dim", severity=2), 0.5 * images)
    scores = hardy.ood.detector("my_score", model)(images)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.as_tensor(scores), -model(images).std(1, correction=0).double(), rtol=1e-4, atol=1e-4
        )


def test_a_recipe_of_ones_own_trains_on_data_of_ones_own_and_is_measured_by_a_property_of_ones_own(
    own: ModuleType, tmp_path: Path
) -> None:
    run = hardy.train("my-recipe", tmp_path / "run", data="my-bars")
    card = hardy.evaluate(run.path, "my-bars", properties=["accuracy", "my_property"], progress=False)
    assert card["accuracy/accuracy"].value == 1.0
    confidence = card["my_property/my_confidence"]
    assert 0.5 < confidence.value <= 1.0
    assert confidence.n == 60


def test_the_command_line_knows_what_an_imported_module_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "their_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with registries_kept():
        for kind, name in (("attacks", "brighter"), ("corruptions", "my_dim"), ("properties", "my_property")):
            app(["--import", "their_module", "list", kind], standalone_mode=False)
            assert name in capsys.readouterr().out
    del sys.modules["their_module"]


def table() -> dict[str, tuple[str, str]]:
    """By kind, what adding one touches and how a user's own module does it, as CONTRIBUTING says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| (.*?) \| (.*?) ?\|$", text, re.MULTILINE)
    return {kind: (touches, decorator) for kind, touches, decorator in rows if kind != "One"}


def test_what_adding_one_touches_is_where_it_says() -> None:
    rows = table()
    assert len(rows) >= 15
    for kind, (touches, _) in rows.items():
        for path in re.findall(r"`([\w/]+(?:/|\.py))`", touches):
            nested = [place / path for place in (ROOT / "src/hardy", *(ROOT / "src/hardy").glob("*/"))]
            assert any(place.exists() for place in nested), f"{kind}: there is no {path}"


def test_every_decorator_that_is_named_is_used_here() -> None:
    named = {decorator.strip("`") for _, decorator in table().values() if decorator.strip()}
    assert len(named) == 8
    assert [name for name in sorted(named) if name not in MODULE] == []
