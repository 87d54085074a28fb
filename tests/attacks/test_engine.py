"""The engine: it, never the attack, decides. Fast gradient and PGD against closed forms on linear classifiers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.attacking import COUNT, SIDE, answers, found_by, grey_images, linf, made, returning, rng_of, run, undecided
from torch import Tensor

from hardy.attacks import ATTACKS, Attack, get_attacks, run_attack
from hardy.attacks.engine import Precision
from hardy.errors import ContractError, UsageError
from hardy.threats import NORMS, Norm, ThreatModel
from hardy.validation import Classifier

# From the image itself, PGD goes straight to the nearest of the worst images of a linear classifier.
STRAIGHT = replace(ATTACKS["basic-iterative"], norms=("linf", "l2", "l1")).with_settings(steps=40, rel_step_size=1 / 30)


@pytest.mark.parametrize("attack", [ATTACKS["fast-gradient"], STRAIGHT, ATTACKS["pgd"]], ids=lambda it: it.title)
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", torch.inf)])
def test_a_linear_classifier_falls_where_its_margin_ends(attack: Attack, norm: Norm, dual: float) -> None:
    """It changes its answer at a distance of its margin over the dual norm of its weights (Hölder)."""
    if norm not in attack.norms:
        pytest.skip(f"{attack.name} does not work in {norm}")
    classifier, images = undecided(2), grey_images()
    with torch.no_grad():
        logits = classifier(images).double()
        weight = (classifier.weight[1] - classifier.weight[0]).double()
    critical = (logits[:, 1] - logits[:, 0]).abs() / torch.linalg.vector_norm(weight, ord=dual)
    # 40 steps of eps/30 from a random start need not come all the way.
    reach = 1 - 1e-3 if attack.takes("clean_gradient") else 0.8
    radii = [float(eps) for eps in critical.quantile(torch.linspace(0.1, 0.9, 5, dtype=torch.float64)) if eps < 0.3]
    assert radii
    norms = run(attack, [ThreatModel(norm, eps) for eps in radii]).min_norm
    assert (norms >= critical * (1 - 1e-3)).all()
    for eps in radii:
        within_reach = critical < reach * eps
        assert (norms[within_reach] <= eps).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "broken",
    [
        lambda images: images + 100.0,
        lambda images: images - 100.0,
        lambda images: 1.0 - images,
        lambda images: torch.full_like(images, torch.nan),
        lambda images: torch.full_like(images, torch.inf),
        lambda images: torch.where(torch.arange(SIDE) % 2 == 0, torch.nan, 1.0 - images),
        lambda images: torch.zeros_like(images),
    ],
)
def test_whatever_an_attack_returns_the_result_is_inside_the_ball(norm: Norm, broken) -> None:
    eps = 5.0 if norm == "l0" else 0.7
    images, threat = grey_images(), ThreatModel(norm, eps)
    result = run(made(returning(broken)), [threat])
    assert result.images.isfinite().all()
    assert ((result.images >= 0) & (result.images <= 1)).all()
    broken = result.min_norm.isfinite()
    change = (result.images.double() - images.double()).flatten(1)
    order = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    distance = torch.linalg.vector_norm(change, ord=order, dim=1)
    assert (distance <= eps * (1 + 1e-5)).all()
    assert torch.allclose(distance[broken], result.min_norm[broken], rtol=1e-5)
    assert (result.min_norm[broken] <= eps).all()
    assert torch.equal(result.images[~broken], images[~broken])


def test_a_broken_attack_still_fools_where_its_projection_does() -> None:
    result = run(made(returning(lambda images: 1.0 - images)), linf(0.2))
    assert result.min_norm.isfinite().any()


def test_success_is_decided_by_the_classifiers_own_answer() -> None:
    """An attack that finds nothing has no success, whatever it believes; what is found gets the class it is given."""
    assert run(made(returning(lambda images: images)), linf(0.3)).min_norm.isinf().all()
    classifier = undecided(2)
    result = run(ATTACKS["pgd"], linf(0.02, 0.3), classifier)
    labels = answers(classifier, grey_images())
    broken = result.min_norm.isfinite()
    assert broken.any()
    assert torch.equal(result.prediction, answers(classifier, result.images))
    assert torch.equal(result.prediction != labels, broken)
    assert torch.equal(result.clean_prediction, labels)


def test_what_is_wrong_already_has_norm_0_and_is_left_alone() -> None:
    seen = []

    def spy(_classifier: Classifier, images: Tensor, *rest, **more) -> Tensor:
        seen.append(images)
        return images

    classifier, images = undecided(2), grey_images()
    labels = answers(classifier, images)
    labels[::3] = 1 - labels[::3]
    result = run(made(spy), linf(0.3), classifier, labels=labels)
    assert (result.min_norm[::3] == 0).all()
    assert torch.equal(result.images, images)
    assert sum(len(batch) for batch in seen) == (labels == answers(classifier, images)).sum()


def test_what_falls_at_a_small_radius_has_fallen_at_every_larger_one() -> None:
    """This attack finds something within 0.1 only; with larger radii it gives up."""

    def faint_hearted(_classifier: Classifier, images: Tensor, _labels: Tensor, threat: ThreatModel, **more) -> Tensor:
        return 1.0 - images if threat.eps <= 0.1 else images

    alone = run(made(faint_hearted), linf(0.1))
    sweep = run(made(faint_hearted), linf(0.3, 0.1, 0.2))
    assert alone.min_norm.isfinite().any()
    assert torch.equal(sweep.min_norm, alone.min_norm)
    assert torch.equal(sweep.images, alone.images)


@pytest.mark.parametrize("name", ["fast-gradient", "pgd"])
def test_robust_accuracy_never_rises_with_the_radius(name: str) -> None:
    radii = [0.01, 0.02, 0.05, 0.1, 0.2]
    together = run(ATTACKS[name], linf(*radii), undecided(3))
    active = [int((together.min_norm > eps).sum()) for eps in radii]
    assert active == sorted(active, reverse=True)
    for eps, count in zip(radii, active, strict=True):
        alone = run(ATTACKS[name], linf(eps), undecided(3))
        assert count <= int((alone.min_norm > eps).sum())


def test_only_what_still_stands_is_attacked() -> None:
    sizes: dict[float, int] = {}

    def spy(_classifier: Classifier, images: Tensor, _labels: Tensor, threat: ThreatModel, **more) -> Tensor:
        assert len(images)
        sizes[threat.eps] = sizes.get(threat.eps, 0) + len(images)
        return 1.0 - images

    result = run(made(spy), linf(0.05, 0.1, 1.0))
    assert sizes[0.05] == COUNT
    assert sizes[0.1] == (result.min_norm > 0.05).sum()
    assert sizes.get(1.0, 0) == (result.min_norm > 0.1).sum()


def test_the_smallest_perturbation_is_looked_for_once_and_held_against_every_radius() -> None:
    calls = []

    def to_the_negative(_classifier: Classifier, images: Tensor, *rest, **more) -> Tensor:
        calls.append(len(images))
        return 1.0 - images

    attack = made(to_the_negative, search="smallest")
    result = run(attack, linf(0.05, 0.1, 0.2))
    assert calls == [COUNT]
    assert result.min_norm.isfinite().any()


def test_the_smallest_perturbation_ends_where_the_classifier_changes_its_answer() -> None:
    """On the way to the negative a linear classifier's margin falls evenly; bisection halves six times."""
    classifier, images = undecided(2), grey_images()
    labels = answers(classifier, images)
    result = run(made(returning(lambda images: 1.0 - images), search="smallest"), linf(0.2), classifier)
    way = ThreatModel("linf", 0.2).project(1.0 - images, images) - images

    def margin(of: Tensor) -> Tensor:
        with torch.no_grad():
            logits = classifier(of).double()
        return logits.gather(1, labels[:, None]).squeeze(1) - logits.gather(1, 1 - labels[:, None]).squeeze(1)

    share = margin(images) / (margin(images) - margin(images + way))
    broken = result.min_norm.isfinite()
    assert torch.equal(broken, (share > 0) & (share < 1))
    length = way.double().flatten(1).abs().amax(1)
    assert (result.min_norm[broken] >= (share * length)[broken] * (1 - 1e-4)).all()
    assert (result.min_norm[broken] <= ((share + 2**-6) * length)[broken] * (1 + 1e-4)).all()


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("name", ["fast-gradient", "pgd"])
def test_neither_the_batch_nor_the_order_of_examples_matters(name: str, precision: Precision) -> None:
    """The first images tell which precision the others are searched in first; that bends paths, not verdicts."""
    classifier, images = undecided(3), grey_images()
    labels = answers(classifier, images)
    threats = linf(0.01, 0.03, 0.1)
    attack = partial(run_attack, classifier, attack=ATTACKS[name], threats=threats, precision=precision)
    whole = attack(images, labels, rng=rng_of())
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
    shuffled = attack(images[order], labels[order], rng=rng_of().select(order), batch_size=7)
    for eps in (0.01, 0.03, 0.1):
        assert torch.equal(shuffled.min_norm <= eps, (whole.min_norm <= eps)[order])
    if precision == "float32":
        assert torch.allclose(shuffled.images, whole.images[order], atol=1e-5)


def test_the_random_start_depends_on_the_seed() -> None:
    starts = []

    def start(_classifier: Classifier, images: Tensor, _labels: Tensor, threat: ThreatModel, *, rng, **more) -> Tensor:
        starts.append(threat.random_start(images, rng))
        return images

    classifier, images = undecided(2), grey_images()
    for seed in (0, 0, 1):
        run_attack(
            classifier,
            images,
            answers(classifier, images),
            made(start),
            linf(0.3),
            rng=rng_of(seed=seed),
            precision="float32",
        )
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_nobody_is_attacked_where_all_are_wrong() -> None:
    def never(*arguments, **settings) -> Tensor:
        raise AssertionError("there is nobody to attack")

    classifier, images = undecided(3), grey_images()
    result = run(made(never), linf(0.1, 0.3), classifier, labels=(answers(classifier, images) + 1) % 3)
    assert (result.min_norm == 0).all()


def test_a_radius_of_0_fools_nobody() -> None:
    assert run(ATTACKS["pgd"], linf(0.0)).min_norm.isinf().all()


def test_images_outside_the_range_are_refused() -> None:
    with pytest.raises(ContractError, match=r"\[0, 1\]"):
        run(ATTACKS["pgd"], linf(0.1), images=grey_images() * 255)


@pytest.mark.parametrize(
    ("threats", "message"),
    [
        ([], "not in none"),
        ([ThreatModel("linf", 0.1), ThreatModel("l2", 1.0)], "all radii of an attack are in one norm, not in"),
        ([ThreatModel("l0", 3)], "attack 'pgd' works in linf, l2, l1, not in l0"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(threats: list[ThreatModel], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(ATTACKS["pgd"], threats)


@pytest.mark.parametrize("name", ["standart", "fast-gradiant"])
def test_a_name_that_nobody_has_is_met_with_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown attack '{name}'; did you mean (standard|fast-gradient)"):
        get_attacks(name, "linf")


def test_a_suite_works_in_the_norms_that_all_its_attacks_share() -> None:
    assert [attack.name for attack in get_attacks("standard", "l1")] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    with pytest.raises(UsageError, match="attack 'apgd-ce' works in linf, l2, l1, not in l0"):
        get_attacks("standard", "l0")


@pytest.mark.parametrize("eps", [0.1, 0.2])
@pytest.mark.parametrize("name", ["pgd", "basic-iterative", "momentum-iterative", "smoothed-pgd"])
def test_a_relative_step_size_is_a_share_of_eps(name: str, eps: float) -> None:
    """One step up a linear loss, from wherever the attack starts, and never more than eps from the image."""
    classifier, images = undecided(2), grey_images()
    attack = ATTACKS[name].with_settings(steps=1, rel_step_size=0.5)
    found = found_by(attack, classifier, images, answers(classifier, images), ThreatModel("linf", eps), rng_of())
    change = (found - images).abs()
    start = ThreatModel("linf", eps).random_start(images, rng_of()) - images if "pgd" in name else 0.0 * images
    assert float(change.max()) <= eps * (1 + 1e-5)
    assert torch.allclose((found - images - start).abs().amax((1, 2, 3)).max(), torch.tensor(0.5 * eps), rtol=1e-4)
