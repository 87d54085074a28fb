"""Gray images to the form of MNIST's: light strokes on black, in a 20x20 box, centered by mass in 28x28.

Every step works on a stack of images of one size at once, and treats each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hardy.deployment.components import GRAIN, NARROW, Components, components, several, sizable, surroundings
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

# Of white: what counts as seen when objects are counted in the 28x28.
SEEN = 0.3

# Of an image's longer side: a square of background has to lie in what is wider, which therefore is no stroke.
WIDEST_STROKE = 0.35

# Of the contrast: what differs less than this from the ink inside its box is ink.
CORE = 0.25

# Of the contrast, and of the pixels around a component: what falls so little short of its own brightness is more of the
# same, and so much of that makes it the edge of something wide.
SAME, ONE_SIDE = 0.4, 0.25

# Of an image's longer side: what is smaller is a speck.
MIN_SIZE = 0.04

# So many times what an image is lighter or darker than its background surface is believed: a shadow's edge bends that.
TRUST = 3.0

# Of the range of an image: a border that varies less shows the background.
EVEN = 0.35

# Of an image: less paper than this shows nothing of its noise.
MIN_PAPER = 0.02

# Of the pixels of an image's border.
MOST_OF_BORDER = 0.5

_BORDER = 0.125
_ROUNDS = 6
_CHUNK = 2000


class Preprocessed(NamedTuple):
    """What the network sees.

    Attributes:
        images: float32 (N, 1, 28, 28) in [0, 1], light on black; all black where there is no foreground.
        foreground: bool (N,), whether anything stands out from the background.
        several: bool (N,), whether it is more than one object.
    """

    images: Images
    foreground: Tensor
    several: Tensor


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


def preprocess_each(gray: Sequence[Tensor | NDArray[np.float32]], polarity: Polarity = "auto") -> Preprocessed:
    """:func:`preprocess` for images of different sizes, float32 (H, W) each; those of one size are taken together."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(gray):
        sizes.setdefault(tuple(image.shape), []).append(place)
    stacks = (torch.stack([torch.as_tensor(gray[place]) for place in places]) for places in sizes.values())
    found = concatenate([preprocess(stack, polarity) for stack in stacks])
    order = torch.tensor([place for places in sizes.values() for place in places]).argsort()
    return Preprocessed(*(part[order] for part in found))


def concatenate(parts: Sequence[Preprocessed]) -> Preprocessed:
    return Preprocessed(*(torch.cat(values) for values in zip(*parts, strict=True)))


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
    return in_form(images[:, None], foreground)


def in_form(images: Images, foreground: Tensor | None = None) -> Preprocessed:
    """Images that have the form of MNIST's already, float32 (N, 1, 28, 28), with what they show."""
    found = several(components((images[:, 0] > SEEN).cpu().numpy()), len(images))
    present = torch.ones(len(images), dtype=torch.bool) if foreground is None else foreground
    return Preprocessed(images, present, torch.from_numpy(found))


def as_they_are(images: Images) -> Preprocessed:
    """Images of any shape, (N, C, H, W), each taken to show one object."""
    present = torch.ones(len(images), dtype=torch.bool)
    return Preprocessed(images, present, ~present)


def as_seen(images: Images, form: str, polarity: Polarity = "auto") -> Preprocessed:
    """What the network sees of images of its own size, float32 (N, C, H, W), that are handed in as files."""
    return preprocess(images[:, 0], polarity) if form == "mnist" else as_they_are(images)


def is_as_mnist(gray: Tensor) -> Tensor:
    """bool (N,): which images, float32 (N, 28, 28), are light on black, inside the box, and centered by mass."""
    foreground = gray > 0.02
    top, bottom = extent(foreground.any(2))
    left, right = extent(foreground.any(1))
    height, width = bottom - top, right - left
    longer = torch.maximum(height, width)
    rows, columns = center_of_mass(gray)
    centered = ((rows - MIDDLE).abs() <= 0.51) & ((columns - MIDDLE).abs() <= 0.51)
    return (longer <= BOX) & (longer >= BOX - 2) & centered & (gray.amax((1, 2)) > 0.5)


def _normalized(gray: Tensor, polarity: Polarity) -> tuple[Tensor, Tensor]:
    height, width = gray.shape[1:]
    # An image smaller than the field, or much taller than wide, is a digit that was cut out: it has no margin that
    # shows the background.
    cut_out = max(height, width) < SIDE or min(height, width) < NARROW * max(height, width)
    # A stroke thinner than a pixel is a row of gray ones: a smooth curve through them keeps it in one piece.
    times = -(-SIDE // max(height, width))
    if times > 1:
        gray = F.interpolate(gray[:, None], scale_factor=times, mode="bicubic")[:, 0].clamp(0, 1)
        height, width = gray.shape[1:]
    smoothing = (max(height, width) // 100) | 1
    smooth = _blurred(gray, smoothing)
    if cut_out:
        residual = smooth - _flat_background(gray)
        light, dark = smooth - smooth.amin((1, 2), keepdim=True), smooth.amax((1, 2), keepdim=True) - smooth
    else:
        window = round(WIDEST_STROKE * max(height, width)) | 1
        residual = smooth - _background(gray)
        light = smooth - _sliding(_sliding(smooth, window, -1), window, 1)
        dark = _sliding(_sliding(smooth, window, 1), window, -1) - smooth
        # The gaps between light strokes are no dark ones: they have the brightness of the background. Where it shows on
        # the border, it is known.
        ring = torch.cat([smooth[:, 0], smooth[:, -1], smooth[:, :, 0], smooth[:, :, -1]], dim=1)
        spread = ring.quantile(0.9, dim=1) - ring.quantile(0.1, dim=1)
        known = spread < EVEN * (smooth.amax((1, 2)) - smooth.amin((1, 2)))
        known = (known | (polarity != "auto"))[:, None, None]
        light = torch.where(known, torch.minimum(light, TRUST * residual.clamp_min(0)), light)
        dark = torch.where(known, torch.minimum(dark, TRUST * (-residual).clamp_min(0)), dark)
    if polarity != "auto":
        found = _standing_out(*((light, smooth, 1) if polarity == "light" else (dark, smooth, -1)), smoothing, cut_out)
    else:
        # What both ways of taking the background agree on; a shadow's edge misleads the one, a digit's hole the other.
        ink = torch.minimum(light, residual).clamp_min(0).pow(3) - torch.minimum(dark, -residual).clamp_min(0).pow(3)
        both = _standing_out(light, smooth, 1, smoothing, cut_out), _standing_out(dark, smooth, -1, smoothing, cut_out)
        is_light = torch.where(both[0].cropped ^ both[1].cropped, both[0].cropped, ink.sum((1, 2)) > 0)
        found = _StandingOut(
            *(torch.where(is_light.view(-1, *[1] * (it.ndim - 1)), it, other) for it, other in zip(*both, strict=True))
        )
    return _placed(found.foreground, found.mask, times) * found.present[:, None, None], found.present


class _StandingOut(NamedTuple):
    """What is lighter, or what is darker, than the background.

    Attributes:
        foreground: float32 (N, H, W), from 0 to 1.
        mask: bool (N, H, W), what of it is the object.
        present: bool (N,), whether there is any.
        cropped: bool (N,), whether it is one piece that touches all four sides, as where an image is cropped to it.
    """

    foreground: Tensor
    mask: Tensor
    present: Tensor
    cropped: Tensor


def _standing_out(signed: Tensor, smooth: Tensor, sign: int, smoothing: int, cut_out: bool) -> _StandingOut:
    count, height, width = signed.shape
    low, high = _two_levels(signed)
    noise = _noise(smooth, signed > ((low + high) / 2)[:, None, None])
    floor = torch.maximum(low, torch.minimum(3 * noise, 0.5 * high))[:, None, None]
    foreground = ((signed - floor) / (high[:, None, None] - floor).clamp_min(1e-6)).clamp(0, 1)
    mask = _despeckled(foreground > FOREGROUND_LEVEL, smoothing)
    found = components(mask.numpy())
    large = sizable(found, count)
    if not cut_out:
        values = (smooth.detach().numpy(), signed.detach().numpy())
        beside = surroundings(found) | _steps(found, *values, sign, 2 * smoothing + 1)
        kept = torch.from_numpy(np.concatenate([[False], ~beside & sizable(found, count, GRAIN)])[found.labels])
        mask, foreground = mask & kept, foreground * _grown(kept, 2 * smoothing + 1)
        large &= ~beside
        foreground, mask = _filled(foreground, mask, smooth, high)
    touching = (found.box == np.array([0, height, 0, width])).all(axis=1)
    pieces = np.bincount(found.image[large], minlength=count)
    whole = np.bincount(found.image[large & touching], minlength=count)
    top, bottom = extent(mask.any(2))
    left, right = extent(mask.any(1))
    longer = torch.maximum(bottom - top, right - left)
    present = (high - low >= MIN_CONTRAST + MIN_CONTRAST_TO_NOISE * noise) & (longer >= MIN_SIZE * max(height, width))
    # Of a digit that was cut out, some strokes end at the border; what covers most of the border is background.
    border = torch.cat([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], dim=1).float().mean(1)
    cropped = torch.from_numpy((pieces == 1) & (whole == 1)) & present & (border < MOST_OF_BORDER)
    return _StandingOut(foreground, mask, present, cropped)


def _steps(found: Components, smooth: NDArray, signed: NDArray, sign: int, window: int) -> NDArray[np.bool_]:
    """bool (C,): which lie along a step from dark to light, as slivers do at the edge of a shadow or of a page.

    Around a stroke is background; around such a sliver is, on one side, more of the same.
    """
    inked, count = found.labels > 0, len(found.area) + 1
    mean, contrast = (
        np.bincount(found.labels[inked], weights=it[inked], minlength=count) / np.r_[1, found.area]
        for it in (smooth, signed)
    )
    around = _sliding(torch.from_numpy(found.labels).float(), window, 1).numpy().astype(np.int64) * ~inked
    ring = around[around > 0]
    alike = sign * (smooth[around > 0] - mean[ring]) > -SAME * contrast[ring]
    same = np.bincount(ring, weights=alike, minlength=count) / np.bincount(ring, minlength=count).clip(1)
    return same[1:] > ONE_SIDE


def _filled(foreground: Tensor, mask: Tensor, smooth: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
    """With the core of what is wider than any stroke: what is as dark, or as light, as the rest of the object."""
    top, bottom = extent(mask.any(2))
    left, right = extent(mask.any(1))
    box = _between(top, bottom, mask.shape[1])[:, :, None] & _between(left, right, mask.shape[2])[:, None, :]
    ink = (smooth * mask).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp_min(1)
    core = box & ((smooth - ink).abs() < CORE * contrast[:, None, None])
    return torch.where(core, 1.0, foreground), mask | core


def _noise(smooth: Tensor, inked: Tensor) -> Tensor:
    """(N,): the standard deviation of the paper's pixels about their neighbors, away from the ink; 0 without any."""
    paper = ~_grown(inked, 3)
    # Of nine equal variances, the mean of nine takes away one.
    apart = (smooth - _blurred(smooth, 3)).abs() * (9 / 8) ** 0.5
    middle = torch.where(paper, apart, torch.nan).flatten(1).nanmedian(dim=1).values
    return torch.where(paper.flatten(1).float().mean(1) > MIN_PAPER, 1.4826 * middle, 0.0)


def _sliding(images: Tensor, window: int, sign: int) -> Tensor:
    """The largest value (``sign`` 1) or the smallest (-1) of a square of this odd width around each pixel."""
    padded = F.pad(sign * images, (window // 2,) * 4, value=-torch.inf)
    for axis in (1, 2):
        # Windows of 1, 2, 4, … are put together from two of half the width.
        have = 1
        while have < window:
            step = min(have, window - have)
            length = padded.shape[axis] - step
            padded = torch.maximum(padded.narrow(axis, 0, length), padded.narrow(axis, step, length))
            have += step
    return sign * padded


def _grown(mask: Tensor, window: int) -> Tensor:
    return _sliding(mask.float(), window, 1) > 0


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


def _flat_background(gray: Tensor) -> Tensor:
    """(N, 1, 1): the lightest or the darkest value, whichever is nearer to the mean."""
    low, high = gray.amin((1, 2), keepdim=True), gray.amax((1, 2), keepdim=True)
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


def _placed(foreground: Tensor, mask: Tensor, times: int) -> Tensor:
    """(N, 28, 28): the foreground inside the bounding box of the mask, resampled with a triangle filter.

    It was enlarged so many times before.
    """
    top, bottom = extent(mask.any(2))
    left, right = extent(mask.any(1))
    scale = torch.maximum(bottom - top, right - left).clamp_min(1) / BOX
    inside = (
        _between(top, bottom, foreground.shape[1])[:, :, None] & _between(left, right, foreground.shape[2])[:, None, :]
    )
    foreground = foreground * inside
    rows, columns = center_of_mass(foreground)
    sampled = _triangles(rows, top, bottom, scale, foreground.shape[1]) @ foreground
    sampled = sampled @ _triangles(columns, left, right, scale, foreground.shape[2]).mT
    sampled = sampled / sampled.amax((1, 2), keepdim=True).clamp_min(0.2)
    # Enlarging makes edges wide and soft, which MNIST's are not; smooth curves are less so.
    gain = (times / scale).clamp_min(1)[:, None, None] ** (0.5 if times > 1 else 1.0)
    sampled = ((sampled - 0.5) * gain + 0.5).clamp(0, 1)
    return _widened(sampled, _stroke_width(foreground > 0.5) / scale).clamp(0, 1)


def extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, L); L and 0 where there is none."""
    places = torch.arange(occupied.shape[1])
    first = torch.where(occupied, places, occupied.shape[1]).amin(1)
    return first, torch.where(occupied, places + 1, 0).amax(1)


def _between(first: Tensor, end: Tensor, length: int) -> Tensor:
    places = torch.arange(length)
    return (places >= first[:, None]) & (places < end[:, None])


def center_of_mass(images: Tensor) -> tuple[Tensor, Tensor]:
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
