"""Threat models: a norm and a radius. They alone know distance, projection and sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from hardy.errors import UsageError
from hardy.rng import Randomness
from hardy.validation import Images

Norm: TypeAlias = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)

# Rounding of a sum over some thousand float32 pixels; what is outside the ball by more is outside.
RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ThreatModel:
    """All images of [0, 1] at most ``eps`` away from a reference in ``norm``.

    Attributes:
        norm: ``linf``, ``l2``, ``l1``, or ``l0`` (the number of pixels that differ in any channel).
        eps: the radius, in units of the pixel range [0, 1]; for ``l0`` a number of pixels.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm '{self.norm}'; known: {', '.join(NORMS)}")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise UsageError(f"eps {self.eps} in {self.norm}: a radius is a finite number from 0 up")
        if self.norm == "l0" and self.eps != int(self.eps):
            raise UsageError(f"eps {self.eps} in l0: the radius is a whole number of pixels")

    @classmethod
    def checked(cls, norm: str, eps: float) -> ThreatModel:
        """A threat model that somebody typed: refuses a radius that makes no sense for images in [0, 1].

        Raises:
            UsageError: unknown norm; ``linf`` above 1, which usually is 8 typed for 8/255.
        """
        threat = cls(norm, eps)  # type: ignore[arg-type]
        if norm == "linf" and eps > 1:
            raise UsageError(
                f"eps {eps:g} in linf: pixels lie in [0, 1], so eps is at most 1; "
                f"if you mean {eps:g}/255, type {eps / 255:.6g} (eps 1 is 255/255)"
            )
        return threat

    def distance(self, images: Images, reference: Images) -> Tensor:
        """float32 (N,): how far each image is from its reference."""
        change = (images - reference).flatten(1)
        match self.norm:
            case "linf":
                return change.abs().amax(1) if change.shape[1] else change.new_zeros(len(change))
            case "l2":
                return change.norm(dim=1)
            case "l1":
                return change.abs().sum(1)
            case "l0":
                return (images != reference).any(1).flatten(1).sum(1).to(images.dtype)

    def contains(self, images: Images, reference: Images) -> Tensor:
        """bool (N,): inside the ball, up to rounding, and in [0, 1] exactly."""
        near = self.distance(images, reference) <= self.eps * (1 + RELATIVE_TOLERANCE) + ABSOLUTE_TOLERANCE
        flat = images.flatten(1)
        return near & (flat >= 0).all(1) & (flat <= 1).all(1)

    def project(self, images: Images, reference: Images) -> Images:
        """Into the ball and into [0, 1]; what is inside already stays as it is.

        The change is projected into the ball, then the sum is clipped: as the reference lies in [0, 1], clipping only
        shortens the change. For linf this is the nearest point of the intersection; for l2 and l1 it is a point of it.
        """
        change = images - reference
        match self.norm:
            case "linf":
                change = change.clamp(-self.eps, self.eps)
            case "l2":
                norm = change.flatten(1).norm(dim=1).clamp_min(1e-12)
                change = change * (self.eps / norm).clamp_max(1.0).reshape(-1, 1, 1, 1)
            case "l1":
                change = project_l1(change.flatten(1), self.eps).reshape(change.shape)
            case "l0":
                change = self._keep_largest(change)
        return (reference + change).clamp(0.0, 1.0)

    def random_start(self, images: Images, rng: Randomness) -> Images:
        """Uniform in the ball, then clipped to [0, 1]; l0: a random choice of ``eps`` pixels gets random values."""
        count, *shape = images.shape
        pixels = math.prod(shape)
        match self.norm:
            case "linf":
                change = rng.uniform(*shape, low=-self.eps, high=self.eps)
            case "l2":
                direction = rng.fold("direction").normal(pixels)
                direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
                radius = self.eps * rng.fold("radius").uniform(1) ** (1.0 / pixels)
                change = (direction * radius).reshape(count, *shape)
            case "l1":
                # A Laplace vector over its l1 norm is uniform on the sphere.
                size = -torch.log1p(-rng.fold("direction").uniform(pixels))
                direction = size * rng.fold("sign").signs(pixels)
                direction = direction / direction.abs().sum(1, keepdim=True).clamp_min(1e-12)
                radius = self.eps * rng.fold("radius").uniform(1) ** (1.0 / pixels)
                change = (direction * radius).reshape(count, *shape)
            case "l0":
                channels, height, width = shape
                place = rng.fold("place").uniform(height * width).argsort(1).argsort(1) < self.eps
                value = rng.fold("value").uniform(channels, height, width)
                change = torch.where(place.reshape(count, 1, height, width), value - images, torch.zeros_like(images))
        return (images + change).clamp(0.0, 1.0)

    def _keep_largest(self, change: Tensor) -> Tensor:
        size = change.abs().sum(1).flatten(1)
        rank = size.argsort(dim=1, descending=True, stable=True).argsort(1)
        keep = (rank < self.eps).reshape(len(change), 1, *change.shape[2:])
        return change * keep


# By norm, with how many values an image has: MNIST's, and CIFAR-10's.
_ONE_CHANNEL: tuple[dict[Norm, float], int] = ({"linf": 0.3, "l2": 2.0, "l1": 10.0}, 28 * 28)
_COLOR: tuple[dict[Norm, float], int] = ({"linf": 8 / 255, "l2": 0.5, "l1": 12.0}, 3 * 32 * 32)


def usual_radii(shape: Sequence[int]) -> dict[Norm, float]:
    """The radii that classifiers of images (C, H, W) are commonly held to, by norm.

    Of one channel those of MNIST, at 28x28: linf 0.3, l2 2, l1 10. Of more those of CIFAR-10, at 32x32: linf 8/255,
    l2 0.5, l1 12. In l2 and l1 they grow with the root of the number of values, so with the side of the image.
    """
    radii, values = _ONE_CHANNEL if shape[0] == 1 else _COLOR
    growth = math.sqrt(math.prod(shape) / values)
    return {norm: eps if norm == "linf" else float(f"{growth * eps:.3g}") for norm, eps in radii.items()}


def gray_radius(norm: Norm, shape: Sequence[int]) -> float:
    """How far at most an image (C, H, W) is from gray all over; a ball of that radius leaves one class standing."""
    values = math.prod(shape)
    return {"linf": 0.5, "l2": 0.5 * math.sqrt(values), "l1": 0.5 * values, "l0": values / shape[0]}[norm]


def read_radius(eps: float | str) -> float:
    """A radius as somebody typed it: a number, or a fraction as in ``8/255``.

    Raises:
        UsageError: neither.
    """
    above, fraction, below = str(eps).partition("/")
    try:
        return float(above) / (float(below) if fraction else 1.0)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"eps '{eps}': type a number or a fraction, as in 0.3 or 8/255") from None


def project_l1(change: Tensor, radius: float) -> Tensor:
    """Rows of ``change``, float32 (N, D), to the nearest point of the l1 ball (Duchi et al., ICML 2008)."""
    # In float32 the rounding of a sum over hundreds of pixels alone can leave a small ball.
    size = change.abs().double()
    outside = size.sum(1) > radius
    ordered = size.sort(1, descending=True).values
    excess = ordered.cumsum(1) - radius
    place = torch.arange(1, change.shape[1] + 1, device=change.device)
    last = (ordered * place > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, last - 1) / last
    shrunk = change.sign() * (size - threshold).clamp_min(0.0)
    return torch.where(outside[:, None], shrunk.to(change.dtype), change)
