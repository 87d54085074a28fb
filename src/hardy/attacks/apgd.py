"""Auto-PGD: climbs from random starts, or towards one class after the other, as in AutoAttack.

linf and l2 after Croce and Hein, ICML 2020, arXiv:2003.01690; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from hardy.attacks.attack import Attack, Objective
from hardy.attacks.climb import ObjectiveOf, climb, into_l1
from hardy.attacks.objectives import GIVE_UP, OBJECTIVES, likeliest_wrong_classes, targeted_dlr
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

# In l1: radius as a multiple of eps, and the share of the steps spent there.
L1_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))

# The longest step from a warm start, as a multiple of eps, and the share of the steps.
WARM_STEP = 0.25
WARM_SHARE = 0.25


def apgd(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    restarts: Mapping[Norm, int],
    objective: str,
    give_up: float,
    start: Images | None = None,
) -> Images:
    """Climb an objective of :data:`hardy.attacks.objectives.OBJECTIVES`, from a new start for what still stands.

    Args:
        steps: of a climb.
        restarts: how many climbs.
        objective: its name.
        give_up: after three fifths of its steps a climb is given up where it would not reach 0 even at so many times
            the rate of its gains in the last fifth; infinity where 0 means nothing, as for the cross-entropy.
        start: where one climb begins instead of at random, with short steps and a quarter as many.
    """

    def objective_of(_: Tensor) -> Objective:
        return OBJECTIVES[objective]

    def run(rows: Tensor, restart: int) -> tuple[Images, Tensor]:
        streams = rng.select(rows).fold("restart", restart)
        return _run(classifier, images[rows], labels[rows], threat, streams, steps, objective_of, give_up)

    if start is not None:
        steps = math.ceil(WARM_SHARE * steps)
        found, _ = climb(classifier, images, labels, threat, start, steps, objective_of, give_up, longest=WARM_STEP)
        return found
    return _highest(images, run, restarts[threat.norm])


def apgd_targeted(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    targets: Mapping[Norm, int],
    give_up: float,
    start: Images | None = None,
) -> Images:
    """Climb the targeted DLR towards one wrong class after the other, the likeliest first.

    Arguments are those of :func:`apgd`; ``targets`` says how many classes. From ``start`` it is the likeliest there.
    """
    with torch.no_grad():
        count = targets[threat.norm] if start is None else 1
        classes = likeliest_wrong_classes(classifier(images if start is None else start), labels, count)

    def run(rows: Tensor, target: int) -> tuple[Images, Tensor]:
        streams = rng.select(rows).fold("target", target)
        return _run(
            classifier, images[rows], labels[rows], threat, streams, steps, towards(classes[rows, target]), give_up
        )

    if start is not None:
        nearest = towards(classes[:, 0])
        steps = math.ceil(WARM_SHARE * steps)
        found, _ = climb(classifier, images, labels, threat, start, steps, nearest, give_up, longest=WARM_STEP)
        return found
    return _highest(images, run, classes.shape[1])


def towards(wanted: Labels) -> ObjectiveOf:
    """The targeted DLR to one class for each row."""
    return lambda part: partial(targeted_dlr, targets=wanted[part])


def _highest(images: Images, run: Callable[[Tensor, int], tuple[Images, Tensor]], runs: int) -> Images:
    """One run after the other, each on the rows that no run before has fooled; of each row the highest image."""
    result, rows = images.clone(), torch.arange(len(images), device=images.device)
    highest = torch.full_like(images[:, 0, 0, 0], -torch.inf)
    for number in range(runs):
        found, loss = run(rows, number)
        higher = loss > highest[rows]
        result[rows[higher]], highest[rows[higher]] = found[higher], loss[higher]
        rows = rows[loss < torch.inf]
        if not len(rows):
            break
    return result


def _run(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    rng: Randomness,
    steps: int,
    objective_of: ObjectiveOf,
    give_up: float,
) -> tuple[Images, Tensor]:
    """One climb from a random start, as :func:`climb` returns it."""
    if threat.norm != "l1":
        start = threat.random_start(images, rng)
        return climb(classifier, images, labels, threat, start, steps, objective_of, give_up)
    start, loss = images + rng.normal(*images.shape[1:]), torch.empty(0)
    lengths = [math.ceil(share * steps) for _, share in L1_STAGES[:-1]]
    for (scale, _), length in zip(L1_STAGES, [*lengths, steps - sum(lengths)], strict=True):
        stage = ThreatModel("l1", scale * threat.eps)
        start = into_l1(start, images, stage)
        last = scale == 1.0
        start, loss = climb(
            classifier, images, labels, stage, start, length, objective_of, give_up if last else math.inf, retire=last
        )
    return start, loss


_RESTARTS: Mapping[Norm, int] = {"linf": 1, "l2": 1, "l1": 5}
_PAPERS = "Croce and Hein, ICML 2020, arXiv:2003.01690; l1: Croce and Hein, ICML 2021, arXiv:2103.01208"
APGD_CE = Attack(
    name="apgd-ce",
    title="Auto-PGD on the cross-entropy, 100 steps",
    function=apgd,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "restarts": _RESTARTS, "objective": "cross_entropy", "give_up": math.inf},
    warm_start=True,
)
APGD_DLR = Attack(
    name="apgd-dlr",
    title="Auto-PGD on the difference of logits ratio, 100 steps",
    function=apgd,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "restarts": _RESTARTS, "objective": "dlr", "give_up": GIVE_UP},
    warm_start=True,
)
APGD_TARGETED = Attack(
    name="apgd-t",
    title="Auto-PGD on the targeted difference of logits ratio, 100 steps a target",
    function=apgd_targeted,
    norms=("linf", "l2", "l1"),
    reference=_PAPERS,
    settings={"steps": 100, "targets": {"linf": 9, "l2": 9, "l1": 5}, "give_up": GIVE_UP},
    warm_start=True,
)
