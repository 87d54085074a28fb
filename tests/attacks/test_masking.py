"""Masked gradients: every mask is called out, none of the honest is, and what can be got around is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear, small_classifier, some_digits
from torch import Tensor, nn

from hardy.attacks import ATTACKS, AttackResult, run_attack
from hardy.attacks.around import StandIn, get_around, with_gradient
from hardy.attacks.attack import value_and_gradient
from hardy.attacks.masking import find_signs, in_words, masking_warnings
from hardy.rng import Randomness
from hardy.threats import ThreatModel

EPS = 0.3


class Around(nn.Module):
    """A classifier with something before it and something behind it."""

    def __init__(
        self,
        classifier: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda images: images,
        behind: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.before, self.behind = before, behind

    def forward(self, images: Tensor) -> Tensor:
        # A branch that cannot be traced, so that no copy loses the mask.
        if float(images.detach().amax()) > 2:
            raise ValueError("images lie in [0, 1]")
        return self.behind(self.classifier(self.before(images)))


class Backward(torch.autograd.Function):
    """Passes what it is given, and backward so many times the gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, times: float) -> Tensor:  # type: ignore[override]
        ctx.times = times
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.times * gradient, None


def without_gradient(images: Tensor) -> Tensor:
    with torch.no_grad():
        return (images * 7).round() / 7


def thermometer(images: Tensor) -> Tensor:
    levels = torch.linspace(0.05, 0.95, 10).reshape(-1, 1, 1, 1, 1)
    return (images > levels).float().mean(0)


def noisy(images: Tensor) -> Tensor:
    return images + 0.3 * torch.rand_like(images)


MASKS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "rounded": {"before": lambda images: (images * 7).round() / 7},
    "rounded without recording": {"before": lambda images: images + (without_gradient(images) - images)},
    "detached": {"before": lambda images: 0.0 * images + images.detach()},
    "thermometer": {"before": thermometer},
    "saturated pixels": {"before": lambda images: torch.sigmoid(400.0 * (images - 0.5))},
    "saturated logits": {"behind": lambda logits: torch.tanh(8.0 * logits)},
    "clipped logits": {"behind": lambda logits: logits.clamp(-0.5, 0.5)},
    "softmax as logits": {"behind": lambda logits: 5.0 * (1000.0 * logits).softmax(1)},
    "gradient of zero": {"before": lambda images: Backward.apply(images, 0.0)},  # type: ignore[dict-item]
    "gradient the other way": {"before": lambda images: Backward.apply(images, -1.0)},  # type: ignore[dict-item]
    "noise": {"before": noisy},
}
# Nothing leads through a backward pass that is wrong: there the black box has the last word.
HOPELESS = ("gradient of zero", "gradient the other way")


def attacked(
    classifier: nn.Module, images: Tensor, labels: Tensor, indices: Tensor
) -> tuple[list[str], AttackResult, Randomness]:
    rng, threat = Randomness(0, indices), ThreatModel("linf", EPS)
    outcome = run_attack(classifier, images, labels, ATTACKS["pgd"], [threat], rng=rng, precision="float32")
    signs = find_signs(
        classifier, images, labels, outcome, [ATTACKS["pgd"]], threat, pgd=ATTACKS["pgd"], rng=rng, batch_size=16
    )
    assert all(len(sign) == len(images) for sign in signs)
    return in_words(signs._asdict()), outcome, rng


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_is_called_out_and_got_around(mask: str) -> None:
    images, labels, indices = some_digits(24)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = with_gradient(Around(small_classifier(), **MASKS[mask]).eval(), images)
        words, outcome, rng = attacked(classifier, images, labels, indices)
        assert words
        left = ~outcome.broken
        found, names = get_around(
            classifier,
            images[left],
            labels[left],
            [ThreatModel("linf", EPS)],
            rng=rng.select(left),
            n_queries=150,
        )
    assert len(found.images) == int(left.sum())
    assert names[-1] == "square"
    assert int(found.attack.max()) < len(names)
    broken = int(found.broken.sum())
    assert broken >= (0.4 if mask in (*HOPELESS, "saturated pixels") else 0.8) * int(left.sum()), (
        mask,
        broken,
        int(left.sum()),
    )


def two_classes(images: Tensor) -> tuple[nn.Module, Tensor]:
    """A classifier of two classes, four fifths of the images in the first, and its answers as labels."""
    classifier = seeded_linear(2, images.shape[-1])
    with torch.no_grad():
        lead = (classifier(images) @ torch.tensor([1.0, -1.0])).sort().values
        fifth = len(images) // 5
        classifier.bias[0] -= lead[fifth - 1 : fifth + 1].mean()
        return classifier, classifier(images).argmax(1)


def many_classes() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 8, 8, generator=generator)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 100)).eval()
    for parameter in classifier.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return classifier, images, classifier(images).argmax(1)


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0, 1e-20])
def test_honest_gradients_are_not_called_out_however_large_the_logits(scale: float) -> None:
    classifier = Around(small_classifier(), behind=lambda logits: scale * logits).eval()
    assert attacked(classifier, *some_digits(24))[0] == []


def test_one_class_of_two_may_stand_and_a_hundred_classes_are_no_mask() -> None:
    images = torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    classifier, labels = two_classes(images)
    assert labels.bincount().tolist() == [40, 10]
    assert attacked(classifier, images, labels, torch.arange(50))[0] == []
    classifier, images, labels = many_classes()
    assert attacked(classifier, images, labels, torch.arange(40))[0] == []


def test_what_only_a_black_box_breaks_is_a_sign() -> None:
    images, labels, indices = some_digits(24)
    outcome = run_attack(
        small_classifier(), images, labels, ATTACKS["pgd"], [ThreatModel("linf", EPS)], rng=Randomness(0, indices)
    )
    outcome.attack[outcome.attack == 0] = 1
    signs = find_signs(
        small_classifier(),
        images,
        labels,
        outcome,
        [ATTACKS["pgd"], ATTACKS["square"]],
        ThreatModel("linf", EPS),
        pgd=ATTACKS["pgd"],
        rng=Randomness(0, indices),
    )
    (words,) = masking_warnings(signs)
    assert "an attack without gradients alone breaks" in words
    assert int(signs.black_box_alone.sum()) == int((outcome.attack == 1).sum()) > 2


@pytest.mark.parametrize("mask", [name for name in MASKS if name not in (*HOPELESS, "noise")])
def test_a_stand_in_answers_as_its_classifier_and_has_a_gradient(mask: str) -> None:
    images, labels, _ = some_digits(24)
    classifier = Around(small_classifier(), **MASKS[mask]).eval()
    with torch.no_grad():
        assert torch.equal(StandIn(classifier)(images), classifier(images))
    logits, gradient = value_and_gradient(StandIn(classifier), images, labels)
    with torch.no_grad():
        assert torch.equal(logits, classifier(images))
    assert (gradient.flatten(1) != 0).any(1).double().mean() > 0.8
    assert torch.is_grad_enabled()


def test_a_gradient_that_is_merely_small_hides_nothing() -> None:
    images, labels, indices = some_digits(24)
    broken = []
    for factor in (1.0, 1e-38, 1e-45):
        before = {"before": lambda images, factor=factor: Backward.apply(images, factor)}
        classifier = with_gradient(Around(small_classifier(), **before).eval(), images)  # type: ignore[arg-type]
        words, outcome, _ = attacked(classifier, images, labels, indices)
        assert not words
        broken.append(int(outcome.broken.sum()))
    assert min(broken) >= broken[0] - 1
