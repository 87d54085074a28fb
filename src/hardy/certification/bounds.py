"""Bounds on a network over a ball: intervals, and linear relaxation run backwards.

Everything holds for the classifier as it computes in float32: each operation is given room for its own rounding, and
for that of the bound, whatever the order of its sums. A ball takes in what the attacks' engine counts as inside.

Intervals: Gowal et al., arXiv:1810.12715. Linear relaxation: Zhang et al., CROWN, arXiv:1811.00866; slopes that are
optimized: Xu et al., arXiv:2011.13824; constraints of branches: Wang et al., beta-CROWN, arXiv:2103.06624.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from hardy.certification.operations import ROUNDOFF, Activation, Affine, Box, Lines, MaxPool
from hardy.certification.trace import Network
from hardy.threats import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, ThreatModel
from hardy.validation import Images, Labels

# Of one tensor of weights of the relaxation: what is larger is computed in pieces.
_WEIGHTS_AT_ONCE = 1 << 24
_LAMBDA_STEPS = 12


@dataclass(frozen=True, eq=False)
class Ball:
    """The images of [0, 1] within a radius of each image, as the engine of the attacks counts them."""

    images: Images
    threat: ThreatModel

    @property
    def radius(self) -> float:
        return self.threat.eps * (1 + RELATIVE_TOLERANCE) + ABSOLUTE_TOLERANCE

    @property
    def box(self) -> Box:
        return Box((self.images - self.radius).clamp(0.0, 1.0), (self.images + self.radius).clamp(0.0, 1.0))

    def rows(self, index: Tensor) -> Ball:
        return replace(self, images=self.images[index])

    def minimum(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """A lower bound of ``weights`` times an image, and the image that has about that.

        Args:
            weights: float32 (N, S, D).

        Returns:
            float64 (N, S), and float32 (N, S, D).
        """
        images = self.images.flatten(1)[:, None]
        lower, upper = (it.flatten(1)[:, None] for it in self.box)
        at_corner = torch.where(weights > 0, lower, upper)
        match self.threat.norm:
            case "linf":
                return _dot(weights, at_corner), at_corner
            case "l1":
                return self._minimum_l1(weights, images)
            case _:
                return self._minimum_l2(weights, images, lower, upper, at_corner)

    def _minimum_l1(self, weights: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """The radius is spent where the weights are largest, on each pixel as far as it goes."""
        size = weights.abs()
        room = torch.where(weights > 0, images, 1 - images)
        order = size.argsort(dim=2, descending=True)
        ordered = room.gather(2, order).double()
        spent = torch.minimum(ordered, (self.radius - (ordered.cumsum(2) - ordered)).clamp_min(0.0))
        spent = torch.zeros_like(ordered).scatter_(2, order, spent).to(weights.dtype)
        return _dot(weights, images.expand_as(weights)) - _dot(size, spent), images - weights.sign() * spent

    def _minimum_l2(
        self, weights: Tensor, images: Tensor, lower: Tensor, upper: Tensor, at_corner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """By Lagrange's dual, which is a bound for any multiplier; the best of three."""
        start = _dot(weights, images.expand_as(weights))
        norm = weights.detach().norm(dim=2, keepdim=True)
        # So that the product of both ends is a float32, also where all weights are 0.
        high = (norm / self.radius).clamp_min(1e-15)
        low = high * 1e-6
        with torch.no_grad():
            for _ in range(_LAMBDA_STEPS):
                multiplier = (low * high).sqrt()
                change = torch.clamp(-weights / multiplier, lower - images, upper - images)
                outside = change.norm(dim=2, keepdim=True) > self.radius
                low, high = torch.where(outside, multiplier, low), torch.where(outside, high, multiplier)
        change = torch.clamp(-weights / high, lower - images, upper - images)
        dual = _dot(weights, change) + (
            (0.5 * high * change.square()).sum(2, dtype=torch.float64)
            - 0.5 * high[..., 0].double() * self.radius * self.radius
        )
        found = start + torch.maximum(dual, -self.radius * weights.double().norm(dim=2))
        return torch.maximum(found, _dot(weights, at_corner)), images + change.detach()


def _dot(weights: Tensor, values: Tensor) -> Tensor:
    """float64 (N, S), from (N, S, …) and what broadcasts to it."""
    return (weights * values).flatten(2).sum(2, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Boxes:
    """What is known of the values of a network over a ball.

    Attributes:
        values: a box per value.
        slacks: per value, by how much float32 may miss it, given the values before; None for not at all.
    """

    values: list[Box] = field(default_factory=list)
    slacks: list[Tensor | None] = field(default_factory=list)

    def rows(self, index: Tensor) -> Boxes:
        """Of some of the examples."""
        values = [Box(box.lower[index], box.upper[index]) for box in self.values]
        # A slack of weights alone does not depend on the example.
        return Boxes(values, [it if it is None or len(it) == 1 else it[index] for it in self.slacks])


def interval_boxes(network: Network, ball: Ball) -> Boxes:
    """By interval arithmetic: the cost of two forward passes."""
    return _boxes(network, ball, refined=0, slacks=False)


def crown_boxes(network: Network, ball: Ball, refined: int) -> Boxes:
    """By intervals, and by linear relaxation for what goes into layers of at most ``refined`` undecided neurons."""
    return _boxes(network, ball, refined, slacks=True)


class _Reach(NamedTuple):
    """A value that is a moved and scaled image: its middle, how far the ball reaches, and how far off both may be."""

    center: Tensor
    radius: float
    error: Tensor


def _boxes(network: Network, ball: Ball, refined: int, *, slacks: bool) -> Boxes:
    first, linf = ball.box, ball.threat.norm == "linf"
    found = Boxes([first], [4 * ROUNDOFF * first.size if slacks else None])
    reaches: list[_Reach | None] = [None if linf else _Reach(ball.images, ball.radius, torch.zeros_like(ball.images))]
    # The image of a box is a box while elements are only scaled and moved, and its extent is exact one layer further.
    boxes, exact = ({0}, {0}) if linf else (set[int](), set[int]())
    for operation in network.operations:
        if refined and not isinstance(operation, Affine) and operation.source not in exact:
            found.values[operation.source] = _refined(network, found, ball, operation, refined)
        inputs = [found.values[source] for source in operation.sources]
        box, reach, number = operation.box(*inputs), None, len(found.values)
        if isinstance(operation, Affine) and len(operation.parts) == 1:
            part = operation.parts[0]
            before = reaches[part.source]
            if before is not None:
                reach, box = _within_reach(operation, before, ball, inputs[0], box)
            if part.source in boxes:
                exact.add(number)
                if part.gain is not None and part.copies == 1:
                    boxes.add(number)
        found.values.append(box)
        found.slacks.append(operation.slack(*inputs) if slacks else None)
        reaches.append(reach)
    return found


def _within_reach(operation: Affine, before: _Reach, ball: Ball, source: Box, box: Box) -> tuple[_Reach | None, Box]:
    """In l2 and l1: where the ball reaches after scaling, or an affine layer's box by the dual norm of its weights."""
    part = operation.parts[0]
    center = operation(before.center)
    error = part.magnitude(before.error) * (1 + operation.rounding)
    slack = operation.slack(source)
    error = error if slack is None else error + slack
    if part.gain is not None:
        spread = part.copies ** (0.5 if ball.threat.norm == "l2" else 1.0)
        return _Reach(center, before.radius * part.gain * spread * (1 + 8 * ROUNDOFF), error), box
    if part.row_norm is None:
        return None, box
    norm = part.row_norm(2 if ball.threat.norm == "l2" else math.inf)
    around = norm * (before.radius * (1 + operation.rounding)) + error
    return None, Box(torch.maximum(box.lower, center - around), torch.minimum(box.upper, center + around))


class Backward(NamedTuple):
    """What a backward pass found.

    Attributes:
        lower: float64 (N, S), the lower bounds.
        image: float32 (N, S, D), where the relaxation has it; None where the pass did not reach the images.
        losses: per activation's value, float32 (N, S, *shape): how much the line above may cost the bound.
    """

    lower: Tensor
    image: Tensor | None
    losses: dict[int, Tensor]


class Branches(NamedTuple):
    """Per value that goes into a ReLU: 1 where it is known to be at least 0, -1 at most 0, 0 not known; multipliers."""

    signs: Mapping[int, Tensor]
    multipliers: Mapping[int, Tensor]


def backward(
    network: Network,
    known: Boxes,
    ball: Ball,
    weights: Tensor,
    *,
    start: int | None = None,
    slopes: Mapping[int, Tensor] | None = None,
    lines: Mapping[int, Lines] | None = None,
    branches: Branches | None = None,
    losses: bool = False,
) -> Backward:
    """Lower bounds of weighted sums of a value, by going back to the images.

    Args:
        network: traced.
        known: boxes with slacks.
        ball: the images.
        weights: float32 (N, S, *shape of the value).
        start: which value; the logits by default.
        slopes: per value that goes into a ReLU, the slope of the line below, (N, S, *shape), in place of the default.
        lines: of the activations, by value, if they are known already.
        branches: what is assumed of the values that go into ReLUs.
        losses: whether to say what the lines above cost.
    """
    start = len(network.operations) if start is None else start
    waiting = {start: weights}
    total = torch.zeros(weights.shape[:2], dtype=torch.float64, device=weights.device)
    lost: dict[int, Tensor] = {}
    for number in range(start, 0, -1):
        current = waiting.pop(number, None)
        if current is None:
            continue
        operation = network.operations[number - 1]
        slack = known.slacks[number]
        if slack is not None:
            total = total - _dot(current.abs(), slack[:, None])
        if isinstance(operation, Affine):
            if operation.bias is not None:
                bias = operation.bias.expand(network.shapes[number])
                total = total + _dot(current, bias[None, None])
            for part in operation.parts:
                moved = part.transposed(current.flatten(0, 1)).unflatten(0, current.shape[:2])
                _add(waiting, part.source, moved)
            continue
        box, above, below = known.values[operation.source], current.clamp_max(0.0), current.clamp_min(0.0)
        if isinstance(operation, MaxPool):
            moved, offset = _through_pool(operation, box, below, above, network.shapes[operation.source])
            total = total + offset
        else:
            line = lines[number] if lines is not None else operation.lines(box)
            line = Lines(*(it[:, None] for it in line))
            lower_slope = line.lower_slope
            if slopes is not None and number in slopes:
                # Only where the sign is open is there a choice.
                is_open = ((box.lower < 0) & (box.upper > 0))[:, None]
                lower_slope = torch.where(is_open, slopes[number], lower_slope)
            moved = below * lower_slope + above * line.upper_slope
            cost = above * line.upper_offset
            total = total + cost.flatten(2).sum(2, dtype=torch.float64) + _dot(below, line.lower_offset)
            if losses and operation.is_relu:
                lost[number] = -cost.detach()
            if branches is not None and number in branches.signs:
                moved = moved - branches.multipliers[number] * branches.signs[number][:, None]
        _add(waiting, operation.source, moved)
    current = waiting[0].flatten(2)
    slack = known.slacks[0]
    assert slack is not None
    total = total - _dot(current.abs(), slack.flatten(1)[:, None])
    lowest, image = ball.minimum(current)
    return Backward(total + lowest, image, lost)


def _add(waiting: dict[int, Tensor], number: int, weights: Tensor) -> None:
    waiting[number] = waiting[number] + weights if number in waiting else weights


def _through_pool(
    pool: MaxPool, box: Box, below: Tensor, above: Tensor, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    one_hot, follows, offset = (it[:, None] for it in pool.routes(box))
    below, above = (it.flatten(3)[:, :, :, None] for it in (below, above))
    weights = (below + above * follows) * one_hot
    moved = pool.spread(weights.flatten(0, 1), shape).unflatten(0, weights.shape[:2])
    return moved, _dot(above, offset)


def box_minimum(network: Network, boxes: Boxes, weights: Tensor) -> Tensor:
    """Lower bounds of weighted sums of the logits, float64 (N, S), by the boxes before the last affine layers.

    Merging the weights into those layers loses less than the boxes of the logits do. ``weights`` is (N, S, K), or
    (1, S, K) for all images alike.
    """
    waiting = {len(network.operations): weights}
    total: Tensor | float = 0.0
    for number in range(len(network.operations), -1, -1):
        current = waiting.pop(number, None)
        if current is None:
            continue
        operation = network.operations[number - 1] if number else None
        if isinstance(operation, Affine):
            # In a sum of so many terms, and in the classifier's own, rounding is relative to the sum of all sizes.
            if operation.terms:
                inputs = [boxes.values[source] for source in operation.sources]
                slack = operation.slack(*inputs)
                assert slack is not None
                total = total - _dot(current.detach().abs(), slack.detach()[:, None])
            if operation.bias is not None:
                total = total + _dot(current, operation.bias.expand(network.shapes[number])[None, None])
            for part in operation.parts:
                _add(waiting, part.source, part.transposed(current.flatten(0, 1)).unflatten(0, current.shape[:2]))
            continue
        lower, upper = (it[:, None] for it in boxes.values[number])
        total = total + _dot(current.clamp_min(0.0), lower) + _dot(current.clamp_max(0.0), upper)
        total = total - 4 * ROUNDOFF * _dot(current.detach().abs(), boxes.values[number].size.detach()[:, None])
    assert isinstance(total, Tensor)
    return total


def _refined(network: Network, known: Boxes, ball: Ball, operation: Activation | MaxPool, most: int) -> Box:
    """The box of what goes into a layer, by going back to the images from each neuron that is not decided."""
    source = operation.source
    box = known.values[source]
    lower, upper = (it.flatten(1).clone() for it in box)
    is_relu = isinstance(operation, Activation) and operation.is_relu
    undecided = (lower < 0) & (upper > 0) if is_relu else upper > lower
    shape = network.shapes[source]
    counts = undecided.sum(1)
    chosen = torch.nonzero((counts > 0) & (counts <= most)).flatten()
    if not len(chosen):
        return box
    per_image = max(1, _WEIGHTS_AT_ONCE // (int(counts[chosen].max()) * lower.shape[1]))
    lines = lines_of(network, known, source)
    for rows in chosen.split(per_image):
        neurons = undecided[rows].float().topk(int(counts[rows].max()), dim=1)
        one_hot = torch.zeros(*neurons.indices.shape, lower.shape[1], device=lower.device)
        one_hot.scatter_(2, neurons.indices[..., None], 1.0)
        weights = torch.cat([one_hot, -one_hot], 1).unflatten(2, shape)
        some = {number: Lines(*(it[rows] for it in line)) for number, line in lines.items()}
        found = backward(network, known.rows(rows), ball.rows(rows), weights, start=source, lines=some).lower
        low, high = (_outward(it) for it in found.chunk(2, dim=1))
        at = (rows[:, None], neurons.indices)
        lower[at], upper[at] = torch.maximum(lower[at], low), torch.minimum(upper[at], -high)
    return Box(lower.reshape(box.lower.shape), torch.maximum(lower, upper).reshape(box.lower.shape))


def _outward(lower: Tensor) -> Tensor:
    """float64 to float32, no higher."""
    found = lower.float()
    return found - ROUNDOFF * found.abs()


def lines_of(network: Network, known: Boxes, end: int | None = None) -> dict[int, Lines]:
    """The lines of the activations up to a value."""
    operations = network.operations[:end]
    return {
        number: it.lines(known.values[it.source])
        for number, it in enumerate(operations, 1)
        if isinstance(it, Activation)
    }


def crown(
    network: Network,
    known: Boxes,
    ball: Ball,
    weights: Tensor,
    *,
    iterations: int = 0,
    signs: Mapping[int, Tensor] | None = None,
    losses: bool = False,
) -> Backward:
    """Lower bounds of weighted sums of the logits, by linear relaxation whose slopes are optimized.

    Args:
        network: traced.
        known: boxes with slacks.
        ball: the images.
        weights: float32 (N, S, K).
        iterations: of gradient ascent on the slopes, and on the multipliers of the branches.
        signs: per activation's value, what is assumed of its input, (N, *shape) of 1, -1 and 0; the boxes agree.
        losses: whether to say what the lines above cost.
    """
    lines = lines_of(network, known)
    signs = signs or {}
    zeros = {it: torch.zeros_like(sign)[:, None].repeat_interleave(weights.shape[1], 1) for it, sign in signs.items()}
    with torch.no_grad():
        best = backward(network, known, ball, weights, lines=lines, branches=Branches(signs, zeros), losses=losses)
    if not iterations:
        return best
    slopes = {
        number: lines[number].lower_slope[:, None].repeat_interleave(weights.shape[1], 1).requires_grad_(True)
        for number, it in enumerate(network.operations, 1)
        if isinstance(it, Activation) and it.is_relu
    }
    multipliers = {number: it.requires_grad_(True) for number, it in zeros.items()}
    if not slopes:
        return best
    groups = [{"params": [*slopes.values()], "lr": 0.25}, {"params": [*multipliers.values()], "lr": 0.05}]
    optimizer = torch.optim.Adam([it for it in groups if it["params"]])
    lower, image, lost = best
    for _ in range(iterations):
        with torch.enable_grad():
            found = backward(
                network, known, ball, weights, slopes=slopes, lines=lines,
                branches=Branches(signs, multipliers), losses=losses,
            )  # fmt: skip
            # What is certified already needs no more.
            short = -found.lower.clamp_max(0.0).sum()
        with torch.no_grad():
            better = found.lower > lower
            lower = torch.where(better, found.lower, lower)
            image = torch.where(better[..., None], found.image, image)  # type: ignore[arg-type]
            lost = {
                it: torch.where(better.reshape(*better.shape, *[1] * (new.ndim - 2)), new, lost[it])
                for it, new in found.losses.items()
            }
        if bool((lower > 0).all()):
            break
        leaves = [*slopes.values(), *multipliers.values()]
        for leaf, gradient in zip(leaves, torch.autograd.grad(short, leaves, allow_unused=True), strict=True):
            leaf.grad = gradient
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.93
        with torch.no_grad():
            for slope in slopes.values():
                slope.clamp_(0.0, 1.0)
            for multiplier in multipliers.values():
                multiplier.clamp_min_(0.0)
    return Backward(lower.detach(), None if image is None else image.detach(), lost)


def margin_weights(labels: Labels, classes: int) -> tuple[Tensor, Tensor]:
    """What turns logits into margins, the label's less each other class's: float32 (N, K-1, K), and those classes."""
    others = torch.arange(classes, device=labels.device).expand(len(labels), -1)
    others = others[others != labels[:, None]].reshape(len(labels), classes - 1)
    one_hot = torch.eye(classes, device=labels.device)
    return one_hot[labels][:, None] - one_hot[others], others


def combined_margins(margins: Tensor, logits: list[Box]) -> Tensor:
    """Lower bounds of an ensemble's margins, float64 (N, S), from its members', (M, N, S).

    The ensemble averages probabilities. Its ratio of two probabilities is at least the least ratio of a member; and a
    probability follows from the ratios to the others: the label's is at least 1 / (1 + sum exp(-margin)), another's at
    most 1 / (1 + exp(margin)). The better of both.
    """
    if len(margins) == 1:
        return margins[0]
    label = torch.sigmoid(-torch.logsumexp(-margins, 2, keepdim=True)).sum(0).log()
    other = torch.sigmoid(-margins).sum(0).log()
    found = torch.maximum(margins.amin(0), label - other)
    # The logarithms and exponentials of the average round, too.
    size = torch.stack([it.size.amax(1) for it in logits]).amax(0).double()[:, None]
    return found - 32 * ROUNDOFF * (1 + size + found.abs())
