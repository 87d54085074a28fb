"""Exposure to outliers: where they come from, which are refused, what the losses are, and what is said to be seen."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.classifiers import TINY, seeded_linear, write_tiny_data
from torch import nn

from hardy.data import load_dataset
from hardy.errors import UsageError
from hardy.models import Compact
from hardy.rng import Randomness
from hardy.synthetic.outliers import OUTLIERS
from hardy.training import Batch, Objective, Recipe, Split, Weight, fit, train
from hardy.training.losses import consistency, energy_margin, exposure
from hardy.training.outliers import check_source, drawn_outliers, outliers_of
from hardy.training.seen import seen_in_training

replace = dataclasses.replace
DIGITS = torch.zeros(30, 1, 28, 28, dtype=torch.uint8)
EXPOSED = (Objective("cross_entropy"), Objective("exposure", {"source": "synthetic:strokes,noise"}, Weight(0.5)))


def batch(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images, outliers = (torch.rand(count, 1, 6, 6, generator=generator) for _ in range(2))
    return Batch(images, torch.arange(count) % 3, Randomness(0, torch.arange(count)), 1.0, outliers)


def save(path: Path, images: np.ndarray) -> str:
    np.savez(path, images=images, labels=np.zeros(len(images), np.int64), classes=np.array(["outlier"]))
    return str(path)


def test_exposure_is_zero_for_a_uniform_answer_and_else_the_divergence_from_it() -> None:
    model, given = seeded_linear(3, 6), batch()
    assert given.outliers is not None
    answer = model(given.outliers).log_softmax(1)
    expected = (torch.full((6, 3), 1 / 3) * (math.log(1 / 3) - answer)).sum(1).mean()
    torch.testing.assert_close(exposure(model, given, source=""), expected)
    flat = seeded_linear(3, 6)
    nn.init.zeros_(flat.weight)
    nn.init.constant_(flat.bias, 4.0)
    assert float(exposure(flat, given, source="").detach()) == pytest.approx(0.0, abs=1e-6)


def test_outliers_that_are_moved_are_worse_and_stay_in_the_ball() -> None:
    model, given = seeded_linear(3, 6), batch()
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _model, inputs, _output: seen.append(inputs[0].detach()))
    still = exposure(model, given, source="")
    moved = exposure(model, given, source="", eps=0.1, steps=5, step_size=0.05)
    assert float(moved.detach()) > float(still.detach())
    assert given.outliers is not None
    assert float((seen[-1][6:] - given.outliers).abs().max()) == pytest.approx(0.1, abs=1e-6)
    assert torch.equal(seen[-1][:6], given.images)


def test_the_energy_margin_asks_nothing_of_what_is_beyond_it() -> None:
    model, given = seeded_linear(3, 6), batch()
    assert given.outliers is not None
    clean, strange = (model(images).logsumexp(1).detach() for images in (given.images, given.outliers))
    found = energy_margin(model, given, source="", least=5.0, most=1.0)
    expected = (5.0 - clean).clamp_min(0).square().mean() + (strange - 1.0).clamp_min(0).square().mean()
    torch.testing.assert_close(found, expected)
    low, high = float(clean.min()) - 1, float(strange.max()) + 1
    assert float(energy_margin(model, given, source="", least=low, most=high).detach()) == 0.0


def test_consistency_is_the_jensen_shannon_divergence_of_the_views() -> None:
    model, given = seeded_linear(3, 6), batch()
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _model, inputs, _output: seen.append(inputs[0].detach()))
    found = consistency(model, given, severity=3.0, views=2)
    views = seen[-1].unflatten(0, (3, 6))
    assert torch.equal(views[0], given.images)
    assert not torch.equal(views[1], views[2])
    answers = torch.stack([model(view) for view in views]).softmax(2).double()
    mean = answers.mean(0)
    expected = (mean * -mean.log()).sum(1).mean() - (answers * -answers.log()).sum(2).mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)
    assert float(consistency(model, given, severity=0.0).detach()) == pytest.approx(0.0, abs=1e-2)


def test_synthetic_outliers_are_a_function_of_the_seed_and_of_named_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardy.training.outliers.MADE", 40)
    first, again, other = (outliers_of("synthetic:textures", DIGITS, seed) for seed in (0, 0, 1))
    assert first.shape == (40, 1, 28, 28)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    rng = Randomness(0, torch.arange(500), ("training", 0))
    drawn = drawn_outliers(torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1), rng)
    assert set((drawn * 255).round().flatten().tolist()) == {0.0, 1.0, 2.0}


def test_outliers_that_are_measured_on_are_refused_by_their_pixels(tmp_path: Path) -> None:
    test = load_dataset("mnist/test").images[:5, 0].numpy()
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    fine = save(tmp_path / "fine.npz", noise)
    check_source(fine, DIGITS)
    taken = save(tmp_path / "taken.npz", np.concatenate([noise, test]))
    with pytest.raises(UsageError, match=r"5 of the 25 different images in .* are in mnist/test, which is measured on"):
        check_source(taken, DIGITS)
    floats = save(tmp_path / "floats.npz", test.astype(np.float32) / 255)
    with pytest.raises(UsageError, match="5 of the 5 different images"):
        check_source(floats, DIGITS)
    with pytest.raises(UsageError, match="in glyphs/test, which is measured on"):
        check_source("glyphs/test", DIGITS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "exposure without outliers: source names none"),
        ("synthetic:storkes", "unknown family of outliers 'storkes'; did you mean strokes"),
        ("fashion-mnst/train", "unknown dataset 'fashion-mnst'"),
        ("fashion-mnist", "names no split"),
    ],
)
def test_sources_that_are_none_are_refused(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_source(source, DIGITS)


def test_outliers_of_another_shape_are_refused_before_anything_is_trained(
    quick: Recipe, some_digits: Split, tmp_path: Path
) -> None:
    source = save(tmp_path / "small.npz", np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8))
    recipe = replace(quick, objectives=(Objective("cross_entropy"), Objective("exposure", {"source": source})))
    with pytest.raises(UsageError, match=r"have the shape \(1, 8, 8\), and the training images \(1, 28, 28\)"):
        fit(recipe, some_digits, some_digits, 10, seed=0)


def test_what_training_saw_is_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardy.training.outliers.MADE", 40)
    data = str(write_tiny_data(tmp_path))
    recipe = replace(
        TINY, objectives=EXPOSED, augmentation={"one_of": {"shear": {"degrees": 3.0}, "blur": {"deviation": 1.0}}}
    )
    run = train(recipe, tmp_path / "run", data=data)
    assert run.manifest["training"]["seen"] == {
        "datasets": {f"{data}/train": load_dataset(f"{data}/train").sha256},
        "outlier_families": ["noise", "strokes"],
        "augmentations": ["blur", "shear"],
    }
    fine = save(tmp_path / "fine.npz", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    pair = Recipe("pair", "", members=(recipe, replace(TINY, objectives=(Objective("exposure", {"source": fine}),))))
    assert seen_in_training(pair, data)["datasets"].keys() == {f"{data}/train", fine}
    every = replace(TINY, objectives=(Objective("exposure", {"source": "synthetic"}),))
    assert seen_in_training(every, data)["outlier_families"] == sorted(OUTLIERS)


def test_exposure_makes_outliers_unsure(some_digits: Split, validation_digits: Split, quick: Recipe) -> None:
    confidence = []
    outliers = outliers_of("synthetic:noise", some_digits.images[:100], 9)[:100].float() / 255
    for objectives in (
        (Objective("cross_entropy"),),
        (EXPOSED[0], Objective("exposure", {"source": "synthetic:noise"})),
    ):
        fitted = fit(replace(quick, objectives=objectives), some_digits, validation_digits, 10, seed=0)
        model = Compact(width=8).eval()
        model.load_state_dict(fitted.weights)
        with torch.no_grad():
            confidence.append(float(model(outliers).softmax(1).amax(1).mean()))
        assert fitted.accuracy > 0.85
    assert confidence[1] < confidence[0] - 0.2
