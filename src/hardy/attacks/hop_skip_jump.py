"""HopSkipJump: an attack that is told the predicted class and nothing else.

Chen, Jordan and Wainwright, IEEE S&P 2020, arXiv:1904.02144.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels

Fools = Callable[[Images, Tensor], Tensor]
"""From images and the rows that they belong to, int64, to bool: which are classified wrongly."""

# Images of noise, bright, even and dark in turn, that are tried as a start before an inverted, a black and a white one.
_NOISE_STARTS = 25
# How far probes lie from the boundary, in units of the distance to the image. The paper's lie 1/D of it away, for D
# values: next to nothing, so that a classifier that rounds its input answers the same to nearly all of them.
_PROBE = 0.2
_HALVINGS = 25
# So many probes per row, and so many images in all, are classified at once.
_TOGETHER = 32
_BATCH = 512


@register(
    title="HopSkipJump, 40 steps, from the predicted class alone",
    norms=("linf", "l2"),
    reference="Chen, Jordan and Wainwright, IEEE S&P 2020, arXiv:1904.02144",
    search="smallest",
    gradients=False,
)
@torch.no_grad()
def hop_skip_jump(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int = 40,
    initial_num_evals: int = 100,
) -> Images:
    """Walks along the boundary, nearer to the image step by step, in the direction that random probes vote for.

    It is told the predicted class and nothing else.

    Args:
        steps: each goes to the boundary, estimates the direction there, and goes along it as far as the error lasts.
        initial_num_evals: how many probes the first step takes; step t takes that times the root of t.
    """

    def fools(points: Images, rows: Tensor) -> Tensor:
        return classifier(points).argmax(1) != labels[rows]

    result, started = _start(fools, images, rng)
    rows = started.nonzero().squeeze(1)
    if not len(rows):
        return result
    images, rng = images[rows], rng.select(rows)
    current = _to_boundary(fools, result[rows], images, rows, threat)
    best, best_norm = current, threat.distance(current, images)
    pixels = images[0].numel()
    for step in range(1, steps + 1):
        distance = threat.distance(current, images)
        probe = _PROBE * distance / (math.sqrt(pixels) if threat.norm == "l2" else 1.0)
        count = round(initial_num_evals * math.sqrt(step))
        votes = _votes(fools, current, rows, probe, count, rng.fold("step", step))
        direction = votes.sign() if threat.norm == "linf" else votes
        current = _jump(fools, current, rows, direction, distance / math.sqrt(step))
        current = _to_boundary(fools, current, images, rows, threat)
        norm = threat.distance(current, images)
        nearer = norm < best_norm
        best = torch.where(nearer.reshape(-1, 1, 1, 1), current, best)
        best_norm = torch.minimum(norm, best_norm)
    result[rows] = best
    return result


def _start(fools: Fools, images: Images, rng: Randomness) -> tuple[Images, Tensor]:
    """An image that is classified wrongly, far away, for each row; and bool (N,), where one was found."""
    result, found = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    noise = rng.fold("start")
    for attempt in range(_NOISE_STARTS + 3):
        rows = (~found).nonzero().squeeze(1)
        if not len(rows):
            break
        match attempt - _NOISE_STARTS:
            case 0:
                candidates = 1.0 - images[rows]
            case 1 | 2 as bright:
                candidates = torch.full_like(images[rows], bright - 1.0)
            case _:
                candidates = noise.select(rows).uniform(*images.shape[1:], draw=attempt) ** 4.0 ** (attempt % 3 - 1)
        wrong = fools(candidates, rows)
        result[rows[wrong]], found[rows[wrong]] = candidates[wrong], True
    return result, found


def _to_boundary(fools: Fools, points: Images, images: Images, rows: Tensor, threat: ThreatModel) -> Images:
    """The nearest point to the image, on the way there from ``points``, that is still classified wrongly.

    In l2 the way is a line; in linf the change is cut at a smaller and smaller size.
    """
    pixels = images[0].numel()
    halvings = math.ceil(math.log2(pixels) * (1.5 if threat.norm == "l2" else 2.0))
    wide = (-1, 1, 1, 1)
    distance = threat.distance(points, images).reshape(wide)

    def at(share: Tensor) -> Images:
        if threat.norm == "l2":
            return torch.lerp(images, points, share.reshape(wide))
        cut = share.reshape(wide) * distance
        return torch.minimum(torch.maximum(points, images - cut), images + cut)

    low, high = torch.zeros(len(rows), device=rows.device), torch.ones(len(rows), device=rows.device)
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        wrong = fools(at(middle), rows)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return torch.where(high.reshape(wide) < 1.0, at(high), points)


def _votes(fools: Fools, current: Images, rows: Tensor, probe: Tensor, count: int, rng: Randomness) -> Tensor:
    """The direction of unit length in which the classifier errs more: the mean of probes, by what it says of each.

    ``probe``, (N,), is how far a probe changes each value.
    """
    parts = torch.arange(len(rows), device=rows.device).split(_BATCH // _TOGETHER)
    return torch.cat([_votes_of(fools, current[p], rows[p], probe[p], count, rng.select(p)) for p in parts])


def _votes_of(fools: Fools, current: Images, rows: Tensor, probe: Tensor, count: int, rng: Randomness) -> Tensor:
    shape, pixels = current.shape, current[0].numel()
    size = probe.reshape(-1, 1, 1)
    base = current.flatten(1)[:, None]
    summed, signed, balance = torch.zeros_like(base), torch.zeros_like(base), torch.zeros_like(size)
    for draw, first in enumerate(range(0, count, _TOGETHER)):
        number = min(_TOGETHER, count - first)
        points = (base + size * _random_signs(rng, number, pixels, draw)).clamp_(0.0, 1.0)
        moves = (points - base) / size
        wrong = fools(points.reshape(-1, *shape[1:]), rows.repeat_interleave(number)).reshape(len(rows), number, 1)
        says = 2.0 * wrong - 1.0
        summed += moves.sum(1, keepdim=True)
        signed += (says * moves).sum(1, keepdim=True)
        balance += says.sum(1, keepdim=True)
    # Unless all probes say the same, their mean answer says nothing about the direction.
    mean = balance / count
    votes = torch.where(mean.abs() < 1.0, signed - mean * summed, signed)
    return (votes / votes.norm(dim=2, keepdim=True).clamp_min(1e-12)).reshape(shape)


def _random_signs(rng: Randomness, count: int, pixels: int, draw: int) -> Tensor:
    """float32 (N, count, pixels), -1 or 1; one bit each, as the probes take many."""
    words = -(-pixels // 32)
    bits = rng.bits(count * words, draw=draw).reshape(-1, count, words, 1)
    bits = (bits >> torch.arange(32, device=bits.device)) & 1
    return (2 * bits.flatten(2)[..., :pixels] - 1).to(torch.float32)


def _jump(fools: Fools, current: Images, rows: Tensor, direction: Tensor, length: Tensor) -> Images:
    """From ``current`` along ``direction``, half as far each time that it ends where nothing is wrong any more."""
    result = current.clone()
    left = torch.arange(len(rows), device=rows.device)
    for halving in range(_HALVINGS):
        step = (length[left] / 2**halving).reshape(-1, 1, 1, 1)
        candidates = (current[left] + step * direction[left]).clamp_(0.0, 1.0)
        wrong = fools(candidates, rows[left])
        result[left[wrong]] = candidates[wrong]
        left = left[~wrong]
        if not len(left):
            break
    return result
