"""Checkpoints: what is put back is what was taken, so that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hardy.errors import HardyError, RunError
from hardy.training import Fitted, Objective, Recipe, Split, Stopped, Update, Weight, fit, loop
from hardy.training.checkpoint import load_tensors, optimizer_tensors, restore_optimizer, save_tensors
from hardy.training.optimization import make_optimizer

replace = dataclasses.replace
CLEAN = Objective("cross_entropy")
EAT = {"steps": 1, "linf": 0.1, "l2": 1.0, "l1": 3.0}
LINF = {"eps": 0.1, "steps": 1, "step_size": 0.1}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "adversarial": LINF,
    "free": {"eps": 0.1, "replays": 3},
    "trades": LINF | {"beta": 1.0, "ramp": 0.3},
    "mart": LINF | {"beta": 1.0},
    **dict.fromkeys(("eat", "worst_norm", "mean_norm", "msd"), EAT),
}
BESIDE: dict[str, dict[str, Any]] = {
    "consistency": {},
    "exposure": {"source": "synthetic:noise"},
    "energy_margin": {"source": "synthetic:noise", "eps": 0.1, "steps": 1},
}
GROUPS = {
    "model": {"a": torch.arange(3), "b.c/d": torch.ones(2, 2, dtype=torch.bfloat16)},
    "best": {"a": torch.pi * torch.ones(())},
}


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As on a full disk: writing more than ``size`` bytes to a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stopping_at(calls: int) -> Any:
    """A ``stop`` that says so when it is asked for the so-manieth time."""
    asked = iter(range(1, calls + 1))
    return lambda: next(asked, calls) == calls


def interrupted(recipe: Recipe, train: Split, validation: Split, path: Path, *steps: int) -> Fitted:
    """Train, stopped after each of so many steps since the start or the last stop."""
    for count in steps:
        with pytest.raises(Stopped):
            fit(recipe, train, validation, 10, seed=5, checkpoint=path, stop=stopping_at(count))
    return fit(recipe, train, validation, 10, seed=5, checkpoint=path)


def test_a_kill_within_an_epoch_costs_what_came_after_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Recipe, some_digits: Split, validation_digits: Split
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    path = tmp_path / "checkpoint"
    asked = iter(range(7))

    def killed() -> bool:
        if next(asked) == 6:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fit(quick, some_digits, validation_digits, 10, seed=5, checkpoint=path, stop=killed)
    assert load_tensors(path)[1]["step"] == 6
    resumed = fit(quick, some_digits, validation_digits, 10, seed=5, checkpoint=path)
    whole = fit(quick, some_digits, validation_digits, 10, seed=5)
    assert all(torch.equal(resumed.weights[name], it) for name, it in whole.weights.items())


def test_tensors_and_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    facts = {"step": 3, "seed": 2**64 - 1, "accuracy": 0.1, "history": [{"loss": 1e-30}]}
    save_tensors(tmp_path / "file", GROUPS, facts)
    groups, found = load_tensors(tmp_path / "file")
    assert found == facts
    assert groups.keys() == GROUPS.keys()
    for group, members in GROUPS.items():
        assert groups[group].keys() == members.keys()
        for name, value in members.items():
            assert groups[group][name].dtype == value.dtype
            assert torch.equal(groups[group][name], value)


def test_tensors_that_share_memory_or_lie_otherwise_are_kept(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    save_tensors(tmp_path / "file", {"a": {"x": image, "t": image.transpose(0, 1)}, "b": {"x": image}}, {})
    groups, _ = load_tensors(tmp_path / "file")
    assert torch.equal(groups["a"]["x"], image)
    assert torch.equal(groups["b"]["x"], image)
    assert torch.equal(groups["a"]["t"], image.transpose(0, 1))


def test_a_checkpoint_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(RunError, match=f"no checkpoint at {path}"):
        load_tensors(path)
    save_tensors(path, GROUPS, {})
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], b"\xff" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=f"the checkpoint {path} is damaged .*remove it"):
            load_tensors(path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_tensors(path, GROUPS, {"step": 1})
    with no_file_above(2000), pytest.raises(HardyError, match=f"cannot write {path}: "):
        save_tensors(path, {"model": {"a": torch.zeros(10_000)}}, {"step": 2})
    assert load_tensors(path)[1] == {"step": 1}
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_restored_optimiser_takes_the_same_next_step(tmp_path: Path, optimizer: Any) -> None:
    recipe = Recipe("test", "", optimizer=optimizer, learning_rate=0.1)
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    twin = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, second = make_optimizer(model, recipe), make_optimizer(twin, recipe)

    def step(network: nn.Module, stepper: torch.optim.Optimizer, seed: int) -> None:
        stepper.zero_grad()
        images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        network(images).square().sum().backward()
        stepper.step()

    for seed in range(3):
        step(model, first, seed)
    twin.load_state_dict(model.state_dict())
    save_tensors(tmp_path / "file", {"optimizer": optimizer_tensors(first)}, {})
    restore_optimizer(second, load_tensors(tmp_path / "file")[0]["optimizer"])
    step(model, first, 9)
    step(twin, second, 9)
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"averaging": 0.0, "gradient_clip": 1.0},
        {"optimizer": "adam", "schedule": "exponential"},
        {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "cosine"},
        {"model": "cnn", "model_arguments": {}},
        {"precision": "bf16"},
        *({"objectives": (Objective(loss, settings),)} for loss, settings in OBJECTIVES.items()),
        *({"objectives": (CLEAN, Objective(loss, settings, Weight(0.5)))} for loss, settings in BESIDE.items()),
        {"objectives": (replace(CLEAN, weight=Weight(steps=((1, 0.9), (1, 0.5)))), Objective("eat", EAT))},
    ],
    ids=["adamw", "no averaging", "adam", "sgd", "dropout", "bf16", *OBJECTIVES, *BESIDE, "two objectives"],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    quick: Recipe,
    some_digits: Split,
    validation_digits: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    monkeypatch.setattr("hardy.training.outliers.MADE", 50)
    # The searches of adversarial objectives take longer, and need no more images to differ.
    size = 10 if "objectives" in changes else 100
    recipe = replace(quick, batch_size=size, **changes)
    train = Split(some_digits.images[: 10 * size], some_digits.labels[: 10 * size])
    validation_digits = Split(validation_digits.images[: 5 * size], validation_digits.labels[: 5 * size])
    undisturbed = fit(recipe, train, validation_digits, 10, seed=5, checkpoint=tmp_path / "undisturbed")
    # In the first epoch, at its end, and twice in the second: 20 steps in all.
    resumed = interrupted(recipe, train, validation_digits, tmp_path / "resumed", 4, 6, 3, 1)
    assert resumed.history == undisturbed.history
    assert resumed.accuracy == undisturbed.accuracy
    assert resumed.weights.keys() == undisturbed.weights.keys()
    assert all(torch.equal(value, undisturbed.weights[name]) for name, value in resumed.weights.items())
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "undisturbed").read_bytes()


def test_a_finished_training_is_given_back(
    quick: Recipe, quickly_fitted: Fitted, some_digits: Split, validation_digits: Split, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    fit(quick, some_digits, validation_digits, 10, seed=0, checkpoint=path)
    updates: list[Update] = []
    again = fit(quick, some_digits, validation_digits, 10, seed=0, checkpoint=path, report=updates.append)
    assert updates == []
    assert again.history == quickly_fitted.history
    assert all(torch.equal(value, again.weights[name]) for name, value in quickly_fitted.weights.items())


def test_a_checkpoint_of_something_else_is_refused(
    quick: Recipe, some_digits: Split, validation_digits: Split, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    fewer = Split(some_digits.images[:1500], some_digits.labels[:1500])
    with pytest.raises(Stopped):
        fit(quick, some_digits, validation_digits, 10, seed=0, checkpoint=path, stop=lambda: True)
    kept = path.read_bytes()
    for other, train, seed, what in (
        (replace(quick, epochs=3), some_digits, 0, "recipe"),
        (quick, some_digits, 1, "seed"),
        (quick, fewer, 0, "number of images"),
    ):
        with pytest.raises(RunError, match=f"the checkpoint {path} is of another {what}; resume with the same"):
            fit(other, train, validation_digits, 10, seed=seed, checkpoint=path)
    assert path.read_bytes() == kept


def test_another_machines_precision_is_refused(
    quick: Recipe, some_digits: Split, validation_digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recipe = tmp_path / "checkpoint", replace(quick, precision="auto")
    for native, outcome in ((False, Stopped), (True, RunError)):
        monkeypatch.setattr("hardy.training.loop.native_bf16", lambda _device, native=native: native)
        with pytest.raises(outcome):
            fit(recipe, some_digits, validation_digits, 10, seed=0, checkpoint=path, stop=lambda: True)
