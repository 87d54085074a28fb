"""Attacks on a whole bundle: classifier, calibrator, detector, prediction sets and preprocessing together.

The engine asks the bundle itself what it answers. Searches follow the gradient of the joint margin of all rules, as
adaptive attacks do (Tramèr et al., NeurIPS 2020, arXiv:2002.08347); and as parts may have none, there are also images
made against the classifier alone, and a black box that is told the true margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from hardy.attacks import Attack, AttackResult, apgd_ce, apgd_t, pgd, run_attacks, square
from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.objectives import margin
from hardy.attacks.pgd import highest_loss
from hardy.deployment.bundle import Bundle
from hardy.deployment.system import RESERVE, Surrogate, System, has_gradient, in_box
from hardy.errors import ContractError, UsageError, unknown
from hardy.models import device_of
from hardy.ood import extract
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels, check_images, frozen_evaluation

Goal: TypeAlias = Literal["wrong", "abstain", "answer"]
"""What the attacker wants: a wrong answer, no answer to what is answered, or an answer to what is refused."""

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
WEIGHTS = (1.0, 0.2)
"""How much the detector's score counts in one search after the other."""
_REFERENCE = "Tramèr et al., NeurIPS 2020, arXiv:2002.08347"
# The first step of an ascent, of the radius in each value; how much of the last direction stays.
_STEP, _MOMENTUM = 0.1, 0.75
_PROBES = 4
# In norms that bound no single value, how much each may change while what is bright stays bright.
_KEPT = 0.3


class Effort(NamedTuple):
    """How much is spent on each image.

    Attributes:
        steps: of each search along gradients.
        targets: how many wrong classes it is led to, one after the other.
        queries: of the black box; 0 leaves it out.
    """

    steps: int = 100
    targets: int = 9
    queries: int = 2000


class Found(NamedTuple):
    """What was found, and the names of the attacks that ``result.attack`` numbers."""

    result: AttackResult
    names: tuple[str, ...]


def attack_system(
    bundle: Bundle,
    images: Images | np.ndarray,
    labels: Labels | np.ndarray | None = None,
    *,
    eps: float | Sequence[float],
    norm: str = "linf",
    goal: Goal = "wrong",
    seed: int = 0,
    steps: int = 100,
    n_target_classes: int = 9,
    n_queries: int = 2000,
    batch_size: int = 500,
) -> AttackResult:
    """Look for images that make a whole bundle answer wrongly, abstain, or answer what belongs to no class.

    Args:
        bundle: as :func:`hardy.bundle` fits or :func:`load_bundle` reads it.
        images: float32 (N, C, H, W) in [0, 1], of the network's own size, as they would lie in files.
        labels: integers (N,), the true classes; only for the goal ``wrong``.
        eps: the radius, in units of the pixel range [0, 1]; or several.
        norm: ``linf``, ``l2``, ``l1``.
        goal: ``wrong``: an answer that is not the label; ``abstain``: no answer; ``answer``: any answer.
        seed: of the random numbers.
        steps: of each search along gradients.
        n_target_classes: how many wrong classes it is led to.
        n_queries: of the black box; 0 leaves it out.
        batch_size: images at once.

    Returns:
        An :class:`~hardy.attacks.AttackResult`: ``broken`` is where the goal is reached, ``min_norm`` 0 where it is on
        the clean image; of predictions, -1 stands for abstaining. A warning says where parts have no gradient.

    Raises:
        ContractError: images or labels are not as above.
        UsageError: a goal, a norm or a radius that makes no sense.

    Example:
        >>> import torch
        >>> from hardy.deployment import attack_system
        >>> images = torch.rand(2, *bundle.manifest.input)
        >>> result = attack_system(bundle, images, goal="answer", eps=0.1, steps=2, n_target_classes=1, n_queries=5)
        >>> result.broken.shape
        torch.Size([2])
    """
    if goal not in get_args(Goal):
        raise unknown("goal", goal, get_args(Goal))
    if norm not in NORMS:
        raise UsageError(f"systems are attacked in {', '.join(NORMS)}, not in {norm}")
    threats = [ThreatModel.checked(norm, radius) for radius in np.atleast_1d(eps).astype(float).tolist()]
    device = device_of(bundle.classifier)
    given = torch.as_tensor(images).to(device)
    check_images(given)
    if tuple(given.shape[1:]) != bundle.manifest.input:
        raise ContractError(f"images of shape {tuple(given.shape[1:])}; the bundle takes {bundle.manifest.input}")
    classes = None
    if goal == "wrong":
        if labels is None:
            raise UsageError("labels are missing: an answer is wrong where it is not the label")
        classes = torch.as_tensor(labels).to(device).long()
        count = len(bundle.manifest.classes)
        if classes.shape != given.shape[:1] or ((classes < 0) | (classes >= count)).any():
            raise ContractError(f"labels: they are integers from 0 to {count - 1}, one per image")
    rng = Randomness(seed, torch.arange(len(given), device=device), ("attack",))
    return run_on_system(
        bundle, given, classes, goal, threats, rng=rng, effort=Effort(steps, n_target_classes, n_queries),
        batch_size=batch_size,
    ).result  # fmt: skip


def run_on_system(
    bundle: Bundle,
    images: Images,
    labels: Labels | None,
    goal: Goal,
    threats: Sequence[ThreatModel],
    *,
    rng: Randomness,
    effort: Effort,
    batch_size: int = 500,
) -> Found:
    """:func:`attack_system` with checked arguments; ``rng`` are the streams of these examples."""
    system = System(bundle, batch_size)
    with frozen_evaluation(bundle.classifier):
        right = _right(images, labels, goal, system.abstains)
        warnings: list[str] = []
        attacks = _attacks(system, images, goal, effort, warnings)
        result = run_attacks(
            system, images, right, attacks, threats, rng=rng.fold(goal), batch_size=batch_size, precision="float32"
        )
    for found in (result.prediction, result.clean_prediction):
        found[found == system.abstains] = -1
    result.warnings[:] = warnings
    return Found(result, tuple(attack.name for attack in attacks))


def searches(steps: int, targets: int) -> int:
    """How many gradients are taken of an image at most, in search of a wrong answer, which costs most."""
    return steps * (2 * targets + 2 * len(WEIGHTS) + 4) + 40 * (1 + len(WEIGHTS))


def _right(images: Images, labels: Labels | None, goal: Goal, abstains: int) -> Labels:
    """int64 (N, A): the answers that the attacker does not want; abstaining is the last class of a system."""
    count, device = len(images), images.device
    if goal == "abstain":
        return torch.arange(abstains, device=device).expand(count, -1)
    nothing = torch.full((count, 1), abstains, device=device)
    return nothing if labels is None else torch.cat([labels[:, None], nothing], dim=1)


def _attacks(system: System, images: Images, goal: Goal, effort: Effort, warnings: list[str]) -> list[Attack]:
    """What is run, in order, each on what those before have left."""
    bundle, like = system.bundle, extract(system.bundle.classifier, images[:_PROBES])
    in_form = bundle.manifest.preprocessing.form == "mnist"
    if len(images) and not has_gradient(bundle, images[:_PROBES], like):
        detector = bundle.manifest.detector
        warnings.append(f"no gradient leads through the detector '{detector}'; a black box alone searches against it")

    def surrogate(threat: ThreatModel, *, boxed: bool, weight: float = 1.0, stand_ins: bool = False) -> Classifier:
        reserve = RESERVE if goal == "abstain" else -RESERVE
        kept = _kept(threat) if boxed else None
        return Surrogate(bundle, like, reserve=reserve, weight=weight, kept=kept, stand_ins=stand_ins)

    def searching(attack: Attack, words: str, *, boxed: bool, **how: Any) -> Attack:
        return _searching(attack, words, partial(surrogate, boxed=boxed, **how), boxed=boxed)

    steps = {"steps": effort.steps}
    ce, towards, descent, black_box = (it.attacks[0] for it in (apgd_ce, apgd_t, pgd, square))
    ce, descent = ce.with_settings(**steps), descent.with_settings(**steps)
    towards = towards.with_settings(**steps, n_target_classes=effort.targets)
    by_small_steps = Attack("ascent", "gradient ascent by small steps", ascent, NORMS, _REFERENCE, settings=steps)
    # An image that keeps MNIST's form is seen as it is; any other is cropped and centered first.
    boxed = in_form and goal == "wrong"
    found = [searching(ce, "system", boxed=boxed)]
    ascents = [searching(by_small_steps, f"system, weight {it:g}", boxed=boxed, weight=it) for it in WEIGHTS]
    if goal == "wrong":
        plain = Attack("highest-loss", "PGD to its highest loss", highest_loss, NORMS, descent.reference)
        alone = [
            _searching(it, "classifier", lambda _: bundle.classifier, boxed=boxed, labels=_label)
            for it in (plain, ce, towards)
        ]
        found = [
            *alone,
            *found,
            *(
                _after(alone[0], searching(by_small_steps, f"system, weight {it:g}", boxed=boxed, weight=it))
                for it in WEIGHTS
            ),
            searching(descent, "stand-ins", boxed=boxed, stand_ins=True),
        ]
    found += ascents
    if goal != "abstain":
        found.append(searching(towards, "system", boxed=boxed))
    if in_form and goal != "abstain":
        # The other way: what is preprocessed where the rest keeps its form, and the reverse.
        found.append(searching(ce, "system and preprocessing" if boxed else "system, in form", boxed=not boxed))
    if effort.queries:
        asked = black_box.with_settings(n_queries=effort.queries)
        found.append(_searching(asked, "system", lambda _: system, boxed=boxed))
    return found


def ascent(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    origin: Images | None = None,
    steps: int = 50,
) -> Images:
    """Along the gradient itself, by steps that shrink to nothing, from ``origin`` or the image; the best on the way.

    The sign of a gradient, which attacks in linf usually follow, moves every pixel, and that is what detectors notice.
    """
    current = images if origin is None else origin
    best, highest = current.clone(), images.new_full((len(images),), -torch.inf)
    direction = torch.zeros_like(images)
    values = images[0].numel() if len(images) else 1
    length = _STEP * threat.eps * {"linf": values**0.5, "l2": 1.0}.get(threat.norm, 1 / 3)
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(classifier, current, labels, margin)
        reached = margin(logits, labels)
        better = reached > highest
        best[better], highest = current[better], torch.maximum(reached, highest)
        direction = steepest(_MOMENTUM * direction + steepest(gradient, "l2"), "l2")
        shrunk = 0.5 * length * (1.0 + math.cos(math.pi * step / max(steps, 1)))
        current = threat.project(current + shrunk * direction, images)
    return best


def _searching(
    attack: Attack,
    words: str,
    search_of: Callable[[ThreatModel], Classifier],
    *,
    boxed: bool,
    labels: Callable[[Labels], Labels] = lambda labels: labels,
) -> Attack:
    """An attack that searches something else than the system, which the engine asks; boxed, in MNIST's form."""

    @wraps(attack.function)
    def function(_: object, images: Images, right: Labels, threat: ThreatModel, **keywords: Any) -> Images:
        search = search_of(threat)

        def in_form(images: Images) -> Tensor:
            return search(_in_box(images, threat))

        found = attack.function(in_form if boxed else search, images, labels(right), threat, **keywords)
        return _in_box(found, threat) if boxed else found

    return replace(attack, name=f"{attack.name} on {words}", function=function, gradients=False)


def _after(first: Attack, then: Attack) -> Attack:
    """The second attack from where the first has ended: where the classifier alone errs most surely, say."""

    def function(_: object, images: Images, right: Labels, threat: ThreatModel, *, rng: Randomness) -> Images:
        start = first.function(_, images, right, threat, rng=rng, **first.settings)
        return then.function(_, images, right, threat, **{**then.settings, "origin": threat.project(start, images)})

    return Attack(f"{then.name} after {first.name}", then.title, function, NORMS, then.reference, gradients=False)


def _label(right: Labels) -> Labels:
    """The label alone, for an attack on the classifier."""
    return right[:, 0]


def _in_box(images: Images, threat: ThreatModel) -> Images:
    return in_box(images.cpu(), _kept(threat)).to(images.device)


def _kept(threat: ThreatModel) -> float:
    return threat.eps if threat.norm == "linf" else _KEPT
