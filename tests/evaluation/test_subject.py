"""Subjects: what can be loaded, and what each failure says."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.classifiers import TINY, write_tiny_data
from safetensors.torch import load_file, save_file
from torch import nn

from hardy.errors import ContractError, RunError, UsageError
from hardy.evaluation.subject import load_subject
from hardy.models.weights import weights_sha256
from hardy.training import train

MODULE = """
import torch
from torch import nn

torch.manual_seed(0)
instance = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.head = nn.Linear(4, classes)


class nested:
    inner = instance


def needs_an_argument(width):
    return nn.Linear(width, 2)


def fails():
    raise RuntimeError("out of luck")


def returns_a_number():
    return 7


number = 7
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module ``mine`` in it."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import a_module_that_is_nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subjects")
    train(TINY, folder / "run", data=str(write_tiny_data(folder)), device="cpu")
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be broken."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in trained.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize("attribute", ["instance", "build", "Net", "nested.inner"])
def test_a_module_or_what_makes_one_can_be_measured(here: Path, attribute: str) -> None:
    subject = load_subject(f"mine:{attribute}")
    assert isinstance(subject.classifier, nn.Module)
    assert subject.name == f"mine:{attribute}"
    assert subject.weights_sha256 == weights_sha256(subject.classifier)
    assert subject.training is None
    assert subject.run is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:build", "cannot import 'nowhere'.*ModuleNotFoundError"),
        ("broken:build", "cannot import 'broken'.*a_module_that_is_nowhere"),
        ("mine:missing", "module 'mine' has no 'missing'"),
        ("mine:", "module 'mine' has no ''"),
        ("mine:nested.missing", r"module 'mine' has no 'nested\.missing'"),
        ("mine:number", "'mine:number' is int, neither an nn.Module nor a callable"),
        ("mine:fails", r"calling 'mine:fails\(\)' failed: RuntimeError: out of luck"),
        ("mine:needs_an_argument", "failed: TypeError.*width"),
        ("mine:returns_a_number", r"'mine:returns_a_number\(\)' returned int"),
        ("mine", "neither the folder of a run or a bundle, nor"),
        (":build", "cannot import ''"),
    ],
)
def test_what_is_no_classifier_is_refused_by_name(here: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_subject(name)


def test_a_folder_that_is_no_run_is_named(here: Path) -> None:
    with pytest.raises(UsageError, match=r"has no run\.json"):
        load_subject(str(here))


def test_weights_are_loaded(here: Path) -> None:
    wanted = {"1.weight": torch.randn(2, 4), "1.bias": torch.randn(2)}
    save_file(wanted, here / "weights.safetensors")
    subject = load_subject("mine:build", here / "weights.safetensors")
    assert all(torch.equal(wanted[name], value) for name, value in subject.classifier.state_dict().items())
    assert subject.weights_sha256 == weights_sha256(subject.classifier)


def test_weights_that_do_not_fit_are_listed(here: Path) -> None:
    save_file({"1.weight": torch.zeros(4, 2), "extra": torch.zeros(1)}, here / "weights.safetensors")
    with pytest.raises(ContractError) as caught:
        load_subject("mine:build", here / "weights.safetensors")
    for problem in ("'1.bias' is missing", "'extra' belongs nowhere", "'1.weight' has shape (4, 2) instead of (2, 4)"):
        assert problem in str(caught.value)


def test_a_long_list_of_misfits_is_cut(here: Path) -> None:
    save_file({f"extra{number}": torch.zeros(1) for number in range(10)}, here / "weights.safetensors")
    with pytest.raises(ContractError, match="; and 8 more"):
        load_subject("mine:build", here / "weights.safetensors")


def test_pickled_weights_are_refused_unread_with_a_remedy(here: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (here / "sprung",))

    (here / "weights.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match=r"can run code: convert them with safetensors\.torch\.save_file"):
        load_subject("mine:build", here / "weights.pt")
    assert not (here / "sprung").exists()
    torch.save({"1.weight": torch.zeros(2, 4), "1.bias": torch.zeros(2)}, here / "weights.pt")
    with pytest.raises(UsageError, match=r"safetensors\.torch\.save_file"):
        load_subject("mine:build", here / "weights.pt")


@pytest.mark.parametrize("kept", [0, 5, -4])
def test_truncated_weights_are_refused(here: Path, kept: int) -> None:
    path = here / "weights.safetensors"
    save_file({"1.weight": torch.zeros(2, 4), "1.bias": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UsageError, match="not a readable safetensors file"):
        load_subject("mine:build", path)


def test_missing_weights_are_named(here: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights at .*gone"):
        load_subject("mine:build", here / "gone.safetensors")


def test_a_folder_is_no_weights_file(here: Path) -> None:
    with pytest.raises(UsageError, match="not a readable safetensors file"):
        load_subject("mine:build", here)


def test_a_run_is_loaded_with_what_it_was_trained_to(trained: Path) -> None:
    subject = load_subject(str(trained))
    weights = load_file(trained / "weights.safetensors")
    state = subject.classifier.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert subject.name == "tiny"
    assert subject.run == trained
    assert subject.training is not None
    assert subject.training["recipe"]["name"] == "tiny"


def test_a_run_takes_no_other_weights(run: Path) -> None:
    with pytest.raises(UsageError, match="leave out --weights"):
        load_subject(str(run), run / "weights.safetensors")


def change_manifest(run: Path, change) -> None:
    manifest = json.loads((run / "run.json").read_text())
    change(manifest)
    (run / "run.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["training"].update(status="training"), "not finished; go on with .*--resume"),
        (lambda found: found.pop("model"), "no classifier of its own"),
        (lambda found: found.update(schema=99), "schema 99.*upgrade"),
        (lambda found: found.pop("schema"), "names no schema"),
    ],
)
def test_a_run_that_holds_no_trained_classifier_is_refused(run: Path, change, message: str) -> None:
    change_manifest(run, change)
    with pytest.raises(RunError, match=message):
        load_subject(str(run))


def test_a_damaged_manifest_is_named(run: Path) -> None:
    (run / "run.json").write_text('{"schema": 1, "mod')
    with pytest.raises(RunError, match=r"cannot read .*run\.json"):
        load_subject(str(run))


def test_altered_weights_are_refused(run: Path) -> None:
    path = run / "weights.safetensors"
    weights = load_file(path)
    weights["head.bias"] = weights["head.bias"] + 1
    save_file(weights, path)
    with pytest.raises(RunError, match="is not what was trained"):
        load_subject(str(run))


def test_missing_weights_of_a_run_are_named(run: Path) -> None:
    (run / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights\.safetensors is missing"):
        load_subject(str(run))


def test_the_hash_of_weights_sees_names_shapes_types_and_values() -> None:
    def hash_of(**buffers: torch.Tensor) -> str:
        module = nn.Module()
        for name, value in buffers.items():
            module.register_buffer(name, value)
        return weights_sha256(module)

    values = torch.arange(6.0)
    hashes = [
        hash_of(a=values),
        hash_of(b=values),
        hash_of(a=values.reshape(2, 3)),
        hash_of(a=values.double()),
        hash_of(a=-values),
        hash_of(a=values.flip(0)),
        hash_of(a=values[:3], b=values[3:]),
        hash_of(a=values, flag=torch.tensor(True), scalar=torch.tensor(1.0), empty=torch.empty(0)),
        hash_of(a=values.bfloat16()),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(b=values, a=-values) == hash_of(a=-values, b=values)
    assert hash_of(a=torch.stack([values, values], 1)[:, 0]) == hash_of(a=values)
