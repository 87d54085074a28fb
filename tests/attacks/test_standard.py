"""The gradient attacks of the standard suite, and sigma-zero, against linear classifiers whose best attack is known."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import Linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardy.attacks import ATTACKS
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.attacks.objectives import dlr, likeliest_wrong_classes, log_odds_against, margin, targeted_dlr
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.training import Split

DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
NORMS: list[Norm] = ["linf", "l2", "l1"]
SIDE = 8


FIXED = [ATTACKS["apgd-ce"], ATTACKS["apgd-dlr"], ATTACKS["apgd-t"], ATTACKS["fab-t"].with_settings(steps=40)]


def problem(classes: int, count: int = 16, seed: int = 0) -> tuple[Linear, Tensor, Tensor, Tensor]:
    """A linear classifier; images well inside [0, 1] and near to its boundary; labels; differences of its weights.

    The differences, (N, K, D), are of each class's weights and the label's.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, SIDE * SIDE, generator=generator)
    flat = 0.5 + 0.2 * (torch.rand(count, SIDE * SIDE, generator=generator) - 0.5)
    model = Linear(weight, -weight @ flat.mean(0)).requires_grad_(False)
    labels = (flat @ weight.T + model.bias).argmax(1)
    difference = weight[None] - weight[labels][:, None]
    heights = heights_of(model, flat, labels)
    rival = heights.scatter(1, labels[:, None], -torch.inf).argmax(1)
    towards = difference[torch.arange(count), rival]
    share = 0.9 * heights.gather(1, rival[:, None]) / towards.square().sum(1, keepdim=True)
    images = (flat - share * towards).reshape(-1, 1, SIDE, SIDE)
    assert ((images > 0.3) & (images < 0.7)).all()
    assert (model(images).argmax(1) == labels).all()
    return model, images, labels, difference


def heights_of(model: Linear, images: Tensor, labels: Tensor) -> Tensor:
    """(N, K): each logit over the label's."""
    logits = model(images)
    return logits - logits.gather(1, labels[:, None])


def distances(model: Linear, images: Tensor, labels: Tensor, difference: Tensor, norm: Norm) -> Tensor:
    """(N,): the smallest norm that reaches another class, in closed form."""
    lengths = torch.linalg.vector_norm(difference, DUAL[norm], dim=2)
    reach = -heights_of(model, images, labels) / lengths
    return reach.scatter(1, labels[:, None], torch.inf).amin(1)


def streams(count: int, seed: int = 0) -> Randomness:
    return Randomness(seed, torch.arange(count))


@pytest.mark.parametrize("attack", FIXED[:3], ids=lambda attack: attack.name)
@pytest.mark.parametrize("norm", NORMS)
def test_apgd_reaches_the_worst_margin(attack: Attack, norm: Norm) -> None:
    model, images, labels, difference = problem(classes=2)
    eps = 0.9 * float(distances(model, images, labels, difference, norm).min())
    threat = ThreatModel(norm, eps)
    found = attack.function(model, images, labels, threat, rng=streams(16), **attack.settings)
    assert threat.contains(found, images).all()
    gain = eps * torch.linalg.vector_norm(difference, DUAL[norm], dim=2).amax(1)
    worst = margin(model(images), labels) + gain
    # In l1 all of eps belongs on one pixel; a step spreads it, and the tenth of it that is the shortest step stays so.
    torch.testing.assert_close(margin(model(found), labels), worst, rtol=0, atol=1e-3 if norm == "l1" else 1e-4)


@pytest.mark.parametrize("attack", FIXED, ids=lambda attack: attack.name)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_verdicts_are_those_of_the_closed_form(attack: Attack, norm: Norm, classes: int) -> None:
    model, images, labels, difference = problem(classes)
    distance = distances(model, images, labels, difference, norm)
    eps = float(distance.median()) * 1.001
    result = run_attack(model, images, labels, attack, [ThreatModel(norm, eps)], rng=streams(16), precision="float32")
    clear = (distance / eps - 1).abs() > (0.06 if attack.name == ATTACKS["fab-t"].name else 2e-3)
    assert clear.sum() >= 8
    # Cross-entropy climbs towards all classes at once, so it may miss the one that is nearest.
    fooled, expected = result.min_norm <= eps, distance <= eps
    assert not (fooled & ~expected)[clear].any()
    if attack.name not in (ATTACKS["apgd-ce"].name, ATTACKS["apgd-dlr"].name) or classes == 2:
        assert torch.equal(fooled[clear], expected[clear])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 4])
def test_fab_finds_the_smallest_norm_within_five_percent(norm: Norm, classes: int) -> None:
    model, images, labels, difference = problem(classes)
    threats = [ThreatModel(norm, 50.0)]
    result = run_attack(model, images, labels, ATTACKS["fab"], threats, rng=streams(16), precision="float32")
    ratio = result.min_norm / distances(model, images, labels, difference, norm)
    assert ((ratio > 0.999) & (ratio < 1.05)).all()


def test_sigma_zero_finds_the_fewest_pixels_but_for_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12 * 12, generator=generator)
    images = 0.2 + 0.6 * torch.rand(12, 1, 12, 12, generator=generator)
    model = Linear(torch.stack([0.5 * weight, -0.5 * weight]), torch.zeros(2)).requires_grad_(False)
    labels = model(images).argmax(1)
    down = torch.where(labels[:, None] == 0, -weight, weight)
    gains = (torch.where(down > 0, 1 - images.flatten(1), images.flatten(1)) * down.abs()).sort(1, descending=True)
    fewest = (gains.values.cumsum(1) <= -margin(model(images), labels)[:, None]).sum(1) + 1
    assert fewest.max() > 3
    threats = [ThreatModel("l0", 144)]
    result = run_attack(model, images, labels, ATTACKS["sigma-zero"], threats, rng=streams(12), precision="float32")
    excess = result.min_norm - fewest
    assert ((excess >= 0) & (excess <= 1)).all()


class Coloured(nn.Module):
    """Class 1 where the channels' sum over one pixel is above 2."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, :, 2, 2].sum(1) - 2.0
        return torch.stack([-bright, bright], dim=1)


def test_a_pixel_counts_once_in_l0_whatever_its_channels() -> None:
    images = torch.full((2, 3, 5, 5), 0.3)
    result = run_attack(
        Coloured(),
        images,
        torch.zeros(2, dtype=torch.int64),
        ATTACKS["sigma-zero"].with_settings(steps=200),
        [ThreatModel("l0", 25)],
        rng=streams(2),
        precision="float32",
    )
    assert result.min_norm.tolist() == [1.0, 1.0]


def test_dlr_by_hand() -> None:
    logits = torch.tensor([[5.0, 3.0, 1.0, -3.0], [5.0, 3.0, 1.0, -3.0]])
    labels = torch.tensor([0, 2])
    torch.testing.assert_close(margin(logits, labels), torch.tensor([-2.0, 4.0]))
    torch.testing.assert_close(dlr(logits, labels), torch.tensor([-2.0 / 4.0, 4.0 / 4.0]))
    targets = torch.tensor([3, 1])
    expected = torch.tensor([-8.0 / (5.0 + 1.0), 2.0 / (5.0 + 1.0)])
    torch.testing.assert_close(targeted_dlr(logits, labels, targets), expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), classes=st.integers(2, 8))
def test_objectives_rise_towards_success(seed: int, classes: int) -> None:
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(6) % classes
    right = logits.argmax(1) == labels
    lower = logits - 0.1 * nn.functional.one_hot(labels, classes)
    for objective in (log_odds_against, dlr, margin):
        assert (objective(lower, labels) > objective(logits, labels))[right].all(), objective
        if objective is not log_odds_against:
            assert torch.equal(objective(logits, labels) < 0, right), objective
    if classes > 2:
        torch.testing.assert_close(dlr(30.0 * logits + 1.0, labels), dlr(logits, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_targets_are_the_wrong_classes_by_logit(classes: int) -> None:
    logits = torch.randn(5, classes, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5) % classes
    for row, targets in enumerate(likeliest_wrong_classes(logits, labels, 9).tolist()):
        order = logits[row].argsort(descending=True).tolist()
        assert targets == [wrong for wrong in order if wrong != int(labels[row])]
    assert likeliest_wrong_classes(logits, labels, 1).shape == (5, 1)


QUICK = [
    ATTACKS["apgd-ce"].with_settings(steps=12, n_restarts=2),
    ATTACKS["apgd-t"].with_settings(steps=12, n_target_classes=2),
    ATTACKS["fab"].with_settings(steps=6, n_target_classes=2),
    ATTACKS["fab-t"].with_settings(steps=6, n_target_classes=2),
]


@settings(max_examples=30, deadline=None)
@given(
    attack=st.sampled_from(QUICK),
    norm=st.sampled_from(NORMS),
    classes=st.sampled_from([2, 3, 4, 10]),
    count=st.integers(0, 5),
    eps=st.floats(0.001, 3.0),
    constant=st.booleans(),
)
def test_whatever_is_attacked_the_result_is_sound(
    attack: Attack, norm: Norm, classes: int, count: int, eps: float, constant: bool
) -> None:
    generator = torch.Generator().manual_seed(classes)
    # A constant classifier has no gradient; it is right on class 0 and wrong on all else.
    weight = torch.zeros(classes, 36) if constant else torch.randn(classes, 36, generator=generator)
    model = Linear(weight, torch.eye(classes)[0])
    images = torch.randint(0, 3, (count, 1, 6, 6), generator=generator) / 2.0
    labels = torch.arange(count) % classes
    threat = ThreatModel(norm, eps)
    result = run_attack(model, images, labels, attack, [threat], rng=streams(count), precision="float32")
    assert threat.contains(result.images, images).all()
    broken = result.min_norm <= eps
    assert torch.equal(broken, result.prediction != labels)
    assert torch.equal(result.prediction, model(result.images).argmax(1))
    assert torch.equal(result.min_norm == 0, result.clean_prediction != labels)
    if constant:
        assert torch.equal(broken, labels != 0)


@pytest.mark.parametrize(
    "attack", [*QUICK, ATTACKS["sigma-zero"].with_settings(steps=30)], ids=lambda attack: attack.name
)
def test_an_image_is_attacked_the_same_way_in_any_company(
    attack: Attack, digit_classifier: nn.Module, some_digits: Split
) -> None:
    images, labels = some_digits.images[:12] / 255.0, some_digits.labels[:12]
    for norm, eps in (("linf", 0.1), ("l2", 1.0), ("l1", 8.0), ("l0", 20.0)):
        if norm not in attack.norms:
            continue
        threat = ThreatModel(norm, eps)
        together, again = (
            run_attack(digit_classifier, images, labels, attack, [threat], rng=streams(12), precision="float32")
            for _ in range(2)
        )
        assert torch.equal(together.images, again.images)
        some = torch.tensor([7, 2, 10])
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
