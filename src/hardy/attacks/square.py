"""Square Attack: random search over square patches that needs logits, no gradient, as in AutoAttack.

Andriushchenko et al., ECCV 2020, arXiv:1912.00049; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hardy.attacks.objectives import ABORT_FACTOR, cannot_succeed_in_time, margin
from hardy.attacks.projections import project_l1_in_box
from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels

# Patches shrink to half their area after each of these queries.
SHRINKS_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Rows wait for each other, and random numbers are made, after at most so many queries.
_BLOCK = 250
# At least so many images are classified at once: where fewer are left, each looks up to so many queries ahead.
_BATCH = 128
_AHEAD = 8
# Proposals for larger windows change something nearly always, so that is not looked at.
_LARGEST_LOOKED_AT = 4
# Before so many queries patches are still large, and gains come unevenly.
_ABORTS_AFTER = 2000
# Outside linf one tenth of the queries may pass without a gain: what would succeed at so many times the mean rate since
# the first tenth goes on as well.
_STEADY = 2.0
# How often a query takes 32 random bits, besides once for each channel's sign: two windows and an orientation.
_BITS = 3
_TINY = 1e-12


@dataclass
class _Search:
    """Of each example that is not broken: the best image so far, and what comes next.

    ``images`` and ``best`` are (N, C, H*W); ``margins`` is how far the best wrong logit is above the right one,
    ``marked_margins`` the same some queries ago, ``early_margins`` after the first tenth of all; ``random_bits``, int64
    (N, B, W), are 32 bits each for a block of queries, and ``place`` says which of them is next.
    """

    rows: Tensor
    images: Tensor
    best: Tensor
    labels: Labels
    margins: Tensor
    marked_margins: Tensor
    early_margins: Tensor
    random_bits: Tensor
    place: Tensor

    def select(self, keep: Tensor) -> _Search:
        return _Search(*(getattr(self, entry.name)[keep] for entry in fields(self)))


class _Moves(NamedTuple):
    """How the queries of a block propose, and, for small windows in linf, which proposals change any value."""

    propose: Callable[[Tensor, Tensor, Tensor], Tensor]
    changes: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


@register(
    title="Square Attack, 5,000 queries",
    norms=("linf", "l2", "l1"),
    reference="Andriushchenko et al., ECCV 2020, arXiv:1912.00049; l1: Croce and Hein, ICML 2021, arXiv:2103.01208",
    gradients=False,
)
@torch.no_grad()
def square(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    n_queries: int = 5000,
    p_init: float = 0.8,
    abort_factor: float = ABORT_FACTOR,
) -> Images:
    """Random search that changes one square patch per query and keeps what brings a wrong class nearer.

    The result is that of one query after the other. Yet a proposal that changes nothing is not asked about, and where
    few images are left, the next proposals are asked about together, as most are refused.

    Args:
        n_queries: how many patches are proposed.
        p_init: share of the image that the first patches cover.
        abort_factor: after two fifths of the queries, and 2,000 at least, a search is aborted where it would not
            succeed even at so many times the rate of its gains in the last tenth, nor at twice that since the first;
            infinity never aborts.
    """
    # A search of as many queries has ended at a warm start: patches are as small as after those.
    asked = 0
    if start is not None:
        asked, n_queries = n_queries, math.ceil(n_queries / 20)
    shape = images.shape[1:]
    ask = partial(_ask, classifier, shape)
    result = images.clone()
    flat = images.flatten(2)
    best = _start(flat, threat, rng.fold("start"), shape[1:]) if start is None else start.flatten(2).clone()
    rows = torch.arange(len(images), device=images.device)
    margins = ask(best, labels)
    state = _Search(rows, flat, best, labels, margins, margins, margins, rows[:, None, None], rows)
    tenth = max(n_queries // 10, 1)
    shrinks = (after + 1 for after in SHRINKS_AFTER if after < n_queries)
    cuts = sorted({n_queries, *range(0, n_queries, _BLOCK), *range(0, n_queries, tenth), *shrinks})
    for block, (first, last) in enumerate(pairwise(cuts)):
        if first % tenth == 0:
            if first >= 4 * tenth and asked + first >= _ABORTS_AFTER:
                left, gone = (n_queries - first) / tenth, first / tenth - 1
                aborted = cannot_succeed_in_time(state.margins, state.marked_margins, left, abort_factor)
                aborted &= cannot_succeed_in_time(state.margins, state.early_margins, left / gone, _STEADY)
                result[state.rows[aborted]] = state.best[aborted].reshape(-1, *shape)
                state = state.select(~aborted)
            state.marked_margins = state.margins.clone()
            if first <= tenth:
                state.early_margins = state.marked_margins
        if not len(state.rows):
            break
        random_bits = rng.select(state.rows).bits((last - first) * (_BITS + shape[0]), draw=block)
        state.random_bits = random_bits.reshape(len(random_bits), last - first, -1)
        state.place = torch.zeros_like(state.rows)
        moves = _moves(asked + first, p_init, threat, shape[1:], images.device)
        while True:
            broken = state.margins > 0
            if broken.any():
                result[state.rows[broken]] = state.best[broken].reshape(-1, *shape)
                state = state.select(~broken)
            active = (state.place < last - first).nonzero().squeeze(1)
            if not len(active):
                break
            _advance(ask, moves, state, active)
    result[state.rows] = state.best.reshape(-1, *shape)
    return result


def _ask(classifier: Classifier, shape: torch.Size, flat: Tensor, labels: Labels) -> Tensor:
    return margin(classifier(flat.reshape(-1, *shape)), labels)


def _advance(ask: Callable[[Tensor, Labels], Tensor], moves: _Moves, state: _Search, active: Tensor) -> None:
    """Ask about the next proposals of each active row, and take the first that is better than what the row has."""
    part = state if len(active) == len(state.rows) else state.select(active)
    ahead = max(1, min(_AHEAD, _BATCH // len(active)))
    chosen, fresh, place = _upcoming(moves, part, ahead)
    random_bits = _bits_at(part, chosen).flatten(0, 1)
    images, best, labels = (
        value if ahead == 1 else value.repeat_interleave(ahead, 0) for value in (part.images, part.best, part.labels)
    )
    candidates = moves.propose(images, best, random_bits)
    answer = ask(candidates, labels).reshape(-1, ahead)
    better = fresh & (answer > part.margins[:, None])
    improved = better.any(1).nonzero().squeeze(1)
    first = better[improved].to(torch.uint8).argmax(1)
    state.best[active[improved]] = candidates[improved * ahead + first]
    state.margins[active[improved]] = answer[improved, first]
    place[improved] = chosen[improved, first] + 1
    state.place[active] = place


def _upcoming(moves: _Moves, part: _Search, ahead: int) -> tuple[Tensor, Tensor, Tensor]:
    """The next proposals to ask about, (N, ahead); which of them change something; and which one follows."""
    length = part.random_bits.shape[1]
    look = ahead if moves.changes is None else 2 * ahead + 2
    looked = part.place[:, None] + torch.arange(look, device=part.place.device)
    fresh = looked < length
    looked = looked.clamp_max(length - 1)
    if moves.changes is None:
        return looked, fresh, part.place + ahead
    fresh &= moves.changes(part.images, part.best, _bits_at(part, looked))
    order = fresh.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :ahead]
    chosen = looked.gather(1, order)
    # Where more change something than are asked about, the rest has its turn later.
    place = torch.where(fresh.sum(1) > ahead, chosen[:, -1], looked[:, -1]) + 1
    return chosen, fresh.gather(1, order), place


def _bits_at(part: _Search, places: Tensor) -> Tensor:
    return part.random_bits.gather(1, places[..., None].expand(-1, -1, part.random_bits.shape[2]))


def _moves(query: int, p_init: float, threat: ThreatModel, size: torch.Size, device: torch.device) -> _Moves:
    side = _side(query, p_init, threat, size)
    if threat.norm == "linf":
        both = {"threat": threat, "side": side, "size": size}
        return _Moves(partial(_flip, **both), partial(_changes, **both) if side <= _LARGEST_LOOKED_AT else None)
    patches = _patch_pair(side, threat, device)
    return _Moves(partial(_redistribute, threat=threat, patches=patches, side=side, size=size))


def _side(query: int, p_init: float, threat: ThreatModel, size: torch.Size) -> int:
    share = p_init / 2 ** sum(query > after for after in SHRINKS_AFTER)
    side = round(math.sqrt(share * size[0] * size[1]))
    if threat.norm != "linf":
        side = max(side, 3) | 1
    return min(max(side, 1), *size)


def _start(images: Tensor, threat: ThreatModel, rng: Randomness, size: torch.Size) -> Tensor:
    """linf: vertical stripes. Else: a grid of patches."""
    channels, (height, width) = images.shape[1], size
    if threat.norm == "linf":
        stripes = rng.signs(channels, 1, width).expand(-1, -1, height, -1).flatten(2)
        return (images + threat.eps * stripes).clamp_(0.0, 1.0)
    side = max(min(size) // 5, 1)
    down, across = min(height // side, 5), min(width // side, 5)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    both = _patch_pair(side, threat, images.device).reshape(2, side, side)
    upright = rng.fold("upright").integers(2, down * across)
    tiles = both[upright][:, None] * rng.fold("sign").signs(channels, down * across)[..., None, None]
    tiles = tiles.reshape(len(images), channels, down, across, side, side).transpose(3, 4)
    change = images.new_zeros(len(images), channels, height, width)
    area = change[:, :, top : top + down * side, left : left + across * side]
    area.copy_(tiles.reshape(area.shape))
    return _within(images, change.flatten(2), threat)


def _changes(
    images: Tensor, best: Tensor, random_bits: Tensor, threat: ThreatModel, side: int, size: torch.Size
) -> Tensor:
    """bool (N, P): whether a proposal, of random bits (N, P, W), changes any value."""
    window = _window(random_bits[..., 0], side, size).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    here = images.gather(2, window).unflatten(2, (-1, side * side))
    now = best.gather(2, window).reshape(here.shape)
    values = (here + threat.eps * _signs(random_bits).transpose(1, 2)).clamp_(0.0, 1.0)
    return (values != now).any(3).any(1)


def _flip(
    images: Tensor, best: Tensor, random_bits: Tensor, threat: ThreatModel, side: int, size: torch.Size
) -> Tensor:
    """One window goes to one face of the ball in each channel."""
    window = _window(random_bits[:, 0], side, size)[:, None].expand(-1, images.shape[1], -1)
    values = (images.gather(2, window) + threat.eps * _signs(random_bits)).clamp_(0.0, 1.0)
    return best.scatter(2, window, values)


def _redistribute(
    images: Tensor,
    best: Tensor,
    random_bits: Tensor,
    threat: ThreatModel,
    patches: Tensor,
    side: int,
    size: torch.Size,
) -> Tensor:
    """One window gives its share of the perturbation to another, which gets a new patch on top of what it has."""
    channels = images.shape[1]
    change = best - images
    here, there = (_window(random_bits[:, place], side, size)[:, None].expand(-1, channels, -1) for place in (0, 1))
    old = change.gather(2, here)
    rest = change.scatter(2, here, 0.0)
    power = 2 if threat.norm == "l2" else 1
    freed = _mass_of(old, power) + _mass_of(rest.gather(2, there), power)
    unused = (threat.eps**power - _mass_of(change, power).sum(1, keepdim=True)).clamp_min(0.0)
    patch = patches[random_bits[:, 2] >> 31][:, None] * _signs(random_bits)
    patch = patch + old / _length_of(old, power)
    # In l1 the projection takes away what is too much.
    mass = freed + unused / channels if power == 2 else channels * freed + unused
    patch = patch / _length_of(patch, power) * mass ** (1.0 / power)
    return _within(images, rest.scatter_(2, there, 0.0).scatter_(2, here, patch), threat)


def _within(images: Tensor, change: Tensor, threat: ThreatModel) -> Tensor:
    """Onto the sphere in l2, into the ball in l1; then into [0, 1]."""
    flat = change.flatten(1)
    if threat.norm == "l2":
        flat = flat * (threat.eps / flat.norm(dim=1, keepdim=True).clamp_min(_TINY))
    else:
        flat = project_l1_in_box(flat, images.flatten(1), threat.eps)
    return (images + flat.reshape(images.shape)).clamp_(0.0, 1.0)


def _window(random_bits: Tensor, side: int, size: torch.Size) -> Tensor:
    """int64 (..., side * side): where the pixels of a window lie, anywhere in the image."""
    height, width = size
    top = ((random_bits & 0xFFFF) * (height - side + 1)) >> 16
    left = ((random_bits >> 16) * (width - side + 1)) >> 16
    inside = torch.arange(side, device=random_bits.device)
    return (top * width + left)[..., None] + (inside[:, None] * width + inside).flatten()


def _signs(random_bits: Tensor) -> Tensor:
    """float32 (..., C, 1), -1 or 1."""
    return (2 * (random_bits[..., _BITS:] >> 31) - 1).to(torch.float32)[..., None]


def _patch_pair(side: int, threat: ThreatModel, device: torch.device) -> Tensor:
    """(2, side * side): a patch of norm 1, one half positive and one negative, lying and upright."""
    power = 2 if threat.norm == "l2" else 1
    patch = torch.cat([_peak(side // 2, side, power), -_peak(side - side // 2, side, power)])
    patch = patch / _length_of(patch.flatten(), power)
    return torch.stack([patch, patch.T]).flatten(1).to(device)


def _peak(height: int, width: int, power: int) -> Tensor:
    """Norm 1, the highest in the middle, falling with the distance from it."""
    reach = max(height, width) // 2 + 1
    terms = torch.arange(1, reach + 1, dtype=torch.float32) ** (-2.0 if power == 2 else -4.0)
    heights = terms.flip(0).cumsum(0).flip(0)
    down, across = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    peak = heights[torch.maximum(down[:, None], across)]
    return peak / _length_of(peak.flatten(), power)


def _mass_of(values: Tensor, power: int) -> Tensor:
    return (values.square() if power == 2 else values.abs()).sum(-1, keepdim=True)


def _length_of(values: Tensor, power: int) -> Tensor:
    return (_mass_of(values, power) ** (1.0 / power)).clamp_min(_TINY)
