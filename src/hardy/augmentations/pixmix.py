"""PixMix: images mixed with pictures of much structure and no class, here made fractals and textures."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hardy.augmentations.chains import random_operation
from hardy.rng import Randomness
from hardy.validation import Images

PICTURES = 512
_ROUNDS = 4
_SEED = 0
_ESCAPE = 40


def pixmix(images: Images, rng: Randomness, *, beta: float, severity: float) -> Images:
    """Each image mixed up to four times, by sum or product, with a made picture or with its own changed copy.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        rng: the streams of these examples.
        beta: the higher, the less is mixed in; 3 in the paper.
        severity: of AugMix's operations on the image, from 0 to 10; 3 in the paper.

    Hendrycks et al., CVPR 2022, arXiv:2112.05135; its mixing set are fractals and feature visualisations, see
    :func:`mixing_set` for this one.
    """
    pictures = mixing_set(*images.shape[1:], device=images.device)
    draws = rng.uniform(2 + _ROUNDS, 5)
    operations = rng.fold("operations").uniform(1 + _ROUNDS, 3)
    changed = random_operation(images, operations[:, 0], severity=severity)
    mixed = _choose(draws[:, 0, 0] < 0.5, changed, images)
    rounds = (draws[:, 1, 0] * (_ROUNDS + 1)).long()
    picture = pictures[(draws[:, 1, 1] * len(pictures)).long()]
    for number in range(_ROUNDS):
        rows = (rounds > number).nonzero()[:, 0]
        if len(rows):
            drawn = draws[rows, 2 + number]
            other = random_operation(images[rows], operations[rows, 1 + number], severity=severity)
            other = _choose(drawn[:, 0] < 0.5, other, picture[rows])
            mixed = mixed.index_copy(0, rows, _mixed_once(mixed[rows], other, drawn[:, 1:], beta))
    return mixed


def _choose(first: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(first.reshape(-1, 1, 1, 1), one, other)


def _mixed_once(mixed: Images, other: Images, draws: Tensor, beta: float) -> Images:
    by_sum, inside, first, second = (draws[:, number] for number in range(4))
    # U^(1/beta) is Beta(beta, 1), and one minus that is Beta(1, beta).
    power = 1.0 / max(beta, 1e-3)
    small = 1.0 - second**power
    a = torch.where(inside < 0.5, first**power, 1.0 + 1.0 - first**power).reshape(-1, 1, 1, 1)
    b = torch.where(inside < 0.5, small, -small).reshape(-1, 1, 1, 1)
    total = (a * (2 * mixed - 1) + b * (2 * other - 1) + 1) / 2
    product = (2 * mixed) ** a * (2 * other).clamp_min(1e-37) ** b / 2
    return _choose(by_sum < 0.5, total, product).clamp(0.0, 1.0)


@lru_cache(maxsize=4)
def mixing_set(channels: int, height: int, width: int, *, device: torch.device) -> Tensor:
    """float32 (512, C, H, W) in [0, 1]: a quarter each Julia sets, gratings, marble and cells.

    The same pictures in every process; channels differ in phase, or in the point, that makes them.
    """
    place = Randomness(_SEED, torch.arange(PICTURES * channels), ("mixing set",))
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    makers = (_julia, _gratings, _marble, _cells)
    made = [
        _stretched(maker(place.select(torch.arange(number, PICTURES * channels, len(makers))), down, across))
        for number, maker in enumerate(makers)
    ]
    return torch.cat(made).reshape(PICTURES, channels, height, width).to(device)


def _stretched(pictures: Tensor) -> Tensor:
    low, high = pictures.amin((1, 2), keepdim=True), pictures.amax((1, 2), keepdim=True)
    return (pictures - low) / (high - low).clamp_min(1e-6)


def _julia(rng: Randomness, down: Tensor, across: Tensor) -> Tensor:
    """How soon z² + c escapes; c lies just outside the main cardioid, where the sets are rich."""
    draws = rng.uniform(6)
    angle = 2 * math.pi * draws[:, 0]
    c = torch.polar(torch.full_like(angle, 0.5), angle) - torch.polar(torch.full_like(angle, 0.25), 2 * angle)
    c = (c * (1.0 + 0.15 * draws[:, 1])).reshape(-1, 1, 1)
    zoom = (0.3 + 1.2 * draws[:, 2]).reshape(-1, 1, 1)
    z = torch.complex(across, down) * zoom + torch.complex(draws[:, 3] - 0.5, draws[:, 4] - 0.5).reshape(-1, 1, 1)
    steps = torch.zeros(z.shape)
    for _ in range(_ESCAPE):
        inside = z.abs() < 2.0
        steps += inside
        z = torch.where(inside, z**2 + c, z)
    return (steps / _ESCAPE).sqrt()


def _waves(rng: Randomness, down: Tensor, across: Tensor, bend: Tensor | float = 0.0) -> Tensor:
    draws = rng.uniform(3)
    angle, phase = math.pi * draws[:, :1, None], 2 * math.pi * draws[:, 1:2, None]
    frequency = 4.0 + 20.0 * draws[:, 2:, None]
    return torch.sin(frequency * (across * angle.cos() + down * angle.sin()) + phase + bend)


def _gratings(rng: Randomness, down: Tensor, across: Tensor) -> Tensor:
    return sum(_waves(rng.fold("wave", number), down, across) for number in range(3))  # type: ignore[return-value]


def _marble(rng: Randomness, down: Tensor, across: Tensor) -> Tensor:
    bend = interpolate(rng.normal(1, 6, 6), size=tuple(down.shape), mode="bicubic", align_corners=True)[:, 0]
    return _waves(rng.fold("wave"), down, across, 3.0 * bend)


def _cells(rng: Randomness, down: Tensor, across: Tensor) -> Tensor:
    """Distance to the nearest of twelve points."""
    points = rng.uniform(12, 2, low=-1.0)[..., None, None]
    return torch.hypot(points[:, :, 0] - down, points[:, :, 1] - across).amin(1)
