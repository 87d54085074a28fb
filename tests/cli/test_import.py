"""Things of the user's own: registered in a module of theirs, named by ``--import``, and used by every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.classifiers import write_tiny_data


class Own(NamedTuple):
    """One thing of each kind: what ``hardy list`` calls the kind, and the code that registers it."""

    kind: str
    code: str


OWN = (
    Own(
        "attacks",
        """
@hardy.attacks.register(title="my shade", norms=("linf",), reference="my notes", name="mine")
def shade(classifier, images, labels, threat, *, rng, tries=1):
    return images + threat.eps
""",
    ),
    Own(
        "scores",
        """
@hardy.ood.register(name="mine", title="my score")
def smallest_logit(arrays, features):
    return features.logits.min(axis=1).astype(float)
""",
    ),
    Own(
        "corruptions",
        """
@hardy.corruptions.register(name="mine", severities=[{"factor": 0.5}])
def dim(images, rng, *, factor):
    '''My darkness.'''
    return factor * images
""",
    ),
    Own(
        "losses",
        """
@hardy.training.register_loss("mine")
def cross_entropy(model, batch):
    '''My loss.'''
    return torch.nn.functional.cross_entropy(model(batch.images), batch.targets)
""",
    ),
    Own(
        "recipes",
        """
hardy.training.register_recipe(hardy.training.Recipe(
    "mine", "my recipe", objectives=(hardy.training.Objective("mine"),), model_arguments={"width": 2, "size": 8},
    batch_size=16, epochs=4, learning_rate=0.03,
))
""",
    ),
    Own(
        "datasets",
        """
@hardy.data.register("mine/test")
def noise():
    return torch.rand(12, 1, 8, 8), torch.arange(12) % 3
""",
    ),
    Own(
        "properties",
        """
from hardy.evaluation.framework import MetricKind, mean_of
from hardy.evaluation.predictions import predictions_of, test_measurement

@hardy.evaluation.register_property("mine", title="Mine", description="How sure the answers are.")
def metrics(results):
    answers = predictions_of(results, test_measurement(results.context))
    return [mean_of(MetricKind.share("confidence", "Confidence", None), answers.confidence, answers.examples)]
""",
    ),
)
PROGRAM = """
import json, sys
from hardy.cli.main import main
for call in json.loads(sys.argv[1]):
    sys.argv = ["hardy", *call]
    main()
    print("\\0")
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the user's module in it, and data."""
    code = "import torch\nimport hardy\n" + "".join(own.code for own in OWN)
    (tmp_path / "my_things.py").write_text(code)
    write_tiny_data(tmp_path)
    return tmp_path


def called(here: Path, *calls: list[str], **variables: str) -> list[str]:
    """What each call prints, all in one process, started in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        cwd=here,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[:-1]


def test_every_kind_of_the_users_own_is_listed(here: Path) -> None:
    calls = [["--import", "my_things", "list", own.kind, "--json"] for own in OWN]
    for own, out in zip(OWN, called(here, *calls), strict=True):
        assert json.loads(out)["mine"], own.kind


def test_the_users_own_things_are_trained_measured_and_attacked_with(here: Path) -> None:
    small = ["--data", "tiny.npz", "--device", "cpu"]
    trained, measured, attacked, elsewhere = called(
        here,
        ["train", "mine", "--out", "run", *small],
        ["evaluate", "run", "--property", "mine", "--json", *small],
        ["attack", "run", "--attack", "mine", "--eps", "0.1", "--out", "attacked.safetensors", "--json", *small],
        ["evaluate", "run", "--data", "mine", "--out", "other", "--property", "accuracy", "--json"],
        HARDY_IMPORT="my_things",
    )
    assert "validation accuracy" in trained
    (estimate,) = json.loads(measured)["estimates"]
    assert (estimate["property"], estimate["metric"], estimate["dataset"]) == ("mine", "confidence", "tiny.npz/test")
    assert json.loads(attacked)["found_by"].keys() == {"mine"}
    assert {it["dataset"] for it in json.loads(elsewhere)["estimates"]} == {"mine/test"}


def test_a_module_that_does_not_import_is_named(here: Path) -> None:
    (here / "broken.py").write_text("import a_module_that_is_nowhere")
    for module, message in (("broken", "a_module_that_is_nowhere"), ("nowhere", "No module named 'nowhere'")):
        call = [sys.executable, "-m", "hardy", "--import", module, "list", "recipes"]
        done = subprocess.run(call, cwd=here, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"hardy: cannot import '{module}': ")
        assert message in done.stderr
