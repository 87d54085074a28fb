"""Gray images to the form of MNIST's: light strokes on black, in a 20x20 box, centered by mass in 28x28.

Every step works on a stack of images of one size at once, and treats each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from hardy.validation import Images

Polarity: TypeAlias = Literal["auto", "dark", "light"]
"""Whether the foreground is darker or lighter than the background; ``auto`` decides for each image."""

SIDE = 28
BOX = 20
MIDDLE = 14
"""The pixel, counted from 0, that MNIST's authors took for the middle: centers of mass are near it."""

# Between foreground and background: of the range from black to white, and in standard deviations of the background.
MIN_CONTRAST = 0.08
MIN_CONTRAST_TO_NOISE = 3.0

# Of a stroke, in pixels of the 28x28; strokes of MNIST are about two and a half wide. Thinner ones are widened.
MIN_STROKE_WIDTH = 2.0

# Of the highest intensity: what counts as foreground when the image is cropped.
FOREGROUND_LEVEL = 0.2

_BORDER = 0.125
_ROUNDS = 6
_CHUNK = 2000


class Preprocessed(NamedTuple):
    """What the network sees.

    Attributes:
        images: float32 (N, 1, 28, 28) in [0, 1], light on black; all black where there is no foreground.
        foreground: bool (N,), whether anything stands out from the background.
    """

    images: Images
    foreground: Tensor


def preprocess(gray: Tensor, polarity: Polarity = "auto") -> Preprocessed:
    """Bring images of one size to the form of MNIST's.

    Images that already have that form, also inverted, keep their pixels. For all others, the brightness of the
    background is estimated as a curved surface and subtracted; the foreground is cropped, scaled with antialiasing so
    that its longer side fills the 20x20 box, and placed with its center of mass in the middle of 28x28. Strokes that
    would get too thin are widened.

    Args:
        gray: float32 (N, H, W) in [0, 1], 0 black.
        polarity: whether the foreground is darker or lighter than the background.

    Example:
        >>> import torch
        >>> from hardy.deployment.preprocessing import preprocess
        >>> photo = torch.ones(1, 100, 80)
        >>> photo[:, 20:80, 38:42] = 0.1
        >>> result = preprocess(photo)
        >>> result.images.shape, result.foreground.tolist()
        (torch.Size([1, 1, 28, 28]), [True])
    """
    return concatenate(
        [_preprocess(chunk, polarity) for chunk in gray.split(max(1, _CHUNK * SIDE * SIDE // gray[0].numel()))]
    )


def concatenate(parts: Sequence[Preprocessed]) -> Preprocessed:
    return Preprocessed(torch.cat([part.images for part in parts]), torch.cat([part.foreground for part in parts]))


def _preprocess(gray: Tensor, polarity: Polarity) -> Preprocessed:
    images = torch.zeros(len(gray), SIDE, SIDE)
    foreground = torch.ones(len(gray), dtype=torch.bool)
    rest = torch.ones_like(foreground)
    if gray.shape[1:] == (SIDE, SIDE):
        light = is_as_mnist(gray) if polarity != "dark" else ~rest
        dark = is_as_mnist(1 - gray) if polarity != "light" else ~rest
        images[light] = gray[light]
        images[dark] = 1 - gray[dark]
        rest = ~(light | dark)
    if rest.any():
        images[rest], foreground[rest] = _normalized(gray[rest], polarity)
    return Preprocessed(images[:, None], foreground)


def is_as_mnist(gray: Tensor) -> Tensor:
    """bool (N,): which images, float32 (N, 28, 28), are light on black, inside the box, and centered by mass."""
    foreground = gray > 0.02
    top, bottom = _extent(foreground.any(2))
    left, right = _extent(foreground.any(1))
    height, width = bottom - top, right - left
    longer = torch.maximum(height, width)
    rows, columns = _center_of_mass(gray)
    centered = ((rows - MIDDLE).abs() <= 0.51) & ((columns - MIDDLE).abs() <= 0.51)
    return (longer <= BOX) & (longer >= BOX - 2) & centered & (gray.amax((1, 2)) > 0.5)


def _normalized(gray: Tensor, polarity: Polarity) -> tuple[Tensor, Tensor]:
    height, width = gray.shape[1:]
    # An image smaller than the field is a digit that was cut out: it has no margin that shows the background.
    cut_out = max(height, width) < SIDE
    residual = gray - (_flat_background(gray, polarity) if cut_out else _background(gray))
    sign = {"dark": -1.0, "light": 1.0}.get(polarity)
    signs = residual.pow(3).sum((1, 2)).sign() if sign is None else torch.full((len(gray),), sign)
    smoothing = (max(height, width) // 100) | 1
    signed = _blurred(residual * signs[:, None, None], smoothing)
    noise = torch.zeros(len(gray)) if cut_out else 1.4826 * signed.abs().flatten(1).median(dim=1).values
    signed = signed.clamp_min(0)
    low, high = _two_levels(signed)
    present = high - low >= MIN_CONTRAST + MIN_CONTRAST_TO_NOISE * noise
    floor = torch.maximum(low, torch.minimum(3 * noise, 0.5 * high))[:, None, None]
    foreground = ((signed - floor) / (high[:, None, None] - floor).clamp_min(1e-6)).clamp(0, 1)
    placed = _placed(foreground, _despeckled(foreground > FOREGROUND_LEVEL, smoothing))
    return placed * present[:, None, None], present


def _background(gray: Tensor) -> Tensor:
    """The brightness of the background: a quadratic surface fitted robustly to the image, above all to its border."""
    height, width = gray.shape[1:]
    basis = _quadratics(height, width)
    stride = -(-max(height, width) // 48)
    few = gray[:, ::stride, ::stride]
    rows, columns = few.shape[1:]
    points = basis.reshape(height, width, -1)[::stride, ::stride].reshape(rows * columns, -1)
    values = few.reshape(len(few), -1)
    border = _border(rows, columns)
    prior = torch.where(border, 1.0, 0.1)
    products = (points[:, :, None] * points[:, None, :]).reshape(len(points), -1)
    weights = prior.expand_as(values)
    # A flat background is more likely than a curved one: without this, a large round digit would pass for a shadow.
    ridge = torch.diag(torch.tensor([1e-4, 1e-2, 1e-2, 5e-2, 5e-2, 5e-2]))
    surface = torch.zeros(len(gray), points.shape[1])
    for _ in range(_ROUNDS):
        total = weights.sum(1)
        left = (weights @ products).reshape(len(few), points.shape[1], -1) / total[:, None, None] + ridge
        right = (weights * values) @ points / total[:, None]
        surface = torch.linalg.solve(left, right)
        error = (values - surface @ points.T).abs()
        scale = 2.0 * error[:, border].median(dim=1).values.clamp_min(0.01)
        weights = prior / (1 + (error / scale[:, None]).square()).square()
    return (surface @ basis.T).reshape(gray.shape)


def _flat_background(gray: Tensor, polarity: Polarity) -> Tensor:
    """(N, 1, 1): the lightest or the darkest value, whichever is nearer to the mean."""
    low, high = gray.amin((1, 2), keepdim=True), gray.amax((1, 2), keepdim=True)
    if polarity != "auto":
        return high if polarity == "dark" else low
    return torch.where(gray.mean((1, 2), keepdim=True) < (low + high) / 2, low, high)


def _quadratics(height: int, width: int) -> Tensor:
    """(H·W, 6): 1, x, y, xy, x², y² over the image, each axis from -1 to 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y, x * y, x * x, y * y], dim=-1).reshape(height * width, 6)


def _border(rows: int, columns: int) -> Tensor:
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    top, left = max(1, round(_BORDER * rows)), max(1, round(_BORDER * columns))
    inside[top : rows - top, left : columns - left] = True
    return ~inside.flatten()


def _blurred(images: Tensor, width: int) -> Tensor:
    if width == 1:
        return images
    return F.avg_pool2d(images[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]


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
    """Without pixels that have few neighbors, if the images are so large that a stroke is wider than that."""
    if smoothing == 1:
        return mask
    return mask & (_blurred(mask.float(), smoothing + 2) > 0.4)


def _placed(foreground: Tensor, mask: Tensor) -> Tensor:
    """(N, 28, 28): the foreground inside the bounding box of the mask, resampled with a triangle filter."""
    top, bottom = _extent(mask.any(2))
    left, right = _extent(mask.any(1))
    scale = torch.maximum(bottom - top, right - left).clamp_min(1) / BOX
    inside = (
        _between(top, bottom, foreground.shape[1])[:, :, None] & _between(left, right, foreground.shape[2])[:, None, :]
    )
    foreground = foreground * inside
    rows, columns = _center_of_mass(foreground)
    sampled = _triangles(rows, top, bottom, scale, foreground.shape[1]) @ foreground
    sampled = sampled @ _triangles(columns, left, right, scale, foreground.shape[2]).mT
    sampled = sampled / sampled.amax((1, 2), keepdim=True).clamp_min(0.2)
    # Enlarging makes edges wide and soft, which MNIST's are not.
    gain = (1 / scale).clamp_min(1)[:, None, None]
    sampled = ((sampled - 0.5) * gain + 0.5).clamp(0, 1)
    return _widened(sampled, _stroke_width(foreground > 0.5) / scale).clamp(0, 1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, L); L and 0 where there is none."""
    places = torch.arange(occupied.shape[1])
    first = torch.where(occupied, places, occupied.shape[1]).amin(1)
    return first, torch.where(occupied, places + 1, 0).amax(1)


def _between(first: Tensor, end: Tensor, length: int) -> Tensor:
    places = torch.arange(length)
    return (places >= first[:, None]) & (places < end[:, None])


def _center_of_mass(images: Tensor) -> tuple[Tensor, Tensor]:
    total = images.sum((1, 2)).clamp_min(1e-6)
    rows = images.sum(2) @ torch.arange(images.shape[1], dtype=images.dtype) / total
    return rows, images.sum(1) @ torch.arange(images.shape[2], dtype=images.dtype) / total


def _triangles(mass: Tensor, first: Tensor, end: Tensor, scale: Tensor, length: int) -> Tensor:
    """(N, 28, length): the weights of the input pixels in each output pixel, along one axis; zero outside the box."""
    middle = (first + end - 1) / 2
    # Whole pixels, as MNIST's authors shifted the box inside the field, and never out of it.
    shift = ((mass - middle) / scale + (SIDE - 1) / 2 - MIDDLE).round().clamp(-(SIDE - BOX) // 2, (SIDE - BOX) // 2)
    centers = torch.arange(SIDE) - (SIDE - 1) / 2
    at = (middle + shift * scale)[:, None] + centers * scale[:, None]
    support = scale.clamp_min(1.0)[:, None, None]
    shares = (1 - (torch.arange(length) - at[:, :, None]).abs() / support).clamp_min(0) / support
    # As many whole output pixels on either side of the middle as the foreground reaches into.
    reach = ((end - first) / (2 * scale) - 1e-3).ceil() * scale
    boxed = (at - middle[:, None]).abs() < reach[:, None]
    return shares * boxed[:, :, None]


def _stroke_width(mask: Tensor) -> Tensor:
    """Twice the area over the perimeter: the width of a long stroke, in pixels."""
    padded = F.pad(mask, (1, 1, 1, 1))
    steps = (padded[:, 1:] != padded[:, :-1]).sum((1, 2)) + (padded[:, :, 1:] != padded[:, :, :-1]).sum((1, 2))
    # A slanting edge has more pixel sides than its length, by 4/π on average over all directions.
    return 2 * mask.sum((1, 2)) / (steps * torch.pi / 4).clamp_min(1)


def _widened(images: Tensor, width: Tensor) -> Tensor:
    """Thin strokes made wider by a share of their neighbors' values."""
    share = ((MIN_STROKE_WIDTH - width) / 1.0).clamp(0, 1)[:, None, None]
    padded = F.pad(images, (1, 1, 1, 1))
    across = torch.stack([padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]])
    return torch.maximum(images, share * across.amax(0))
