"""Things of the user's own: registered in a module of theirs, named by ``--import``, and used by every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.classifiers import write_tiny_data


class Own(NamedTuple):
    """One thing of each kind: what ``hardy list`` calls the kind, what registers it, and the code that does so."""

    kind: str
    register: str
    code: str


OWN = (
    Own(
        "attacks",
        "hardy.attacks:register",
        """
@hardy.attacks.register(title="my shade", norms=("linf",), reference="my notes", name="mine")
def shade(classifier, images, labels, threat, *, rng, tries=1):
    return images + threat.eps
""",
    ),
    Own(
        "scores",
        "hardy.ood:register",
        """
@hardy.ood.register(name="mine", title="my score")
def smallest_logit(arrays, features):
    return features.logits.min(axis=1).astype(float)
""",
    ),
    Own(
        "corruptions",
        "hardy.corruptions:register",
        """
@hardy.corruptions.register(name="mine", severities=[{"factor": 0.5}])
def dim(images, rng, *, factor):
    '''My darkness.'''
    return factor * images
""",
    ),
    Own(
        "losses",
        "hardy.training:register_loss",
        """
@hardy.training.register_loss("mine")
def cross_entropy(model, batch):
    '''My loss.'''
    return torch.nn.functional.cross_entropy(model(batch.images), batch.targets)
""",
    ),
    Own(
        "recipes",
        "hardy.training:register_recipe",
        """
hardy.training.register_recipe(hardy.training.Recipe(
    "mine", "my recipe", loss="mine", model_arguments={"width": 2, "size": 8}, batch_size=16, epochs=4,
    learning_rate=0.03,
))
""",
    ),
    Own(
        "datasets",
        "hardy.data:register",
        """
@hardy.data.register("mine/test")
def noise():
    return torch.rand(12, 1, 8, 8), torch.arange(12) % 3
""",
    ),
    Own(
        "properties",
        "hardy.evaluation:register_property",
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


def there(own: Own) -> bool:
    module, _, name = own.register.partition(":")
    return hasattr(import_module(module), name)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the user's module in it, and data."""
    code = "import torch\nimport hardy\n" + "".join(own.code for own in OWN if there(own))
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
    kinds = [own.kind for own in OWN if there(own)]
    assert {"losses", "recipes"} <= set(kinds)
    calls = [["--import", "my_things", "list", kind, "--json"] for kind in kinds]
    for kind, out in zip(kinds, called(here, *calls), strict=True):
        assert json.loads(out)["mine"], kind


def test_the_users_own_things_are_trained_measured_and_attacked_with(here: Path) -> None:
    at_hand = {own.kind for own in OWN if there(own)}
    small: list[str] = ["--data", "tiny.npz", "--device", "cpu"]
    calls = [["train", "mine", "--out", "run", *small]]
    if "properties" in at_hand:
        calls.append(["evaluate", "run", "--property", "mine", "--json", *small])
    if "attacks" in at_hand:
        out = ["--out", "images.safetensors"]
        calls.append(["attack", "run", "--attack", "mine", "--eps", "0.1", *out, "--json", *small])
    if "datasets" in at_hand:
        calls.append(["evaluate", "run", "--data", "mine", "--out", "other", "--property", "accuracy", "--json"])
    outs = called(here, *calls, HARDY_IMPORT="my_things")
    assert "validation accuracy" in outs[0]
    found: list[dict[str, Any]] = [json.loads(out) for out in outs[1:]]
    for call, answer in zip(calls[1:], found, strict=True):
        if call[0] == "attack":
            assert answer["found_by"].keys() == {"mine"}
        elif "mine" in call[2:4]:
            assert answer["estimates"][0]["dataset"] in ("tiny.npz/test", "mine/test")


def test_a_module_that_does_not_import_is_named(here: Path) -> None:
    (here / "broken.py").write_text("import a_module_that_is_nowhere")
    for module, message in (("broken", "a_module_that_is_nowhere"), ("nowhere", "No module named 'nowhere'")):
        call = [sys.executable, "-m", "hardy", "--import", module, "list", "recipes"]
        done = subprocess.run(call, cwd=here, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"hardy: cannot import '{module}': ")
        assert message in done.stderr
