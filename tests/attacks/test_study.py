"""The study's attacks: closed forms on linear classifiers, noise of exact size, and the same verdicts as Foolbox."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from helpers.attacking import answers, found_by, rng_of, run, undecided
from helpers.classifiers import Linear, seeded_linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hardy.attacks import ATTACKS
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.attacks.pgd import highest_loss
from hardy.data import load_dataset
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel

SIDE = 6
COUNT = 20
BRIEF_CARLINI_WAGNER = ATTACKS["carlini-wagner"].with_settings(steps=20)
ALL = (
    ATTACKS["fast-gradient"],
    ATTACKS["basic-iterative"],
    ATTACKS["momentum-iterative"],
    ATTACKS["noise"],
    ATTACKS["repeated-noise"],
    ATTACKS["salt-and-pepper"],
    ATTACKS["deepfool"],
    BRIEF_CARLINI_WAGNER,
    ATTACKS["fmn"],
)
IN_EACH_NORM = [pytest.param(attack, norm, id=f"{attack.name}-{norm}") for attack in ALL for norm in attack.norms]


def grey_images(count: int = COUNT) -> Tensor:
    return 0.4 + 0.2 * torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def streams(count: int, seed: int = 0) -> Randomness:
    return Randomness(seed, torch.arange(count))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.2)])
@pytest.mark.parametrize(
    "attack",
    [
        ATTACKS["fast-gradient"],
        ATTACKS["basic-iterative"].with_settings(steps=40, rel_step_size=1 / 30),
        ATTACKS["basic-iterative"],
        ATTACKS["momentum-iterative"],
    ],
    ids=lambda attack: attack.name,
)
def test_gradient_steps_reach_the_worst_margin_of_a_linear_classifier(attack: Attack, norm: Norm, eps: float) -> None:
    plain, images = seeded_linear(classes=2, side=SIDE), grey_images()
    normal = (plain.weight[0] - plain.weight[1]).detach()
    loss = eps * normal.norm(p=1 if norm == "linf" else 2)
    clean = images.flatten(1) @ normal
    # No image falls, so none leaves before the last step.
    classifier = Linear(plain.weight.detach(), torch.stack([1.1 * loss - clean.min(), torch.tensor(0.0)]))
    threat, labels = ThreatModel(norm, eps), torch.zeros(COUNT, dtype=torch.int64)

    found = found_by(attack, classifier, images, labels, threat, streams(COUNT))

    margin = classifier(found)[:, 0] - classifier(found)[:, 1]
    expected = clean + classifier.bias[0] - loss
    torch.testing.assert_close(margin, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(threat.distance(found, images), torch.full((COUNT,), eps))


def test_momentum_keeps_the_direction_that_a_single_step_would_leave() -> None:
    class Valley(nn.Module):
        """Its gradient points along the second pixel once the first has moved."""

        def forward(self, images: Tensor) -> Tensor:
            first, second = images[:, 0, 0, 0], images[:, 0, 0, 1]
            rising = torch.where(first < 0.55, first, 0.01 * second)
            return torch.stack([torch.ones_like(rising), rising], dim=1)

    images, labels, threat = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, dtype=torch.int64), ThreatModel("l2", 0.2)
    ends = {}
    for decay in (0.0, 1.0):
        attack = replace(ATTACKS["momentum-iterative"], settings={"steps": 3, "rel_step_size": 0.3, "decay": decay})
        ends[decay] = (found_by(attack, Valley(), images, labels, threat, streams(1)) - images).flatten()
    # Without momentum: one step of 0.06 along the first pixel, two along the second.
    torch.testing.assert_close(ends[0.0], torch.tensor([0.06, 0.12]))
    # With it, the directions are (1, 0), (1, 1) and (1, 2), each brought to length 0.06; the ball does not bind.
    direction = torch.tensor([1.0 + 0.5**0.5 + 0.2**0.5, 0.5**0.5 + 2 * 0.2**0.5])
    torch.testing.assert_close(ends[1.0], 0.06 * direction)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_has_exactly_the_norm_eps(norm: Norm) -> None:
    images, threat = grey_images(), ThreatModel(norm, 0.3)
    labels = torch.zeros(COUNT, dtype=torch.int64)
    found = found_by(ATTACKS["noise"], seeded_linear(side=SIDE), images, labels, threat, streams(COUNT))
    torch.testing.assert_close(threat.distance(found, images), torch.full((COUNT,), 0.3))
    change = (found - images).flatten(1)
    assert not torch.allclose(change[0], change[1])
    # In linf the noise is uniform: its mean size is half its largest; in l2 it is normal: no value stands out.
    typical = change.abs().mean() if norm == "linf" else change.square().mean().sqrt()
    assert float(typical) == pytest.approx(0.15 if norm == "linf" else 0.3 / SIDE, rel=0.1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_is_clipped_after_it_is_scaled(norm: Norm) -> None:
    images, threat = torch.zeros(COUNT, 1, SIDE, SIDE), ThreatModel(norm, 0.5)
    labels = torch.zeros(COUNT, dtype=torch.int64)
    found = found_by(ATTACKS["noise"], seeded_linear(side=SIDE), images, labels, threat, streams(COUNT))
    assert float(found.min()) == 0.0
    # About half of the values are cut off: what is left in l2 is near eps over the root of 2, not eps.
    if norm == "l2":
        assert float(threat.distance(found, images).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_repeated_noise_is_the_first_draw_that_fools() -> None:
    images, threat, rng = grey_images(), ThreatModel("l2", 0.5), streams(COUNT)
    weight = seeded_linear(classes=3, side=SIDE).weight.detach()
    # Undecided on plain grey, so that noise decides.
    classifier = Linear(weight, -weight.sum(1) / 2)
    labels = classifier(images).argmax(1)
    attack = replace(ATTACKS["repeated-noise"], settings={"repeats": 8})

    found = found_by(attack, classifier, images, labels, threat, rng)

    draws = []
    for draw in range(8):
        noise = rng.normal(1, SIDE, SIDE, draw=draw)
        draws.append(images + 0.5 * noise / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
    firsts = set()
    for row in range(COUNT):
        fooling = [draw for draw in range(8) if int(classifier(draws[draw][row : row + 1]).argmax()) != labels[row]]
        first = fooling[0] if fooling else 7
        firsts.add(first)
        torch.testing.assert_close(found[row], draws[first][row])
    assert len(firsts) > 3, "the test wants images that fall at different draws"


class Salted(nn.Module):
    """Says 1 once ``enough`` pixels are above 0.5 in all channels; remembers what it was asked."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough
        self.asked: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(images)
        number = (images > 0.5).all(1).flatten(1).sum(1)
        return torch.stack([torch.full_like(number, self.enough), 2 * number - self.enough + 1], dim=1).float()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("enough", [1, 5, 12])
def test_salt_and_pepper_finds_the_least_noise(channels: int, enough: int) -> None:
    images, labels = torch.zeros(COUNT, channels, SIDE, SIDE), torch.zeros(COUNT, dtype=torch.int64)
    found = found_by(
        ATTACKS["salt-and-pepper"], Salted(enough), images, labels, ThreatModel("l2", 10.0), streams(COUNT)
    )
    # On black only salt shows: as many pixels as it takes, each white in every channel.
    norm = found.flatten(1).norm(dim=1)
    torch.testing.assert_close(norm, torch.full((COUNT,), float(channels * enough) ** 0.5))
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_salt_and_pepper_turns_pixels_in_all_channels_and_to_black_or_white_only() -> None:
    images = 0.3 + 0.4 * torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    labels = torch.zeros(COUNT, dtype=torch.int64)
    found = found_by(ATTACKS["salt-and-pepper"], Salted(20), images, labels, ThreatModel("l2", 10.0), streams(COUNT))
    turned = found != images
    assert turned.any()
    assert torch.equal(turned.any(1), turned.all(1))
    assert set(found[turned].unique().tolist()) == {0.0, 1.0}


def test_salt_and_pepper_asks_only_for_what_would_be_an_improvement() -> None:
    images, labels = grey_images(1), torch.zeros(1, dtype=torch.int64)
    classifier = seeded_linear(classes=2, side=SIDE)
    labels = classifier(images).argmax(1)
    asked: list[float] = []
    best = [2.5]

    def watched(candidates: Tensor) -> Tensor:
        norm = float((candidates - images).norm())
        logits = classifier(candidates)
        assert 0.0 < norm < best[0] + 1e-5
        if int(logits.argmax()) != int(labels):
            best[0] = norm
        asked.append(norm)
        return logits

    with torch.no_grad():
        found = ATTACKS["salt-and-pepper"].function(
            watched,
            images,
            labels,
            ThreatModel("l2", 2.5),
            rng=streams(1),
            fast_model=watched,
            **ATTACKS["salt-and-pepper"].settings,
        )
    assert len(asked) <= ATTACKS["salt-and-pepper"].settings["steps"]
    assert float((found - images).norm()) == pytest.approx(best[0], abs=1e-5)
    assert best[0] < 2.5


def test_salt_and_pepper_takes_back_what_fools_the_fast_model_alone() -> None:
    images, classifier, threat = grey_images(), seeded_linear(classes=2, side=SIDE), ThreatModel("l2", 10.0)
    with torch.no_grad():
        logits = classifier(images)
        usual = logits.argmax(1).mode().values
        images = images[logits.argmax(1) == usual]
        labels = usual.expand(len(images))
        # It favours the other class by half of the lead that the images have.
        favour = 0.5 * (logits[:, usual] - logits[:, 1 - usual]).median() * torch.eye(2)[1 - usual]
        hasty = Linear(classifier.weight.detach(), classifier.bias.detach() + favour)
        given = {"rng": streams(len(images)), **ATTACKS["salt-and-pepper"].settings}
        found = ATTACKS["salt-and-pepper"].function(classifier, images, labels, threat, fast_model=hasty, **given)
        alone = ATTACKS["salt-and-pepper"].function(hasty, images, labels, threat, fast_model=hasty, **given)
        fooled, fooled_alone = (classifier(them).argmax(1) != labels for them in (found, alone))
    changed = (found != images).flatten(1).any(1)
    assert changed.any()
    assert fooled[changed].all()
    assert not fooled_alone.all()


def test_more_salt_and_pepper_never_finds_more_than_less_did() -> None:
    images, classifier, threat = grey_images(), seeded_linear(side=SIDE), ThreatModel("l2", 10.0)
    labels = classifier(images).argmax(1)
    norms = []
    for steps in (10, 50, 200):
        attack = replace(ATTACKS["salt-and-pepper"], settings={"steps": steps, "patience": steps})
        found = found_by(attack, classifier, images, labels, threat, streams(COUNT))
        fooled = classifier(found).argmax(1) != labels
        norms.append(torch.where(fooled, threat.distance(found, images), torch.inf))
    assert (norms[1] <= norms[0]).all()
    assert (norms[2] <= norms[1]).all()
    assert float(norms[2].mean()) < 0.95 * float(norms[0].mean())


@pytest.mark.parametrize(
    "attack", [ATTACKS["salt-and-pepper"], ATTACKS["noise"], ATTACKS["repeated-noise"]], ids=lambda attack: attack.name
)
def test_noise_depends_on_the_seed(attack: Attack) -> None:
    images, classifier = grey_images(), seeded_linear(side=SIDE)
    labels = classifier(images).argmax(1)
    threat = ThreatModel("l2", 3.0)
    one, same, other = (
        found_by(attack, classifier, images, labels, threat, streams(COUNT, seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
def test_what_happens_to_an_image_does_not_depend_on_the_others(
    attack: Attack, norm: Norm, digit_classifier: nn.Module
) -> None:
    digits = load_dataset("mnist/test")
    images, labels, rng = digits.floats(slice(0, 8)), digits.labels[:8], streams(8)
    threat = ThreatModel(norm, {"linf": 0.1, "l2": 1.0, "l1": 8.0, "l0": 8}[norm])
    digit_classifier.requires_grad_(False)
    before = images.clone()
    whole = found_by(attack, digit_classifier, images, labels, threat, rng)
    assert torch.equal(images, before)
    some = torch.tensor([5, 1, 6])
    part = found_by(attack, digit_classifier, images[some], labels[some], threat, rng.select(some))
    fooled = digit_classifier(whole[some]).argmax(1) != labels[some]
    assert torch.equal(digit_classifier(part).argmax(1) != labels[some], fooled)
    torch.testing.assert_close(
        threat.distance(part, images[some]), threat.distance(whole[some], images[some]), rtol=0.02, atol=1e-3
    )


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
@settings(max_examples=8, deadline=None)
@given(
    classes=st.sampled_from([2, 3, 10]),
    count=st.sampled_from([0, 1, 7]),
    eps=st.integers(0, 3),
    behaviour=st.sampled_from(["right", "wrong", "flat"]),
    contrast=st.sampled_from([0.2, 1.0]),
)
def test_results_lie_in_the_ball_and_fool(
    attack: Attack, norm: Norm, classes: int, count: int, eps: int, behaviour: str, contrast: float
) -> None:
    classifier = seeded_linear(classes, SIDE, seed=classes)
    if behaviour == "flat":
        classifier = Linear(torch.zeros(classes, SIDE * SIDE), torch.arange(classes).float())
    noise = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(count))
    images = 0.5 + contrast * (noise - 0.5)
    labels = classifier(images).argmax(1)
    labels = (labels + 1) % classes if behaviour == "wrong" else labels
    threats = [ThreatModel(norm, eps if norm == "l0" else 0.2 * eps), ThreatModel(norm, 5 if norm == "l0" else 1.0)]
    largest = threats[1]

    result = run_attack(classifier, images, labels, attack, threats, rng=streams(count))

    broken = result.min_norm.isfinite()
    assert largest.contains(result.images, images).all()
    assert torch.equal(result.prediction != labels, broken)
    assert torch.equal(classifier(result.images).argmax(1), result.prediction)
    assert (result.min_norm[broken] <= largest.eps).all()
    assert torch.equal(result.images[~broken], images[~broken])
    if behaviour == "flat":
        assert not broken.any()
    if behaviour == "wrong":
        assert torch.equal(result.min_norm, torch.zeros(count, dtype=torch.float64))


@pytest.mark.parametrize(("attack", "norm"), IN_EACH_NORM)
@pytest.mark.parametrize("count", [0, 3])
def test_wrong_and_missing_images_do_not_upset_the_attack_itself(attack: Attack, norm: Norm, count: int) -> None:
    classifier, images = seeded_linear(classes=3, side=SIDE), grey_images(count)
    labels = (classifier(images).argmax(1) + 1) % 3
    threat = ThreatModel(norm, 2 if norm == "l0" else 0.5)
    found = found_by(attack, classifier, images, labels, threat, streams(count))
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert found.isfinite().all()


FOOLBOX = [
    (ATTACKS["basic-iterative"], "l2", "L2BasicIterativeAttack"),
    (ATTACKS["noise"], "l2", "L2AdditiveGaussianNoiseAttack"),
    (ATTACKS["deepfool"], "l2", "L2DeepFoolAttack"),
    (ATTACKS["fast-gradient"], "l2", "L2FastGradientAttack"),
    (ATTACKS["fast-gradient"], "linf", "LinfFastGradientAttack"),
    (ATTACKS["pgd"], "linf", "LinfPGD"),
    (ATTACKS["salt-and-pepper"], "l2", "SaltAndPepperNoiseAttack"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm", "peer"), [pytest.param(*row, id=row[2]) for row in FOOLBOX])
def test_as_strong_as_foolbox(attack: Attack, norm: Norm, peer: str, digit_classifier: nn.Module) -> None:
    with warnings.catch_warnings():
        # Foolbox imports a name that SciPy has moved.
        warnings.simplefilter("ignore", DeprecationWarning)
        from foolbox import attacks
        from foolbox.models.pytorch import PyTorchModel
    digits = load_dataset("mnist/test")
    chosen = digits.measuring_order()[:150]
    images, labels = digits.floats(chosen), digits.labels[chosen]
    digit_classifier.requires_grad_(False)
    # Around these radii the attacks fool some images and not others; the study's are among them.
    radii = {"linf": (0.05, 0.1, 0.3), "l2": (0.3, 0.8, 1.5, 5.0, 10.0)}[norm]

    def stands(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Robust accuracy per radius, hardy's and Foolbox's."""
        threats = [ThreatModel(norm, eps) for eps in radii]
        rng = Randomness(seed, chosen)
        result = run_attack(digit_classifier, images, labels, attack, threats, rng=rng, precision="float32")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = PyTorchModel(digit_classifier, bounds=(0, 1), device="cpu")
            found, _, fooled = getattr(attacks, peer)()(model, images, labels, epsilons=list(radii))
        if attack.search == "smallest":
            # Foolbox would also cut a larger perturbation to the radius and count that; here the norm counts.
            norms = ThreatModel(norm, 1).distance(found[0], images)
            wrong = digit_classifier(found[0]).argmax(1) != labels
            fooled = torch.stack([wrong & (norms <= eps) for eps in radii])
        ours = torch.stack([(result.min_norm > eps).float().mean() for eps in radii])
        return ours, 1.0 - fooled.float().mean(1)

    # What draws noise for each image finds other images with each seed: there the means of three seeds are compared.
    seeds = range(1 if attack.gradients else 3)
    ours, theirs = (torch.stack(each).mean(0) for each in zip(*map(stands, seeds), strict=True))
    # Three images of 150: what the draws of noise decide.
    assert (ours <= theirs + 0.02).all(), (ours, theirs)
    assert ours.min() < ours.max()


def test_the_highest_loss_is_beyond_the_boundary_at_the_far_corner_of_the_ball() -> None:
    classifier, images = undecided(2), grey_images()
    labels, threat = answers(classifier, images), ThreatModel("linf", 0.2)
    found = highest_loss(classifier, images, labels, threat, rng=rng_of(len(images)), steps=80)
    ascent = (classifier.weight[1 - labels] - classifier.weight[labels]).sign().reshape(images.shape)
    torch.testing.assert_close(found, images + 0.2 * ascent.detach(), rtol=0, atol=1e-5)
    stopped = run(ATTACKS["pgd"], [threat], classifier, images, labels).images
    with torch.no_grad():
        ended, boundary = (cross_entropy(classifier(it), labels, reduction="none") for it in (found, stopped))
    assert bool((ended >= boundary - 1e-4).all())
    assert ended.mean() > 2 * boundary.mean()
