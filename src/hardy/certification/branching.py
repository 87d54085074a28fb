"""Branch and bound over ReLUs: decides what neither a bound nor an attack does, where the network is small.

A problem that is not certified becomes two, in which one neuron's input is at least 0 and at most 0: the one whose line
above costs the bound most (after Bunel et al., arXiv:1909.06588).
"""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hardy.certification.bounds import Ball, Boxes, crown
from hardy.certification.operations import Activation, Box
from hardy.certification.trace import Network
from hardy.validation import Classifier, Images

_AT_ONCE = 32


class Decision(NamedTuple):
    """Whether the label stays the answer everywhere in the ball.

    Attributes:
        verdict: ``unknown`` where the limit was reached, or what is left to split is no ReLU.
        image: the one that is answered otherwise, float32 (1, C, H, W).
        nodes: how many problems were bounded.
    """

    verdict: Literal["certified", "falsified", "unknown"]
    image: Images | None
    nodes: int


def branch_and_bound(
    network: Network,
    known: Boxes,
    ball: Ball,
    weights: Tensor,
    classifier: Classifier,
    label: int,
    *,
    nodes: int,
    iterations: int,
    seconds: float | None = None,
) -> Decision:
    """Decide one image.

    Args:
        network: traced.
        known: boxes with slacks, of one image.
        ball: of one image.
        weights: float32 (T, K), the margins that are not certified yet.
        classifier: judges what the relaxation finds.
        label: the right class.
        nodes: at most so many problems are bounded; this does not depend on the machine.
        iterations: of the optimization of each.
        seconds: a limit of time besides, which does.
    """
    relus = {
        number: it.source
        for number, it in enumerate(network.operations, 1)
        if isinstance(it, Activation) and it.is_relu
    }
    margins = weights[:, None]
    signs = {number: torch.zeros(len(weights), *network.shapes[number], device=weights.device) for number in relus}
    bound = torch.full((len(weights),), -torch.inf, dtype=torch.float64, device=weights.device)
    done, end = 0, None if seconds is None else time.monotonic() + seconds
    while len(margins):
        if done >= nodes or (end is not None and time.monotonic() > end):
            return Decision("unknown", None, done)
        # The worst first: where there is a counterexample, it is more likely there.
        order = bound.argsort(stable=True)
        now, later = order[: min(_AT_ONCE, nodes - done)], order[min(_AT_ONCE, nodes - done) :]
        here = {number: it[now] for number, it in signs.items()}
        rows = torch.zeros_like(now)
        boxes = _split(known.rows(rows), relus, here)
        found = crown(network, boxes, ball.rows(rows), margins[now], iterations=iterations, signs=here, losses=True)
        done += len(now)
        assert found.image is not None
        images = found.image.reshape(len(now), *ball.images.shape[1:]).clamp(0.0, 1.0)
        with torch.no_grad():
            fooled = (classifier(images).argmax(1) != label) & ball.threat.contains(
                images, ball.images.expand_as(images)
            )
        if bool(fooled.any()):
            return Decision("falsified", images[fooled][:1], done)
        left = torch.nonzero(~(found.lower[:, 0] > 0)).flatten()
        choice = _costliest({number: it[left] for number, it in found.losses.items()})
        if choice is None and len(left):
            return Decision("unknown", None, done)
        halves = {}
        for number, it in here.items():
            both = it[left].flatten(1).repeat(2, 1)
            if choice is not None:
                mine, place = choice[0] == number, choice[1]
                row = torch.nonzero(mine).flatten()
                both[row, place[row]], both[row + len(left), place[row]] = 1.0, -1.0
            halves[number] = both.reshape(-1, *it.shape[1:])
        signs = {number: torch.cat([it[later], halves[number]]) for number, it in signs.items()}
        margins = torch.cat([margins[later], margins[now][left].repeat(2, 1, 1)])
        bound = torch.cat([bound[later], found.lower[left, 0].repeat(2)])
    return Decision("certified", None, done)


def _split(known: Boxes, relus: dict[int, int], signs: dict[int, Tensor]) -> Boxes:
    """The boxes under what is assumed of the ReLUs' inputs."""
    values = [*known.values]
    for number, source in relus.items():
        lower, upper = values[source]
        values[source] = Box(
            torch.where(signs[number] > 0, lower.clamp_min(0.0), lower),
            torch.where(signs[number] < 0, upper.clamp_max(0.0), upper),
        )
    return Boxes(values, known.slacks)


def _costliest(losses: dict[int, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Per problem, the value and the place of the neuron to split; None where there is none in one of them."""
    if not losses:
        return None
    numbers = torch.tensor([*losses])
    best = [it[:, 0].flatten(1).max(1) for it in losses.values()]
    most = torch.stack([it.values for it in best])
    if not len(most[0]) or bool((most.amax(0) <= 0).any()):
        return None
    which = most.argmax(0)
    places = torch.stack([it.indices for it in best])
    return numbers.to(which.device)[which], places.gather(0, which[None])[0]
