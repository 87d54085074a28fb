"""Signs that robustness is an attack's failure: gradients that vanish or mislead, and what must not stand but does.

Athalye, Carlini and Wagner, ICML 2018, arXiv:1802.00420; Carlini et al. 2019, arXiv:1902.06705. Each sign needs little
more than an attack has measured already, no radius but its own, and no scale of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hardy.attacks.attack import Attack, steepest, value_and_gradient
from hardy.attacks.engine import AttackResult, run_attack
from hardy.attacks.objectives import log_odds_against
from hardy.rng import Randomness
from hardy.threats import ThreatModel, gray_radius
from hardy.validation import TOLERANCE, Images, Labels, frozen_evaluation

# Of the right answers; a few may differ by chance in where a search ends.
TOLERATED = 0.05
_FEW = 2
# At most so many standing images are attacked where no more than one class can stand.
_HOPELESS = 64
# Along the gradient, in multiples of the radius, the loss has to rise at one of these.
_AHEAD = (1.0, 0.1)
# What the logits of an image are scaled to, from the lowest to the highest.
_SPREAD = 16.0


class Signs(NamedTuple):
    """Of each image whether it shows a sign of masking, bool (N,) each; all but ``right`` only if it still stands.

    Attributes:
        right: answered rightly without any attack.
        zero_gradient: the gradient at the clean image is exactly 0.
        misleading_gradient: the loss rises no more along it than against it.
        random: the answer changes from call to call.
        stands_where_hopeless: PGD does not find that gray all over, inside the ball, is answered otherwise.
        black_box_alone: broken, but only by an attack that follows no gradient, after some that do.
    """

    right: Tensor
    zero_gradient: Tensor
    misleading_gradient: Tensor
    random: Tensor
    stands_where_hopeless: Tensor
    black_box_alone: Tensor


_WORDS = {
    "zero_gradient": "the gradient is exactly zero on {} of {} right answers, which withstood; who follows it sees "
    "nothing there",
    "misleading_gradient": "the loss does not rise along its own gradient on {} of {} right answers, which withstood",
    "random": "answers change from call to call on {} of {} right answers, which withstood; the gradient of one call "
    "misleads about the next",
    "stands_where_hopeless": "{} of {} right answers withstand PGD even in a ball that holds plain gray, which is "
    "answered otherwise",
    "black_box_alone": "an attack without gradients alone breaks {} of {} right answers",
}


@torch.no_grad()
def find_signs(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    outcome: AttackResult,
    attacks: Sequence[Attack],
    threat: ThreatModel,
    *,
    pgd: Attack,
    rng: Randomness,
    batch_size: int = 500,
) -> Signs:
    """Look at what attacks have left standing within their largest radius.

    Args:
        classifier: left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        outcome: what the attacks found.
        attacks: those that were run.
        threat: the norm and the largest radius.
        pgd: what is tried in a ball that leaves one class standing.
        rng: the streams of these examples.
        batch_size: how many images at once.
    """
    right = outcome.clean_prediction == labels
    standing = (outcome.min_norm > threat.eps).nonzero().squeeze(1)
    found = {name: torch.zeros_like(right) for name in Signs._fields[1:]}
    followed = [any(it.gradients for it in attacks[:place]) and not one.gradients for place, one in enumerate(attacks)]
    found["black_box_alone"] = torch.tensor([*followed, False], device=right.device)[outcome.attack]
    if not any(attack.gradients for attack in attacks):
        return Signs(right=right, **found)
    with frozen_evaluation(classifier):
        for part in standing.split(batch_size) if len(standing) else ():
            zero, misleading, random = _gradient_signs(classifier, images[part], labels[part], threat)
            found["zero_gradient"][part], found["random"][part] = zero, random
            found["misleading_gradient"][part] = misleading & ~zero & ~random
        if threat.norm in pgd.norms and len(standing):
            gray = torch.full_like(images[:1], 0.5)
            other = classifier(gray).argmax(1) != labels[standing]
            chosen = standing[other][:_HOPELESS]
            largest = max(gray_radius(threat.norm, images.shape[1:]), threat.eps)
            hopeless = run_attack(
                classifier,
                images[chosen],
                labels[chosen],
                pgd,
                [ThreatModel(threat.norm, largest)],
                rng=rng.select(chosen).fold("hopeless"),
                batch_size=batch_size,
            )
            found["stands_where_hopeless"][chosen] = ~hopeless.broken
    return Signs(right=right, **found)


def _gradient_signs(
    classifier: nn.Module, images: Images, labels: Labels, threat: ThreatModel
) -> tuple[Tensor, Tensor, Tensor]:
    logits = classifier(images)
    spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).clamp_min(1e-38)

    def objective(answers: Tensor, labels: Labels) -> Tensor:
        return log_odds_against(answers * (_SPREAD / spread), labels)

    again, gradient = value_and_gradient(classifier, images, labels, objective)
    flat = gradient.flatten(1)
    direction = steepest(gradient / flat.abs().amax(1).clamp_min(1e-38).reshape(-1, 1, 1, 1), threat.norm)
    rises = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for times in _AHEAD:
        step = times * threat.eps * direction
        ahead, behind = (objective(classifier((images + it).clamp(0, 1)), labels) for it in (step, -step))
        rises |= ahead > behind
    random = (again - logits).abs().amax(1) > TOLERANCE * spread.squeeze(1)
    return (flat == 0).all(1), ~rises, random


def masking_warnings(signs: Signs) -> list[str]:
    """What a reader of the robust accuracy must know."""
    return [
        f"gradients seem to be masked: {words}; robust accuracy is likely overstated"
        for words in in_words(signs._asdict())
    ]


def in_words(signs: Mapping[str, Tensor]) -> list[str]:
    """What the signs say, where more images show one than may by chance.

    Args:
        signs: by the names of :class:`Signs`, bool (N,) each.
    """
    right = int(signs["right"].sum())
    said = []
    for name, words in _WORDS.items():
        count = int(signs[name].sum())
        # A gradient of exactly zero is no accident, even on one image of few.
        if count > TOLERATED * right and (count > _FEW or name == "zero_gradient"):
            said.append(words.format(count, right))
    return said
