"""Attacks without gradients: against closed forms, against hidden gradients, and alone or in company."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.classifiers import Linear, seeded_linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardy.attacks import ATTACKS
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.attacks.objectives import margin
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.training import Split

DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


def streams(count: int, seed: int = 0) -> Randomness:
    return Randomness(seed, torch.arange(count))


def grey(count: int, side: int = 8, seed: int = 0) -> Tensor:
    """Images well inside [0, 1]."""
    return 0.4 + 0.2 * torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def linear_problem(count: int, ahead: float) -> tuple[Linear, Tensor, Tensor, Tensor]:
    """A linear classifier of two classes, images around its boundary, labels, and the difference of its weights.

    Class 0 is helped by ``ahead``.
    """
    model, images = seeded_linear(2, 8).requires_grad_(False), grey(count)
    model.bias -= model(images).mean(0) - torch.tensor([ahead, 0.0])
    return model, images, model(images).argmax(1), model.weight[1] - model.weight[0]


@pytest.mark.parametrize(("norm", "eps", "least"), [("linf", 0.01, 0.9999), ("l2", 0.05, 0.7), ("l1", 0.1, 0.6)])
def test_square_reaches_its_share_of_the_worst_margin(norm: Norm, eps: float, least: float) -> None:
    # A patch of one pixel finds the corner of the linf ball; those of l2 and l1 have at least nine pixels.
    model, images, labels, difference = linear_problem(8, ahead=8.0)
    threat = ThreatModel(norm, eps)
    before = margin(model(images), labels)
    found = ATTACKS["square"].function(
        model, images, labels, threat, rng=streams(8), n_queries=2000, p_init=0.8, abort_factor=math.inf
    )
    assert threat.contains(found, images).all()
    gain = eps * torch.linalg.vector_norm(difference, DUAL[norm])
    share = (margin(model(found), labels) - before) / gain
    assert ((share > least) & (share < 1.0001)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hop_skip_jump_comes_within_a_fifth_of_the_smallest_norm(norm: Norm) -> None:
    model, images, labels, difference = linear_problem(8, ahead=0.0)
    smallest = -margin(model(images), labels) / torch.linalg.vector_norm(difference, DUAL[norm])
    result = run_attack(
        model,
        images,
        labels,
        ATTACKS["hop-skip-jump"].with_settings(steps=15),
        [ThreatModel(norm, 8.0)],
        rng=streams(8),
        precision="float32",
    )
    ratio = result.min_norm / smallest
    assert ((ratio > 0.999) & (ratio < 1.2)).all()


class Rounded(nn.Module):
    """Rounds pixels to sixteen levels, as a defence that leaves no gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(torch.round(15 * images) / 15)


def broken(model: nn.Module, digits: Split, attack: Attack, threat: ThreatModel, count: int = 30) -> Tensor:
    images, labels = digits.images[:count] / 255.0, digits.labels[:count]
    result = run_attack(model, images, labels, attack, [threat], rng=streams(count), precision="float32")
    assert threat.contains(result.images, images).all()
    return ((result.min_norm > 0) & (result.min_norm <= threat.eps)).sum()


@pytest.mark.parametrize(
    ("attack", "norm", "eps"),
    [
        (ATTACKS["square"].with_settings(n_queries=500), "linf", 0.18),
        (ATTACKS["square"].with_settings(n_queries=500), "l2", 2.5),
        (ATTACKS["square"].with_settings(n_queries=500), "l1", 25.0),
        (ATTACKS["hop-skip-jump"].with_settings(steps=8), "linf", 0.25),
        (ATTACKS["hop-skip-jump"].with_settings(steps=8), "l2", 2.5),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_hidden_gradient_stops_apgd_only(
    attack: Attack, norm: Norm, eps: float, digit_classifier: nn.Module, validation_digits: Split
) -> None:
    threat = ThreatModel(norm, eps)
    masked = Rounded(digit_classifier)
    assert broken(digit_classifier, validation_digits, ATTACKS["apgd-ce"], threat) >= 15
    for stopped in (ATTACKS["apgd-ce"], ATTACKS["apgd-t"]):
        assert broken(masked, validation_digits, stopped.with_settings(steps=5), threat) <= 5
    assert broken(masked, validation_digits, attack, threat) >= 12


class Labels(nn.Module):
    """Tells the class alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()


def test_hop_skip_jump_needs_the_class_alone(digit_classifier: nn.Module, validation_digits: Split) -> None:
    images, labels = validation_digits.images[:4] / 255.0, validation_digits.labels[:4]
    attack, threats = ATTACKS["hop-skip-jump"].with_settings(steps=3), [ThreatModel("l2", 20.0)]
    told, hidden = (
        run_attack(model, images, labels, attack, threats, rng=streams(4), precision="float32")
        for model in (digit_classifier, Labels(digit_classifier))
    )
    assert told.min_norm.isfinite().all()
    torch.testing.assert_close(hidden.min_norm, told.min_norm)


QUICK = [
    ATTACKS["square"].with_settings(n_queries=30),
    ATTACKS["hop-skip-jump"].with_settings(steps=2, initial_num_evals=10),
]


@settings(max_examples=30, deadline=None)
@given(
    attack=st.sampled_from(QUICK),
    norm=st.sampled_from(["linf", "l2", "l1"]),
    classes=st.sampled_from([2, 3, 4, 10]),
    count=st.integers(0, 5),
    shape=st.sampled_from([(1, 6, 6), (3, 7, 5), (2, 3, 12)]),
    eps=st.floats(0.001, 3.0),
    constant=st.booleans(),
)
def test_whatever_is_attacked_the_result_is_sound(
    attack: Attack, norm: Norm, classes: int, count: int, shape: tuple[int, int, int], eps: float, constant: bool
) -> None:
    if norm not in attack.norms:
        return
    generator = torch.Generator().manual_seed(classes)
    size = (classes, math.prod(shape))
    model = Linear(torch.zeros(size) if constant else torch.randn(size, generator=generator), torch.eye(classes)[0])
    images = torch.randint(0, 3, (count, *shape), generator=generator) / 2.0
    labels = torch.arange(count) % classes
    threat = ThreatModel(norm, eps)
    result = run_attack(model, images, labels, attack, [threat], rng=streams(count), precision="float32")
    assert threat.contains(result.images, images).all()
    success = result.min_norm <= eps
    assert torch.equal(success, result.prediction != labels)
    assert torch.equal(result.min_norm == 0, result.clean_prediction != labels)
    if constant:
        assert torch.equal(success, labels != 0)


@pytest.mark.parametrize(
    "attack", [ATTACKS["square"].with_settings(n_queries=300), ATTACKS["hop-skip-jump"].with_settings(steps=3)]
)
def test_an_image_is_attacked_the_same_way_in_any_company(
    attack: Attack, digit_classifier: nn.Module, some_digits: Split
) -> None:
    images, labels = some_digits.images[:12] / 255.0, some_digits.labels[:12]
    some = torch.tensor([7, 2, 10])
    for norm, eps in (("linf", 0.1), ("l2", 1.5), ("l1", 15.0)):
        if norm not in attack.norms:
            continue
        threat = ThreatModel(norm, eps)
        together, again = (
            run_attack(digit_classifier, images, labels, attack, [threat], rng=streams(12), precision="float32")
            for _ in range(2)
        )
        assert torch.equal(together.images, again.images)
        alone = run_attack(
            digit_classifier,
            images[some],
            labels[some],
            attack,
            [threat],
            rng=streams(12).select(some),
            precision="float32",
        )
        torch.testing.assert_close(alone.min_norm, together.min_norm[some], rtol=1e-3, atol=1e-4)


class Asked(nn.Module):
    """Counts the images that it is asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.count = 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += len(images)
        return self.model(images)


@pytest.mark.parametrize("count", [1, 150])
def test_square_asks_in_linf_about_what_changes_something(count: int) -> None:
    """One image looks ahead, many do not; neither asks about a proposal that leaves every pixel as it is."""
    model = Linear(torch.zeros(2, 64), torch.tensor([1.0, 0.0])).requires_grad_(False)
    images, labels = torch.ones(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64)
    asked = Asked(model)
    # White pixels only get darker, and half of the proposals brighten; nothing is ever better.
    ATTACKS["square"].function(
        asked,
        images,
        labels,
        ThreatModel("linf", 0.1),
        rng=streams(count),
        n_queries=2000,
        p_init=0.01,
        abort_factor=math.inf,
    )
    assert 0.3 < asked.count / (2000 * count) < 0.6


@pytest.mark.parametrize(("queries", "side"), [(300, 9), (5000, 2)])
def test_square_goes_on_from_a_warm_start_with_a_twentieth_of_its_own_queries(queries: int, side: int) -> None:
    """Patches are as small as after as many: .8 of 28 x 28 pixels, halved 3 times after 300 and 7 times after 5,000."""
    count, sizes = 128, []

    def watched(asked: Tensor) -> Tensor:
        rows, columns = ((asked != images).any(1).any(axis) for axis in (2, 1))
        sizes.append((rows.sum(1), columns.sum(1)))
        return torch.tensor([[1.0, 0.0]]).expand(count, 2)

    images, labels = torch.full((count, 1, 28, 28), 0.5), torch.zeros(count, dtype=torch.int64)
    settings = {"n_queries": queries, "p_init": 0.8, "abort_factor": math.inf}
    ATTACKS["square"].function(
        watched, images, labels, ThreatModel("linf", 0.1), rng=streams(count), start=images, **settings
    )
    # The start itself is asked about, then each patch; nothing is ever better, so each lies on the start alone.
    assert len(sizes) == 1 + queries // 20
    assert all((size == side).all() for both in sizes[1:] for size in both)
