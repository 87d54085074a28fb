"""Corruptions: what happens to images that nobody means harm with. The 15 families of MNIST-C, and held-out ones.

Mu and Gilmer, "MNIST-C: a robustness benchmark for computer vision", arXiv:1906.02337, after Hendrycks and Dietterich,
"Benchmarking neural network robustness to common corruptions and perturbations", arXiv:1903.12261. Families and
settings are those of their code; the held-out families are those that it defines and the published set leaves out. Its
pictures of frost and of snow, and its pessimal noise, need data that is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardy.corruptions import blur, drawing, geometry, noise, tones, weather
from hardy.corruptions.corruption import Corruption
from hardy.corruptions.geometry import turned, warp
from hardy.errors import UsageError
from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.validation import Images, check_images

__all__ = [
    "CORRUPTIONS",
    "PUBLISHED",
    "VALIDATION",
    "Corruption",
    "corrupt",
    "corrupt_with",
    "register",
    "turned",
    "warp",
]

CORRUPTIONS: Registry[Corruption] = Registry(
    "corruption",
    (
        noise.shot_noise,
        noise.impulse_noise,
        blur.glass_blur,
        blur.motion_blur,
        geometry.shear,
        geometry.scale,
        geometry.rotate,
        tones.brightness,
        geometry.translate,
        drawing.stripe,
        weather.fog,
        weather.spatter,
        drawing.dotted_line,
        drawing.zigzag,
        tones.canny_edges,
        noise.gaussian_noise,
        noise.speckle_noise,
        blur.gaussian_blur,
        blur.defocus_blur,
        blur.zoom_blur,
        geometry.elastic_transform,
        tones.contrast,
        tones.saturate,
        tones.jpeg_compression,
        tones.pixelate,
        tones.quantize,
        drawing.line,
        tones.inverse,
    ),
)
PUBLISHED = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.published)
"""The 15 families of MNIST-C."""

VALIDATION = tuple(name for name, corruption in CORRUPTIONS.items() if not corruption.published)
"""The families that are in its authors' code and not in the set."""

# Images at once: the largest intermediate results, of glass blur, then have about 10 MiB.
_BATCH = 512

Function = TypeVar("Function", bound=Callable[..., Images])


def register(
    *, name: str, severities: Sequence[Mapping[str, Any]] = ({},), description: str = "", default: int = 1, **more: Any
) -> Callable[[Function], Function]:
    """Register a corruption of one's own: a decorator of ``(images, rng, **settings) -> images``.

    Args:
        name: of the family.
        severities: the keyword settings of each severity, from 1 on.
        description: what it does, in one line; by default the first line of the function's docstring.
        default: the severity taken where none is named.
        more: ``smallest``, ``largest`` and ``gray``, as in :class:`Corruption`.

    Raises:
        UsageError: the name is taken, or there is no such default severity.

    >>> @hardy.corruptions.register(name="dim", severities=[{"factor": 0.8}, {"factor": 0.5}])
    ... def dim(images, rng, *, factor):
    ...     '''Every pixel darker.'''
    ...     return factor * images
    >>> float(hardy.corruptions.corrupt(torch.ones(1, 1, 2, 2), "dim", severity=2).mean())
    0.5
    >>> hardy.corruptions.CORRUPTIONS.remove("dim")
    """

    def add(function: Function) -> Function:
        told = description or (function.__doc__ or name).split("\n")[0].removesuffix(".")
        made = Corruption(name, told, function, severities, default, **more)
        made.check_severity(default)
        CORRUPTIONS.add(made)
        return function

    return add


@overload
def corrupt(
    images: Tensor, name: str, severity: int | None = None, *, seed: int = 0, quantized: bool = False
) -> Tensor: ...
@overload
def corrupt(
    images: NDArray, name: str, severity: int | None = None, *, seed: int = 0, quantized: bool = False
) -> NDArray[np.float32]: ...
def corrupt(
    images: Tensor | NDArray, name: str, severity: int | None = None, *, seed: int = 0, quantized: bool = False
) -> Tensor | NDArray[np.float32]:
    """Corrupt images, a tensor or an array; the image in row i gets the same random numbers whatever is beside it.

    Args:
        images: float32 (N, C, H, W) in [0, 1]; left as they are.
        name: the family, one of :data:`CORRUPTIONS`; dashes may stand for underscores.
        severity: from 1 to as many as the family has; None for its default.
        seed: of what is random. A severity uses the same numbers as another, so severities compare.
        quantized: round the result to the 256 values of 8 bits, as an image file would.

    Returns:
        float32 (N, C, H, W) in [0, 1], a tensor on the same device or an array.

    Raises:
        ContractError: images outside the contract, NaN among them.
        UsageError: unknown family or severity; a family that is not defined for such images.

    >>> foggy = hardy.corruptions.corrupt(torch.rand(2, 1, 28, 28), "fog", severity=3, seed=0)
    >>> foggy.shape
    torch.Size([2, 1, 28, 28])
    """
    given = torch.as_tensor(images)
    rng = Randomness(seed, torch.arange(len(given), device=given.device))
    corrupted = corrupt_with(given, name, severity, rng, quantized=quantized)
    return corrupted if isinstance(images, Tensor) else corrupted.numpy()


def corrupt_with(
    images: Images, name: str, severity: int | None, rng: Randomness, *, quantized: bool = False
) -> Images:
    """As :func:`corrupt`, with the images' own random streams.

    Raises:
        ContractError: images outside the contract, NaN among them.
        UsageError: unknown family or severity; a family that is not defined for such images; streams of other images.
    """
    corruption = CORRUPTIONS.find(name.replace("-", "_"))
    severity = corruption.default if severity is None else severity
    corruption.check_severity(severity)
    check_images(images)
    reason = corruption.reason_undefined(tuple(images.shape[1:]))
    if reason:
        raise UsageError(f"corruption '{corruption.name}': {reason}")
    if len(rng) != len(images):
        raise UsageError(f"corruption '{corruption.name}': {len(rng)} random streams for {len(images)} images")
    rng = rng.fold("corruption", corruption.name)
    rows = torch.arange(len(images), device=rng.examples.device).split(_BATCH)
    found = [
        corruption.function(images[part], rng.select(part), **corruption.settings[severity - 1]).clamp(0.0, 1.0)
        for part in rows
        if len(part)
    ]
    corrupted = torch.cat(found) if found else images.clone()
    return torch.round(corrupted * 255) / 255 if quantized else corrupted
