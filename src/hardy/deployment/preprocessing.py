"""Grey pictures to what MNIST's makers made of theirs: light ink on black, 20x20, centred by mass in 28x28.

Every step works on a stack of pictures of one size at once, and treats each by itself.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from hardy.validation import Images

Polarity: TypeAlias = Literal["auto", "dark", "light"]
"""Whether the ink is darker than the paper or lighter; ``auto`` looks."""

SIDE = 28
BOX = 20
MIDDLE = 14
"""The pixel, counted from 0, that MNIST's makers took for the middle: centres of mass lie within half a pixel of it."""

# Between ink and paper, of the whole range from black to white; the second counts in deviations of the paper.
LEAST_CONTRAST = 0.08
LEAST_CONTRAST_TO_NOISE = 3.0

# Of a stroke, in pixels of the 28x28. Those of MNIST are about two and a half wide.
THIN = 2.0

# Of the full level: what counts as ink where the picture is cropped.
INKED = 0.2

_BORDER = 0.125
_ROUNDS = 6
_CHUNK = 2000


class Prepared(NamedTuple):
    """What the network sees.

    Attributes:
        images: float32 (N, 1, 28, 28) in [0, 1], light on black; all black where there is no ink.
        ink: bool (N,), whether anything stands out from the paper.
    """

    images: Images
    ink: Tensor


def prepare(grey: Tensor, polarity: Polarity = "auto") -> Prepared:
    """Bring pictures of one size to the form of MNIST's images.

    Pictures that are in that form already, also as dark ink on white, keep their pixels as they are. Of all others, the
    paper's brightness is estimated, a curved surface, and taken off; the ink is cropped, scaled so that its longer side
    fills the 20x20 box, antialiased, and placed with its centre of mass in the middle of 28x28. Strokes too thin to
    survive that are widened.

    Args:
        grey: float32 (N, H, W) in [0, 1], 0 black.
        polarity: of the ink.
    """
    chunks = [_prepare(chunk, polarity) for chunk in grey.split(max(1, _CHUNK * SIDE * SIDE // grey[0].numel()))]
    return Prepared(torch.cat([chunk.images for chunk in chunks]), torch.cat([chunk.ink for chunk in chunks]))


def _prepare(grey: Tensor, polarity: Polarity) -> Prepared:
    images = torch.zeros(len(grey), SIDE, SIDE)
    ink = torch.ones(len(grey), dtype=torch.bool)
    rest = torch.ones_like(ink)
    if grey.shape[1:] == (SIDE, SIDE):
        light = is_as_mnist(grey) if polarity != "dark" else ~rest
        dark = is_as_mnist(1 - grey) if polarity != "light" else ~rest
        images[light] = grey[light]
        images[dark] = 1 - grey[dark]
        rest = ~(light | dark)
    if rest.any():
        images[rest], ink[rest] = _made_alike(grey[rest], polarity)
    return Prepared(images[:, None], ink)


def is_as_mnist(grey: Tensor) -> Tensor:
    """bool (N,): which of some pictures, float32 (N, 28, 28), are light ink on black, in the box, centred by mass."""
    ink = grey > 0.02
    top, bottom = _extent(ink.any(2))
    left, right = _extent(ink.any(1))
    height, width = bottom - top, right - left
    longer = torch.maximum(height, width)
    rows, columns = _centre_of_mass(grey)
    centred = ((rows - MIDDLE).abs() <= 0.51) & ((columns - MIDDLE).abs() <= 0.51)
    return (longer <= BOX) & (longer >= BOX - 2) & centred & (grey.amax((1, 2)) > 0.5)


def _made_alike(grey: Tensor, polarity: Polarity) -> tuple[Tensor, Tensor]:
    height, width = grey.shape[1:]
    # A smaller picture than the field is a digit cut out: it has no margin of paper to learn from.
    cut_out = max(height, width) < SIDE
    residual = grey - (_flat_paper(grey, polarity) if cut_out else _paper(grey))
    sign = {"dark": -1.0, "light": 1.0}.get(polarity)
    signs = residual.pow(3).sum((1, 2)).sign() if sign is None else torch.full((len(grey),), sign)
    smoothing = (max(height, width) // 100) | 1
    signed = _blurred(residual * signs[:, None, None], smoothing)
    noise = torch.zeros(len(grey)) if cut_out else 1.4826 * signed.abs().flatten(1).median(dim=1).values
    signed = signed.clamp_min(0)
    low, high = _two_levels(signed)
    present = high - low >= LEAST_CONTRAST + LEAST_CONTRAST_TO_NOISE * noise
    floor = torch.maximum(low, torch.minimum(3 * noise, 0.5 * high))[:, None, None]
    ink = ((signed - floor) / (high[:, None, None] - floor).clamp_min(1e-6)).clamp(0, 1)
    placed = _placed(ink, _despeckled(ink > INKED, smoothing))
    return placed * present[:, None, None], present


def _paper(grey: Tensor) -> Tensor:
    """The brightness of the paper: a quadratic surface through what most of the picture, and of its border, is like."""
    height, width = grey.shape[1:]
    basis = _quadratics(height, width)
    stride = -(-max(height, width) // 48)
    few = grey[:, ::stride, ::stride]
    rows, columns = few.shape[1:]
    points = basis.reshape(height, width, -1)[::stride, ::stride].reshape(rows * columns, -1)
    values = few.reshape(len(few), -1)
    border = _border(rows, columns)
    prior = torch.where(border, 1.0, 0.1)
    products = (points[:, :, None] * points[:, None, :]).reshape(len(points), -1)
    weights = prior.expand_as(values)
    # Flat paper is likelier than curved: without this, a large round digit would pass for a shadow.
    ridge = torch.diag(torch.tensor([1e-4, 1e-2, 1e-2, 5e-2, 5e-2, 5e-2]))
    surface = torch.zeros(len(grey), points.shape[1])
    for _ in range(_ROUNDS):
        total = weights.sum(1)
        left = (weights @ products).reshape(len(few), points.shape[1], -1) / total[:, None, None] + ridge
        right = (weights * values) @ points / total[:, None]
        surface = torch.linalg.solve(left, right)
        error = (values - surface @ points.T).abs()
        scale = 2.0 * error[:, border].median(dim=1).values.clamp_min(0.01)
        weights = prior / (1 + (error / scale[:, None]).square()).square()
    return (surface @ basis.T).reshape(grey.shape)


def _flat_paper(grey: Tensor, polarity: Polarity) -> Tensor:
    """(N, 1, 1): the lightest or the darkest value, whichever most of the picture is nearer to."""
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    if polarity != "auto":
        return high if polarity == "dark" else low
    return torch.where(grey.mean((1, 2), keepdim=True) < (low + high) / 2, low, high)


def _quadratics(height: int, width: int) -> Tensor:
    """(H·W, 6): 1, x, y, xy, x², y² over the picture, each axis from -1 to 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y, x * y, x * x, y * y], dim=-1).reshape(height * width, 6)


def _border(rows: int, columns: int) -> Tensor:
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    top, left = max(1, round(_BORDER * rows)), max(1, round(_BORDER * columns))
    inside[top : rows - top, left : columns - left] = True
    return ~inside.flatten()


def _blurred(pictures: Tensor, width: int) -> Tensor:
    if width == 1:
        return pictures
    return F.avg_pool2d(pictures[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]


def _two_levels(values: Tensor) -> tuple[Tensor, Tensor]:
    """The means below and above a threshold halfway between them (T. Ridler and S. Calvard 1978)."""
    flat = values.flatten(1)
    threshold = flat.amax(1) / 2
    low = high = threshold
    for _ in range(8):
        above = (flat > threshold[:, None]).to(flat.dtype)
        count = above.sum(1)
        total = (flat * above).sum(1)
        high = total / count.clamp_min(1)
        low = (flat.sum(1) - total) / (flat.shape[1] - count).clamp_min(1)
        threshold = (low + high) / 2
    return low, high


def _despeckled(mask: Tensor, smoothing: int) -> Tensor:
    """Leaves out pixels with few neighbours, where pictures are large enough for a stroke to be wider than that."""
    if smoothing == 1:
        return mask
    return mask & (_blurred(mask.float(), smoothing + 2) > 0.4)


def _placed(ink: Tensor, mask: Tensor) -> Tensor:
    """(N, 28, 28): the ink inside the bounding box of the mask, resampled with a triangle as wide as a large pixel."""
    top, bottom = _extent(mask.any(2))
    left, right = _extent(mask.any(1))
    scale = torch.maximum(bottom - top, right - left).clamp_min(1) / BOX
    inside = _between(top, bottom, ink.shape[1])[:, :, None] & _between(left, right, ink.shape[2])[:, None, :]
    ink = ink * inside
    rows, columns = _centre_of_mass(ink)
    sampled = _triangles(rows, top, bottom, scale, ink.shape[1]) @ ink
    sampled = sampled @ _triangles(columns, left, right, scale, ink.shape[2]).mT
    sampled = sampled / sampled.amax((1, 2), keepdim=True).clamp_min(0.2)
    # What was enlarged has wide soft edges, which MNIST's digits have not.
    gain = (1 / scale).clamp_min(1)[:, None, None]
    sampled = ((sampled - 0.5) * gain + 0.5).clamp(0, 1)
    return _widened(sampled, _stroke_width(ink > 0.5) / scale).clamp(0, 1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, L); L and 0 where there is none."""
    places = torch.arange(occupied.shape[1])
    first = torch.where(occupied, places, occupied.shape[1]).amin(1)
    return first, torch.where(occupied, places + 1, 0).amax(1)


def _between(first: Tensor, end: Tensor, length: int) -> Tensor:
    places = torch.arange(length)
    return (places >= first[:, None]) & (places < end[:, None])


def _centre_of_mass(pictures: Tensor) -> tuple[Tensor, Tensor]:
    total = pictures.sum((1, 2)).clamp_min(1e-6)
    rows = pictures.sum(2) @ torch.arange(pictures.shape[1], dtype=pictures.dtype) / total
    return rows, pictures.sum(1) @ torch.arange(pictures.shape[2], dtype=pictures.dtype) / total


def _triangles(mass: Tensor, first: Tensor, end: Tensor, scale: Tensor, length: int) -> Tensor:
    """(N, 28, length): how much of each small pixel a large one takes, along one axis; nothing outside the box."""
    middle = (first + end - 1) / 2
    # Whole pixels, as MNIST's makers shifted the box inside the field, and never out of it.
    shift = ((mass - middle) / scale + (SIDE - 1) / 2 - MIDDLE).round().clamp(-(SIDE - BOX) // 2, (SIDE - BOX) // 2)
    centres = torch.arange(SIDE) - (SIDE - 1) / 2
    at = (middle + shift * scale)[:, None] + centres * scale[:, None]
    support = scale.clamp_min(1.0)[:, None, None]
    shares = (1 - (torch.arange(length) - at[:, :, None]).abs() / support).clamp_min(0) / support
    # As many whole large pixels on either side of the middle as the ink reaches into.
    reach = ((end - first) / (2 * scale) - 1e-3).ceil() * scale
    boxed = (at - middle[:, None]).abs() < reach[:, None]
    return shares * boxed[:, :, None]


def _stroke_width(mask: Tensor) -> Tensor:
    """Twice the area over the outline: the width of a long stroke, in pixels."""
    padded = F.pad(mask, (1, 1, 1, 1))
    steps = (padded[:, 1:] != padded[:, :-1]).sum((1, 2)) + (padded[:, :, 1:] != padded[:, :, :-1]).sum((1, 2))
    # A slanting outline takes more steps than it is long, by 4/π on average over all directions.
    return 2 * mask.sum((1, 2)) / (steps * torch.pi / 4).clamp_min(1)


def _widened(images: Tensor, width: Tensor) -> Tensor:
    """Gives thin strokes part of what their neighbours have."""
    share = ((THIN - width) / 1.0).clamp(0, 1)[:, None, None]
    padded = F.pad(images, (1, 1, 1, 1))
    across = torch.stack([padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]])
    return torch.maximum(images, share * across.amax(0))
