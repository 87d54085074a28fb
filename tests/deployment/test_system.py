"""Attacks on a whole bundle: what exists is found, what is impossible is not, and the bundle itself is the judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bundles import bundle_of
from helpers.classifiers import small_classifier
from scipy.optimize import linprog
from torch import Tensor, nn

from hardy.attacks import pgd
from hardy.data import load_dataset
from hardy.deployment import Bundle, attack_system
from hardy.deployment.attack import Effort, run_on_system
from hardy.deployment.preprocessing import as_seen
from hardy.deployment.system import Surrogate, System, has_gradient, in_box
from hardy.errors import ContractError, UsageError
from hardy.ood import DETECTORS, Detector, extract, fit_detector, register
from hardy.ood.method import Arrays, Doubles
from hardy.rng import Randomness
from hardy.threats import ThreatModel

SIDE, COUNT = 4, 30
CONFIDENCE = 0.8
QUICK: dict[str, Any] = {"steps": 40, "n_target_classes": 2, "n_queries": 0}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """A linear score, and the same in steps, which has no gradient."""

    @register(name="plane", title="linear", needs="penultimate")
    def plane(arrays: Arrays, features: object) -> Doubles:
        return features.members[0].penultimate.astype(np.float64) @ arrays["weight"]  # type: ignore[attr-defined]

    @register(name="stairs", title="linear in steps", needs="penultimate")
    def stairs(arrays: Arrays, features: object) -> Doubles:
        return np.floor(8 * plane(arrays, features)) / 8

    yield
    DETECTORS.remove("plane")
    DETECTORS.remove("stairs")


def linear(classes: int = 2, channels: int = 1, seed: int = 0) -> nn.Module:
    """Logits linear in the pixels, all the same for gray."""
    layer = nn.Linear(channels * SIDE * SIDE, classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(2 * torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer).eval()


def images_of(count: int = COUNT, channels: int = 1) -> Tensor:
    return 0.25 + 0.5 * torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def made(detector: str = "plane", *, quantile: float = 0.8, classes: int = 2, channels: int = 1) -> Bundle:
    network, images = linear(classes, channels), images_of(200, channels)
    weight = np.random.default_rng(2).normal(size=channels * SIDE * SIDE)
    fitted = Detector(detector, {"weight": weight} if detector in ("plane", "stairs") else {})
    labels = network(images).argmax(1)
    score = fitted.scores(extract(network, images))
    return bundle_of(
        network,
        fitted,
        images,
        labels,
        max_ood_score=float(np.quantile(score, quantile)),
        min_confidence=CONFIDENCE,
        alpha=0.02,
    )


class Planes:
    """The bundle as inequalities: answers ``label`` where the odds are at least ``least`` and the score is low."""

    def __init__(self, bundle: Bundle) -> None:
        weight, bias = (it.detach().double().numpy() for it in bundle.classifier[1].parameters())  # type: ignore[index]
        self.odds, self.shift = weight[1] - weight[0], bias[1] - bias[0]
        tau = 1.0 - bundle.conformal.arrays["threshold"][0]
        logit = [np.log(p / (1 - p)) for p in (CONFIDENCE, tau)]
        self.least = max(*logit, -logit[1])
        self.score, self.most = bundle.detector.arrays["weight"], bundle.thresholds.max_ood_score

    def distance(self, image: Tensor, label: int) -> float:
        """The smallest linf change with which ``label`` is answered, by linear programming."""
        sign, pixels = (1 if label else -1), SIDE * SIDE
        given = image.double().numpy().ravel()
        one = np.ones((pixels, 1))
        rows = np.vstack(
            [
                np.r_[-sign * self.odds, 0.0],
                np.r_[self.score, 0.0],
                np.hstack([np.eye(pixels), -one]),
                np.hstack([-np.eye(pixels), -one]),
            ]
        )
        limits = np.r_[sign * self.shift - self.least, self.most, given, -given]
        bounds = [(0, 1)] * pixels + [(0, None)]
        found = linprog(np.r_[np.zeros(pixels), 1.0], A_ub=rows, b_ub=limits, bounds=bounds)
        return float(found.fun) if found.success else np.inf


def needed(bundle: Bundle, images: Tensor, labels: Tensor | None) -> np.ndarray:
    planes = Planes(bundle)
    wanted = [(0, 1)] * len(images) if labels is None else [(1 - int(label),) for label in labels]
    return np.array([min(planes.distance(it, k) for k in ks) for it, ks in zip(images, wanted, strict=True)])


def assert_as_needed(broken: Tensor, distance: np.ndarray, eps: float, room: float = 1.1) -> None:
    found = broken.numpy()
    assert not found[distance > 1.001 * eps].any()
    assert found[distance * room <= eps].all()
    assert 3 <= found.sum() <= len(found) - 3


def test_wrong_answers_are_found_where_linear_programming_says_that_they_are() -> None:
    bundle, images = made(), images_of()
    labels = bundle.classifier(images).argmax(1)
    distance = needed(bundle, images, labels)
    eps = float(np.median(distance))
    result = attack_system(bundle, images, labels, eps=eps, **QUICK)
    assert_as_needed(result.broken, distance, eps)
    assert result.warnings == []
    answered = bundle.answer(as_seen(result.images, "resize"))
    assert (answered.answered & (answered.best != labels.numpy()))[result.broken.numpy()].all()


def test_outliers_are_moved_until_they_are_answered_as_far_as_that_is_possible() -> None:
    bundle, images = made(quantile=0.2), images_of()
    distance = needed(bundle, images, None)
    eps = float(np.median(distance[distance > 0]))
    result = attack_system(bundle, images, goal="answer", eps=eps, **QUICK)
    assert_as_needed(result.broken, distance, eps)
    assert ((result.min_norm == 0).numpy() == (distance < 1e-9)).all()


def test_what_is_answered_is_made_to_be_refused_at_the_distance_to_the_nearest_threshold() -> None:
    bundle, images = made(), images_of()
    planes, flat = Planes(bundle), images.flatten(1).double().numpy()
    odds, score = np.abs(flat @ planes.odds + planes.shift), flat @ planes.score
    distance = np.minimum(
        (odds - planes.least) / np.abs(planes.odds).sum(), (planes.most - score) / np.abs(planes.score).sum()
    ).clip(min=0)
    eps = float(np.median(distance[distance > 0]))
    result = attack_system(bundle, images, goal="abstain", eps=eps, **QUICK)
    assert_as_needed(result.broken, distance, eps)
    assert (result.prediction[result.broken] == -1).all()


def test_a_black_box_finds_what_a_detector_without_gradients_lets_through() -> None:
    bundle, images = made("stairs"), images_of(12)
    labels = bundle.classifier(images).argmax(1)
    distance = needed(bundle, images, labels)
    eps = 1.6 * float(np.median(distance))
    settings: dict[str, Any] = dict(QUICK, steps=10, n_queries=400)
    blind = attack_system(bundle, images, labels, eps=eps, **dict(settings, n_queries=0))
    found = attack_system(bundle, images, labels, eps=eps, **settings)
    assert "no gradient leads through the detector 'stairs'" in found.warnings[0]
    assert found.broken[torch.from_numpy(1.3 * distance <= eps)].all()
    assert found.broken.sum() > blind.broken.sum()
    assert not found.broken[torch.from_numpy(distance > 1.001 * eps)].any()


def test_where_nothing_is_refused_a_wrong_answer_is_what_the_classifier_gives() -> None:
    bundle, images = made(quantile=1.0), images_of()
    lenient = bundle.manifest.rules.model_copy(update={"max_ood_score": 1e9, "min_confidence": 0.0})
    bundle = Bundle(
        bundle.manifest.model_copy(update={"rules": lenient}),
        *(getattr(bundle, name) for name in ("classifier", "calibrator", "detector", "conformal", "reference")),
    )
    bundle.conformal.arrays["threshold"][:] = 0.5
    labels = bundle.classifier(images).argmax(1)
    eps = 0.03
    alone = pgd(bundle.classifier, images, labels, eps=eps)
    found = attack_system(bundle, images, labels, eps=eps, **QUICK)
    assert 3 <= alone.broken.sum() <= found.broken.sum() <= alone.broken.sum() + 1


def test_without_a_radius_nothing_changes() -> None:
    bundle, images = made(), images_of()
    labels = (bundle.classifier(images).argmax(1) + torch.arange(COUNT) % 2) % 2
    decisions = bundle.answer(as_seen(images, "resize"))
    wrong = attack_system(bundle, images, labels, eps=0.0, **QUICK)
    assert (wrong.broken.numpy() == (decisions.answered & (decisions.best != labels.numpy()))).all()
    refused = attack_system(bundle, images, goal="abstain", eps=0.0, **QUICK)
    assert (refused.broken.numpy() == ~decisions.answered).all()
    assert torch.equal(wrong.images, images)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_colors_other_norms_and_many_classes(norm: str) -> None:
    bundle, images = made("energy", classes=12, channels=3), images_of(8, 3)
    labels = bundle.classifier(images).argmax(1)
    eps = 2.0 if norm == "l2" else 8.0
    result = attack_system(bundle, images, labels, norm=norm, eps=[eps / 4, eps], **dict(QUICK, n_queries=20))
    assert result.broken.any()
    assert (result.min_norm[result.broken] <= eps).all()
    decisions = bundle.answer(as_seen(result.images, "resize"))
    assert (decisions.answered & (decisions.best != labels.numpy()))[result.broken.numpy()].all()


def test_what_is_found_depends_neither_on_the_batch_size_nor_on_the_company() -> None:
    bundle, images = made(), images_of(10)
    labels, streams = bundle.classifier(images).argmax(1), Randomness(3, torch.arange(10))

    def found(part: slice, batch_size: int) -> Tensor:
        threats = [ThreatModel("linf", 0.15)]
        result, _ = run_on_system(
            bundle,
            images[part],
            labels[part],
            "wrong",
            threats,
            rng=streams.select(torch.arange(10)[part]),
            effort=Effort(10, 1, 30),
            batch_size=batch_size,
        )
        return result.min_norm

    whole = found(slice(None), 500)
    assert torch.allclose(whole, found(slice(None), 3), atol=1e-6)
    assert torch.allclose(whole[4:7], found(slice(4, 7), 500), atol=1e-6)


@pytest.fixture(scope="module")
def digits() -> tuple[Bundle, Tensor, Tensor]:
    """A bundle that takes MNIST's form, with digits."""
    test, network = load_dataset("mnist/test"), small_classifier().eval().requires_grad_(False)
    images, labels = test.floats(slice(0, 100)), test.labels[:100]
    fitted = fit_detector("layers", extract(network, images), labels.numpy())
    limit = float(np.quantile(fitted.scores(extract(network, images)), 0.98))
    return bundle_of(network, fitted, images, labels, max_ood_score=limit, form="mnist"), images, labels


def test_a_system_answers_as_its_bundle_does(digits: tuple[Bundle, Tensor, Tensor]) -> None:
    bundle, images, _ = digits
    noise = 0.2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    for shown in (images, (images + noise).clamp(0, 1), 1 - images):
        decisions = bundle.answer(as_seen(shown, "mnist"))
        wanted = np.where(decisions.answered, decisions.best, 10)
        assert System(bundle)(shown).argmax(1).tolist() == wanted.tolist()


def test_what_is_searched_is_the_system_with_gradients(digits: tuple[Bundle, Tensor, Tensor]) -> None:
    bundle, images, _ = digits
    like = extract(bundle.classifier, images[:2])
    assert has_gradient(bundle, images[:2], like)
    true = System(bundle)(images)
    for kept in (None, 0.1):
        found = Surrogate(bundle, like, reserve=0.0, kept=kept)(images)
        close = (found - true).abs().amax(1) < 1e-2
        assert close.float().mean() > 0.85, kept
        assert (found.argmax(1) == true.argmax(1)).float().mean() > 0.9


def test_images_in_the_box_keep_the_form_of_mnist(digits: tuple[Bundle, Tensor, Tensor]) -> None:
    _, images, _ = digits
    noisy = (images + 0.3 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    boxed = in_box(noisy, 0.3)
    assert ((boxed > 0).any(3).sum(2) <= 20).all()
    assert (boxed == noisy)[boxed > 0].all()
    assert (in_box(images, 0.3) == images).float().mean() > 0.99


def test_digits_are_answered_wrongly_though_all_rules_look_on(digits: tuple[Bundle, Tensor, Tensor]) -> None:
    bundle, images, labels = digits
    few = slice(0, 8)
    result = attack_system(bundle, images[few], labels[few], eps=0.3, steps=20, n_target_classes=1, n_queries=10)
    decisions = bundle.answer(as_seen(result.images, "mnist"))
    wrong = decisions.answered & (decisions.best != labels[few].numpy())
    assert (wrong == result.broken.numpy()).all()
    assert wrong.any()


def test_mistakes_in_the_call_are_told() -> None:
    bundle, images = made(), images_of(3)
    with pytest.raises(UsageError, match="labels are missing"):
        attack_system(bundle, images, eps=0.1)
    with pytest.raises(UsageError, match="unknown goal 'fool'"):
        attack_system(bundle, images, eps=0.1, goal="fool")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not in l0"):
        attack_system(bundle, images, eps=1, norm="l0", goal="answer")
    with pytest.raises(ContractError, match="from 0 to 1"):
        attack_system(bundle, images, torch.tensor([0, 1, 2]), eps=0.1)
    with pytest.raises(ContractError, match="the bundle takes"):
        attack_system(bundle, images[:, :, :3], eps=0.1, goal="answer")
