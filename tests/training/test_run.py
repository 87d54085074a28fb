"""Training into a run folder: what it holds, and what resuming accepts and clears."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.classifiers import TINY, write_tiny_data
from safetensors.torch import load_file

from hardy.data import load_dataset
from hardy.errors import HardyError, RunError, UsageError
from hardy.files import sha256_of, write_json
from hardy.models import build_model, member_count
from hardy.runs import MANIFEST, Run, load_trained
from hardy.training import RECIPES, Objective, Recipe, Split, Stopped, fit, train, validation_accuracy

replace = dataclasses.replace
PAIR = Recipe("pair", "two of them", members=(replace(TINY, name="first"), replace(TINY, name="second")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_data(tmp_path_factory.mktemp("data")))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def splits(data: str) -> tuple[Split, Split]:
    training, validation = (load_dataset(f"{data}/{split}") for split in ("train", "validation"))
    return Split(training.images, training.labels), Split(validation.images, validation.labels)


def test_a_run_holds_its_weights_and_how_they_came_about(tmp_path: Path, data: str) -> None:
    seen: list[tuple[str, int]] = []
    run = train(
        TINY, tmp_path, seed=3, data=data, device="cpu", report=lambda name, update: seen.append((name, update.step))
    )
    assert names(tmp_path) == [MANIFEST, "weights.safetensors"]
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest == run.manifest
    assert manifest["schema"] == 2
    assert manifest["classes"] == ["0", "1", "2"]
    assert manifest["input"] == [1, 8, 8]
    assert manifest["weights_sha256"] == sha256_of(run.weights)
    training = manifest["training"]
    assert training["recipe"] == TINY.to_dict()
    assert (training["seed"], training["data"], training["status"]) == (3, data, "trained")
    assert training["hashes"] == {
        f"{data}/{split}": load_dataset(f"{data}/{split}").sha256 for split in ("train", "validation")
    }
    assert training["split_indices"].keys() == {"train", "validation"}
    assert training["environment"]["data"] == training["hashes"]
    assert training["environment"]["device"].startswith("cpu")
    assert training["seconds_since_last_resume"] > 0
    (network,) = training["networks"]
    assert network["name"] == "tiny"
    assert len(network["history"]) == TINY.epochs
    assert seen[-1] == ("tiny", TINY.epochs * (360 // TINY.batch_size))

    model = build_model(manifest["model"]["name"], **manifest["model"]["arguments"])
    model.load_state_dict(load_file(run.weights))
    _, validation = splits(data)
    floating = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    precision = torch.autocast("cpu", torch.bfloat16)
    assert network["validation_accuracy"] > 0.9
    assert network["validation_accuracy"] in (
        validation_accuracy(model, floating, validation),
        validation_accuracy(model, floating, validation, precision),
    )


def test_the_folder_may_be_named_by_a_string(tmp_path: Path, data: str) -> None:
    assert train(TINY, str(tmp_path / "run"), data=data, device="cpu").path == tmp_path / "run"
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_the_weights_are_a_function_of_recipe_data_and_seed(tmp_path: Path, data: str) -> None:
    weights = [
        train(TINY, tmp_path / str(number), seed=seed, data=data).weights.read_bytes()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_an_ensembles_members_are_trained_each_from_its_own_seed(tmp_path: Path, data: str) -> None:
    run = train(PAIR, tmp_path, data=data)
    weights = load_file(run.weights)
    build_model("ensemble", members=run.manifest["model"]["arguments"]["members"]).load_state_dict(weights)
    first, second = weights["members.0.head.weight"], weights["members.1.head.weight"]
    assert not torch.equal(first, second)
    assert [network["name"] for network in run.manifest["training"]["networks"]] == ["first", "second"]
    alone = fit(TINY, *splits(data), 3, seed=0).weights
    assert not torch.equal(alone["head.weight"], first)
    assert names(tmp_path) == [MANIFEST, "weights.safetensors"]


def test_a_finished_run_is_given_back_and_not_trained_again(tmp_path: Path, data: str) -> None:
    run = train(TINY, tmp_path, data=data)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    # As if the kill had come right before the checkpoints were removed.
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0.safetensors").write_text("")
    again = train(TINY, tmp_path, data=data, resume=True, report=lambda *_: pytest.fail("trained again"))
    assert again.manifest == run.manifest
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    with pytest.raises(RunError, match="already holds a run; go on with it by --resume"):
        train(TINY, tmp_path, data=data)


def test_resuming_with_anything_else_is_refused(tmp_path: Path, data: str) -> None:
    train(TINY, tmp_path / "run", data=data)
    before = (tmp_path / "run" / MANIFEST).read_bytes()
    other_data = tmp_path / "other.npz"
    other_data.write_bytes(Path(data).read_bytes())
    for what, recipe, seed, path in (
        ("recipe", replace(TINY, epochs=5), 0, data),
        ("seed", TINY, 1, data),
        ("data", TINY, 0, str(other_data)),
    ):
        with pytest.raises(RunError, match=f"was trained with another {what}; resume with the same"):
            train(recipe, tmp_path / "run", seed=seed, data=path, resume=True)
    assert (tmp_path / "run" / MANIFEST).read_bytes() == before


def test_data_that_has_changed_under_its_name_is_noticed(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path)
    train(TINY, tmp_path / "run", data=str(data))
    with np.load(data) as file:
        arrays = dict(file)
    arrays["train_labels"] = 2 - arrays["train_labels"]
    np.savez(data, **arrays)
    with pytest.raises(RunError, match="was trained with another version of the data"):
        train(TINY, tmp_path / "run", data=str(data), resume=True)


def test_an_evaluation_of_something_else_is_no_training_to_resume(tmp_path: Path, data: str) -> None:
    run = Run.create(tmp_path)
    run.manifest["evaluation"] = {}
    run.save()
    with pytest.raises(RunError, match="holds a run that was not trained here"):
        train(TINY, tmp_path, data=data, resume=True)


@pytest.mark.parametrize(
    ("recipe", "arguments"),
    [
        (replace(TINY, objectives=(Objective("none"),)), {}),
        (replace(TINY, model_arguments={"width": 2, "size": 16}), {}),
        (replace(TINY, batch_size=361), {}),
        (replace(PAIR, members=(TINY, replace(TINY, model="no"))), {}),
        (TINY, {"device": "no"}),
        (TINY, {"data": "no"}),
    ],
    ids=["loss", "image size", "batch", "second member", "device", "data"],
)
def test_a_wrong_call_leaves_no_folder(tmp_path: Path, data: str, recipe: Recipe, arguments: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"data": data} | arguments
    with pytest.raises(UsageError):
        train(recipe, tmp_path / "run", **settings)
    assert names(tmp_path) == []


def test_a_collapse_is_no_finished_run(tmp_path: Path, data: str) -> None:
    with pytest.raises(HardyError, match="has collapsed"):
        train(replace(TINY, learning_rate=100.0, optimizer="sgd", schedule="constant"), tmp_path, data=data)
    assert Run.open(tmp_path).manifest["training"]["status"] == "training"
    assert not (tmp_path / "weights.safetensors").exists()


def test_what_an_interrupted_training_left_is_cleared_when_it_is_done(tmp_path: Path, data: str) -> None:
    undisturbed = train(PAIR, tmp_path / "undisturbed", data=data)
    out = tmp_path / "run"

    def interrupt(network: str, _update: Any) -> None:
        if network == "second":
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match=r"of 'second'; go on with --resume"):
        train(PAIR, out, data=data, report=interrupt)
    assert names(out) == ["checkpoints", MANIFEST]
    assert names(out / "checkpoints") == ["0.safetensors", "1.safetensors"]
    for half in (
        out / ".run.json.1.part",
        out / ".weights.safetensors.1.part",
        out / "checkpoints" / ".1.safetensors.1.part",
    ):
        half.write_text("half")
    networks: set[str] = set()
    run = train(PAIR, out, data=data, resume=True, report=lambda network, _update: networks.add(network))
    assert networks == {"second"}
    assert names(out) == [MANIFEST, "weights.safetensors"]
    assert run.weights.read_bytes() == undisturbed.weights.read_bytes()
    for key in ("weights_sha256", "model", "classes"):
        assert run.manifest[key] == undisturbed.manifest[key]
    assert run.manifest["training"]["networks"] == undisturbed.manifest["training"]["networks"]


def test_other_entries_of_the_manifest_stay_when_training_goes_on(tmp_path: Path, data: str) -> None:
    run = train(TINY, tmp_path, data=data)
    run.manifest["training"]["status"] = "training"
    write_json(tmp_path / MANIFEST, run.manifest | {"evaluation": {"seed": 1}})
    again = train(TINY, tmp_path, data=data, resume=True)
    assert again.manifest["evaluation"] == {"seed": 1}
    assert again.manifest["weights_sha256"] == run.manifest["weights_sha256"]


def test_a_recipe_is_named_and_the_folder_is_new_by_default(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES._items, "tiny", TINY)
    runs = [train("tiny", data=data) for _ in range(2)]
    assert [str(run.path) for run in runs] == ["runs/tiny-1", "runs/tiny-2"]
    assert train(TINY, str(tmp_path / "text"), data=data).weights.read_bytes() == runs[0].weights.read_bytes()
    with pytest.raises(UsageError, match="unknown recipe 'tyni'; did you mean tiny"):
        train("tyni", data=data)
    with pytest.raises(UsageError, match="name it as out"):
        train("tiny", data=data, resume=True)


def test_members_that_are_trained_jointly_are_one_network_and_one_run(tmp_path: Path, data: str) -> None:
    whole = replace(TINY, name="whole", members=PAIR.members, joint=True)
    run = train(whole, tmp_path, data=data)
    classifier, _ = load_trained(run.path)
    assert member_count(classifier) == 2
    (network,) = run.manifest["training"]["networks"]
    assert (network["name"], network["notes"]) == ("whole", [])
    _, validation = splits(data)
    assert validation_accuracy(classifier, {}, validation) == pytest.approx(network["validation_accuracy"], abs=0.03)


def test_a_finished_run_whose_recipe_still_had_a_single_loss_is_given_back(tmp_path: Path, data: str) -> None:
    run = train(TINY, tmp_path, data=data)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    stored = manifest["training"]["recipe"]
    del stored["objectives"], stored["joint"]
    write_json(tmp_path / MANIFEST, manifest | {"training": manifest["training"] | {
        "recipe": stored | {"loss": "cross_entropy", "loss_settings": {}}}})  # fmt: skip
    again = train(TINY, tmp_path, data=data, resume=True, report=lambda *_: pytest.fail("trained again"))
    assert again.manifest["weights_sha256"] == run.manifest["weights_sha256"]
    assert load_trained(tmp_path)[1]["training"]["status"] == "trained"
    with pytest.raises(RunError, match="was trained with another recipe"):
        train(replace(TINY, epochs=9), tmp_path, data=data, resume=True)
