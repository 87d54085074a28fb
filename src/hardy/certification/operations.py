"""What a network is made of, for bounds: affine operations, activations and max pooling.

Each says how a box goes through it, and between which lines it lies on a box, both with room for float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import fold, max_pool2d, pad, unfold

# Half the distance of float32 numbers near 1: the largest relative error of one operation.
ROUNDOFF = 2.0**-24
# Evaluating an activation, or its lines, takes a few operations, none with more than this many units of rounding.
ACTIVATION_ROUNDING = 16 * ROUNDOFF
_GRID = 33


class Box(NamedTuple):
    """Elementwise bounds, float32 (N, …)."""

    lower: Tensor
    upper: Tensor

    @property
    def size(self) -> Tensor:
        """The largest absolute value in it."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


class Lines(NamedTuple):
    """``lower_slope x + lower_offset <= f(x) <= upper_slope x + upper_offset`` on a box, elementwise."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Linear(NamedTuple):
    """A linear map of one value of the network, on batches.

    Attributes:
        source: the value, by its number.
        apply: (N, *in) to (N, *out).
        magnitude: the same with the absolute values of the weights.
        transposed: (N, *out) to (N, *in), the vector-Jacobian product.
        row_norm: of the weights that make one output, by the order of the norm; None where the map only scales and
            moves elements.
        gain: where it only scales and moves elements, by how much at most.
        copies: how many elements one becomes.
    """

    source: int
    apply: Callable[[Tensor], Tensor]
    magnitude: Callable[[Tensor], Tensor]
    transposed: Callable[[Tensor], Tensor]
    row_norm: Callable[[float], Tensor] | None = None
    gain: float | None = None
    copies: int = 1


@dataclass(frozen=True, eq=False)
class Affine:
    """The sum of linear maps and a constant.

    ``terms`` is the length of the longest sum in it, 0 where it is exact. ``offsets`` are what the bias was summed of,
    in absolute values, where that is more than the bias.
    """

    parts: tuple[Linear, ...]
    bias: Tensor | None = None
    terms: int = 0
    offsets: Tensor | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        return tuple(part.source for part in self.parts)

    @property
    def rounding(self) -> float:
        """The largest error, relative to the sum of absolute values: the classifier's and a bound's, in any order.

        Higham, Accuracy and Stability of Numerical Algorithms, section 3.1: n operations err by at most n units.
        """
        return 2.0 * (self.terms + 8) * ROUNDOFF if self.terms else 0.0

    def __call__(self, *inputs: Tensor) -> Tensor:
        total = sum_of([part.apply(value) for part, value in zip(self.parts, inputs, strict=True)])
        return total if self.bias is None else total + self.bias

    def box(self, *inputs: Box) -> Box:
        """What the inputs' boxes go to."""
        if not self.terms:
            return Box(self(*(box.lower for box in inputs)), self(*(box.upper for box in inputs)))
        mids = [(box.lower + box.upper) / 2 for box in inputs]
        # Nothing is learned from the room for rounding, and its gradient would cost a third of a step of training.
        radii = [(box.upper - box.lower) / 2 + self.rounding * box.size.detach() for box in inputs]
        mid = self(*mids)
        radius = sum_of([part.magnitude(it) for part, it in zip(self.parts, radii, strict=True)])
        radius = radius * (1 + self.rounding) + self.rounding * self._offset_size
        return Box(mid - radius, mid + radius)

    def slack(self, *inputs: Box) -> Tensor | None:
        """By how much float32 may miss the exact output on the inputs' boxes; None for not at all."""
        if not self.terms:
            return None
        total = sum_of([part.magnitude(box.size) for part, box in zip(self.parts, inputs, strict=True)])
        return self.rounding * (total + self._offset_size)

    @property
    def _offset_size(self) -> Tensor | float:
        if self.offsets is not None:
            return self.offsets
        return 0.0 if self.bias is None else self.bias.abs()


@dataclass(frozen=True, eq=False)
class Activation:
    """A function of each element.

    Attributes:
        source: the value that it is applied to.
        name: ``relu``, or what messages call it.
        function: float32 tensors to float32 tensors.
        derivative: the same for its derivative.
        curvature: the largest absolute second derivative.
        lowest: where the function has its minimum and what that is; None where it never falls.
    """

    source: int
    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor] = torch.ones_like
    curvature: float = 0.0
    lowest: tuple[float, float] | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    @property
    def is_relu(self) -> bool:
        return self.name == "relu"

    def __call__(self, value: Tensor) -> Tensor:
        return self.function(value)

    def box(self, box: Box) -> Box:
        low, high = self.function(box.lower), self.function(box.upper)
        if self.is_relu:
            return Box(low, high)
        lower, upper = torch.minimum(low, high), torch.maximum(low, high)
        if self.lowest is not None:
            place, value = self.lowest
            lower = torch.where((box.lower < place) & (box.upper > place), torch.full_like(lower, value), lower)
        room = ACTIVATION_ROUNDING * torch.maximum(lower.abs(), upper.abs()) + torch.finfo(torch.float32).tiny
        return Box(lower - room, upper + room)

    def slack(self, box: Box) -> Tensor:
        return ACTIVATION_ROUNDING * (box.size + self.function(box.upper).abs() + self.function(box.lower).abs())

    def lines(self, box: Box) -> Lines:
        """The lines of the default slopes."""
        return _relu_lines(box) if self.is_relu else self._smooth_lines(box)

    def _smooth_lines(self, box: Box) -> Lines:
        """Of several slopes those with the least area; an offset is exact up to the curvature between grid points."""
        lower, upper = box
        mid, width = (lower + upper) / 2, upper - lower
        chord = (self.function(upper) - self.function(lower)) / width.clamp_min(1e-6)
        flat = width < 1e-6
        slopes = [torch.where(flat, self.derivative(mid), chord), *map(self.derivative, (mid, lower, upper))]
        slopes += [torch.zeros_like(mid)]
        places = torch.linspace(0, 1, _GRID, device=mid.device)
        room = self.curvature * (width / (_GRID - 1)) ** 2 / 8
        highest = [torch.full_like(mid, -torch.inf)] * len(slopes)
        deepest = [torch.full_like(mid, torch.inf)] * len(slopes)
        for place in places:
            at = lower + place * width
            value = self.function(at)
            for number, slope in enumerate(slopes):
                offset = value - slope * at
                highest[number] = torch.maximum(highest[number], offset)
                deepest[number] = torch.minimum(deepest[number], offset)
        under = [slope * mid + offset for slope, offset in zip(slopes, deepest, strict=True)]
        over = [-slope * mid - offset for slope, offset in zip(slopes, highest, strict=True)]
        below, above = torch.stack(under).argmax(0), torch.stack(over).argmax(0)

        def chosen(values: list[Tensor], which: Tensor) -> Tensor:
            return torch.stack(values).gather(0, which[None])[0]

        return Lines(
            chosen(slopes, below), chosen(deepest, below) - room, chosen(slopes, above), chosen(highest, above) + room
        )


def _relu_lines(box: Box) -> Lines:
    """Above, the chord; below, whichever of 0 and x leaves less area (Zhang et al., CROWN, arXiv:1811.00866)."""
    low, high = box.lower.clamp_max(0), box.upper.clamp_min(0)
    # On one side of 0 this gives 0, and on the other 1, exactly.
    slope = high / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return Lines((high > -low).to(slope.dtype), torch.zeros_like(slope), slope, -slope * low)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Max pooling of a value (N, C, H, W)."""

    source: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.source,)

    def __call__(self, value: Tensor) -> Tensor:
        return max_pool2d(value, self.kernel, self.stride, self.padding)

    def box(self, box: Box) -> Box:
        return Box(self(box.lower), self(box.upper))

    def slack(self, box: Box) -> Tensor:
        return ACTIVATION_ROUNDING * self(box.size)

    def routes(self, box: Box) -> tuple[Tensor, Tensor, Tensor]:
        """The element of each window that is below the maximum, and by slope and offset, the line above.

        The element is a one-hot of its window, (N, C k, L). If it exceeds every other, the maximum is the element;
        else the maximum is at most the element and what the others may exceed it by, or the constant maximum of the
        upper bounds, whichever is less in the middle of the box.
        """
        lower, upper = (self._windows(it, -torch.inf) for it in box)
        best = lower.argmax(2, keepdim=True)
        one_hot = torch.zeros_like(lower).scatter_(2, best, 1.0)
        own_lower, own_upper = lower.gather(2, best), upper.gather(2, best)
        others = upper.scatter(2, best, -torch.inf).amax(2, keepdim=True)
        gap = (others - own_lower).clamp_min(0.0)
        constant = torch.maximum(others, own_upper)
        follows = (own_lower + own_upper) / 2 + gap < constant
        offset = torch.where(follows, gap, constant)
        return one_hot, follows.to(offset.dtype), offset

    def _windows(self, value: Tensor, fill: float) -> Tensor:
        """(N, C, k, L): the windows of each channel."""
        (top, left), channels = self.padding, value.shape[1]
        padded = pad(value, (left, left, top, top), value=fill)
        # unfold multiplies by 0, so infinity must not go through it.
        finite = padded.clamp_min(torch.finfo(torch.float32).min)
        return unfold(finite.flatten(0, 1)[:, None], self.kernel, stride=self.stride).unflatten(0, (-1, channels))

    def spread(self, weights: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Weights of windows, (N, C, k, L), summed where they came from, (N, C, H, W)."""
        channels, height, width = shape
        (top, left) = self.padding
        whole = fold(
            weights.flatten(0, 1), (height + 2 * top, width + 2 * left), self.kernel, stride=self.stride
        ).reshape(-1, channels, height + 2 * top, width + 2 * left)
        return whole[..., top : top + height, left : left + width]


Operation: TypeAlias = Affine | Activation | MaxPool


def sum_of(values: list[Tensor]) -> Tensor:
    """Their sum, without a first 0."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
