"""Attacks that look for the smallest perturbation, against the smallest that there is on a linear classifier."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from helpers.attacking import found_by
from helpers.classifiers import Linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardy.attacks import ATTACKS
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.attacks.fmn import _into_ball
from hardy.data import load_dataset
from hardy.rng import Randomness
from hardy.threats import NORMS, Norm, ThreatModel

SIDE = 10
COUNT = 16
SMALLEST = (ATTACKS["deepfool"], ATTACKS["carlini-wagner"], ATTACKS["fmn"])
IN_EACH_NORM = [pytest.param(attack, norm, id=f"{attack.name}-{norm}") for attack in SMALLEST for norm in attack.norms]


class Problem(NamedTuple):
    classifier: Linear
    images: Tensor
    labels: Tensor
    gaps: Tensor
    normals: Tensor


def problem(classes: int, norm: Norm) -> Problem:
    """Grey images of class 0, at a distance where the box does not bind; in l0 it always does."""
    generator = torch.Generator().manual_seed(classes)
    images = 0.45 + 0.1 * torch.rand(COUNT, 1, SIDE, SIDE, generator=generator)
    weight = torch.randn(classes, SIDE * SIDE, generator=generator)
    normals = weight[1:] - weight[:1]
    order = {"linf": 1.0, "l2": 2.0, "l1": math.inf, "l0": math.inf}[norm]
    distance = {"linf": 0.1, "l2": 0.8, "l1": 0.25, "l0": 3.0}[norm]
    # On the mean image the last class is at that distance and the others at three times it: among many boundaries
    # equally near, an attack that follows the best wrong logit may settle on any.
    times = torch.tensor([3.0] * (classes - 2) + [1.0])
    wanted = distance * times * torch.linalg.vector_norm(normals, order, dim=1)
    bias = torch.cat([torch.zeros(1), -wanted - images.flatten(1).mean(0) @ normals.T])
    classifier = Linear(weight, bias)
    logits = classifier(images).detach()
    labels = torch.zeros(COUNT, dtype=torch.int64)
    assert torch.equal(logits.argmax(1), labels)
    return Problem(classifier, images, labels, logits[:, :1] - logits[:, 1:], normals)


def smallest(given: Problem, norm: Norm) -> Tensor:
    """The distance to the nearest boundary, in closed form, (N,)."""
    if norm == "l0":
        # The fewest pixels, each moved as far as the box allows, best first.
        pixels = given.images.flatten(1)[:, None]
        gain = torch.where(given.normals > 0, given.normals * (1 - pixels), -given.normals * pixels)
        reach = gain.sort(dim=-1, descending=True).values.cumsum(-1)
        return ((reach < given.gaps[..., None]).sum(-1) + 1).amin(1).float()
    order = {"linf": 1.0, "l2": 2.0, "l1": math.inf}[norm]
    return (given.gaps / torch.linalg.vector_norm(given.normals, order, dim=1)).amin(1)


def streams(count: int) -> Randomness:
    return Randomness(0, torch.arange(count))


def found_in(attack: Attack, classifier: nn.Module, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    return found_by(attack, classifier, images, labels, ThreatModel(norm, 10), streams(len(images)))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
def test_within_five_percent_of_the_smallest(attack: Attack, norm: Norm, classes: int) -> None:
    given = problem(classes, norm)
    found = found_in(attack, given.classifier, given.images, given.labels, norm)
    assert (given.classifier(found).argmax(1) != given.labels).all()
    norms, optimum = ThreatModel(norm, 10).distance(found, given.images), smallest(given, norm)
    assert (norms >= 0.999 * optimum).all()
    assert (norms <= 1.05 * optimum).all()
    if norm == "l0":
        assert float(optimum.max()) > 1, "one pixel would be too easy"


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
def test_logits_times_a_constant_look_no_stronger(attack: Attack, norm: Norm) -> None:
    given = problem(3, norm)
    distances = []
    for scale in (0.01, 1.0, 100.0):
        scaled = Linear(scale * given.classifier.weight.detach(), scale * given.classifier.bias.detach())
        found = found_in(attack, scaled, given.images, given.labels, norm)
        assert (given.classifier(found).argmax(1) != given.labels).all()
        distances.append(ThreatModel(norm, 10).distance(found, given.images))
    torch.testing.assert_close(distances[0], distances[1], rtol=0.01, atol=0)
    torch.testing.assert_close(distances[2], distances[1], rtol=0.01, atol=0)


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
def test_where_nothing_fools_the_clean_image_comes_back(attack: Attack, norm: Norm) -> None:
    images = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    labels = torch.ones(3, dtype=torch.int64)
    # No gradient at all; and one that leads nowhere, for the bias is out of reach.
    flat = Linear(torch.zeros(3, SIDE * SIDE), torch.tensor([0.0, 1.0, 0.0]))
    steep = Linear(torch.ones(3, SIDE * SIDE) * torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([0.0, 1e3, 0.0]))
    quick = replace(attack, settings={**attack.settings, "steps": 20})
    for classifier in (flat, steep):
        assert torch.equal(found_in(quick, classifier, images, labels, norm), images)


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
def test_the_sweep_holds_the_smallest_against_each_radius(attack: Attack, norm: Norm) -> None:
    given = problem(3, norm)
    optimum = smallest(given, norm)
    largest = 20 if norm == "l0" else 2 * float(optimum.max())
    result = run_attack(
        given.classifier,
        given.images,
        given.labels,
        attack,
        [ThreatModel(norm, 1 if norm == "l0" else 0.5 * float(optimum.min())), ThreatModel(norm, largest)],
        rng=streams(COUNT),
    )
    assert (result.min_norm <= 1.05 * optimum + 1e-6).all()
    assert ThreatModel(norm, largest).contains(result.images, given.images).all()


changes = st.integers(0, 2**16).map(lambda seed: torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=25, deadline=None)
@given(generator=changes)
def test_each_change_is_brought_into_its_own_ball(norm: Norm, generator: torch.Generator) -> None:
    reference = torch.rand(6, 2, 4, 4, generator=generator)
    change = torch.randn(6, 2, 4, 4, generator=generator)
    gradient = torch.randn(6, 2, 4, 4, generator=generator)
    whole = ThreatModel(norm, 1).distance((reference + change).clamp(0, 1), reference)
    # The first rows are far outside, the last one is inside.
    radius = whole * torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
    radius = radius.round().clamp_min(1) if norm == "l0" else radius

    inside = _into_ball(change, reference, radius, norm, gradient)

    size = ThreatModel(norm, 1).distance(reference + inside, reference)
    assert (size <= radius * (1 + 1e-4) + 1e-5).all()
    # What was outside ends on the surface, not somewhere inside.
    outside = torch.tensor([0, 1, 2, 3, 4])
    if norm != "l0":
        torch.testing.assert_close(size[outside], radius[outside], rtol=1e-3, atol=1e-4)
    assert (reference + inside).min() >= -1e-6
    assert (reference + inside).max() <= 1 + 1e-6
    again = _into_ball(inside, reference, radius, norm, gradient)
    torch.testing.assert_close(again, inside, rtol=1e-4, atol=1e-5)
    clipped = (reference + change).clamp(0, 1) - reference
    torch.testing.assert_close(inside[5], clipped[5], rtol=1e-4, atol=1e-5)


def test_l0_keeps_the_pixels_that_add_most_to_the_margin() -> None:
    reference = torch.full((1, 1, 1, 3), 0.5)
    change = torch.tensor([[[[0.5, 0.1, 0.4]]]])
    gradient = torch.tensor([[[[0.1, 3.0, 0.2]]]])
    inside = _into_ball(change, reference, torch.tensor([1.0]), "l0", gradient)
    torch.testing.assert_close(inside, torch.tensor([[[[0.0, 0.1, 0.0]]]]))


FOOLBOX = [
    (ATTACKS["deepfool"], "l2", "L2DeepFoolAttack"),
    (ATTACKS["deepfool"], "linf", "LinfDeepFoolAttack"),
    (ATTACKS["fmn"], "linf", "LInfFMNAttack"),
    (ATTACKS["fmn"], "l2", "DDNAttack"),
    (ATTACKS["fmn"], "l1", "L1FMNAttack"),
    (ATTACKS["fmn"], "l0", "L0FMNAttack"),
    (ATTACKS["carlini-wagner"], "l2", "L2CarliniWagnerAttack"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm", "peer"), [pytest.param(*row, id=row[2]) for row in FOOLBOX])
def test_as_small_as_foolbox(attack: Attack, norm: Norm, peer: str, digit_classifier: nn.Module) -> None:
    with warnings.catch_warnings():
        # Foolbox imports a name that SciPy has moved.
        warnings.simplefilter("ignore", DeprecationWarning)
        from foolbox import attacks
        from foolbox.models.pytorch import PyTorchModel
    digits = load_dataset("mnist/test")
    chosen = digits.measuring_order()[:60]
    images, labels = digits.floats(chosen), digits.labels[chosen]
    digit_classifier.requires_grad_(False)
    right = digit_classifier(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    threat = ThreatModel(norm, 1)

    ours = found_in(attack, digit_classifier, images, labels, norm)
    model = PyTorchModel(digit_classifier, bounds=(0, 1), device="cpu")
    arguments = {"steps": 200, "stepsize": 0.05} if attack is ATTACKS["carlini-wagner"] else {}
    theirs, _, _ = getattr(attacks, peer)(**arguments)(model, images, labels, epsilons=None)

    sizes = []
    for found in (ours, theirs):
        fooled = digit_classifier(found).argmax(1) != labels
        sizes.append(torch.where(fooled, threat.distance(found, images), torch.inf))
    assert sizes[0].isfinite().all()
    assert float(sizes[0].median()) <= 1.03 * float(sizes[1].median())
    if attack is ATTACKS["deepfool"]:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
