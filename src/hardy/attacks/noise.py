"""Attacks that need no gradient: additive noise of a given size, and the least salt and pepper that fools."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.attack import Attack
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


def additive_noise(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    repeats: int,
) -> Images:
    """Noise scaled to norm eps, then clipped: Gaussian in l2, uniform in linf; the first of ``repeats`` that fools."""
    result = images.clone()
    standing = torch.arange(len(images), device=images.device)
    for draw in range(repeats):
        noise = _noise_of_norm(threat, images[standing], rng.select(standing), draw)
        candidates = (images[standing] + noise).clamp(0.0, 1.0)
        result[standing] = candidates
        if draw == repeats - 1:
            break
        standing = standing[classifier(candidates).argmax(1) == labels[standing]]
        if not len(standing):
            break
    return result


def _noise_of_norm(threat: ThreatModel, images: Images, rng: Randomness, draw: int) -> Images:
    shape = images.shape[1:]
    if threat.norm == "l2":
        noise = rng.normal(*shape, draw=draw)
        size = noise.flatten(1).norm(dim=1)
    else:
        noise = rng.uniform(*shape, low=-1.0, high=1.0, draw=draw)
        size = noise.flatten(1).abs().amax(1)
    return noise * (threat.eps / size).reshape(-1, 1, 1, 1)


def salt_and_pepper(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    rough: Classifier,
    steps: int,
    patience: int,
    start: Images | None = None,
) -> Images:
    """Pixels set to 0 or 1 at random, in all channels: the smallest change in l2 that fools, of ``steps`` tries.

    A draw says for each pixel at which amount of noise it turns, and into what; so the noise of a smaller amount is
    part of that of a larger one. Until an image is fooled, the largest amount whose change is smaller than eps is
    tried; then draws only order the pixels that are turned, and bisection looks for the fewest of them that fool. So
    no try goes to an image that could not be an improvement, nor to an amount so small that it hardly ever fools. An
    image that has been fooled and then withstood ``patience`` tries in a row is left at that.

    With ``start``, a search in lower precision has found nothing, and a quarter of the tries is left.

    ``rough`` judges the tries. What a draw has come to is asked of the classifier itself, and taken back if it stands.
    """
    if start is not None:
        steps = math.ceil(steps / 4)
    count, channels, height, width = images.shape
    pixels = height * width
    result = images.clone()
    best = images.new_full((count,), threat.eps)
    turned = torch.zeros_like(images)
    # How many pixels turn before this one, and the norm of the change once so many have turned.
    rank = torch.zeros((count, pixels), dtype=torch.int64, device=images.device)
    norms = images.new_zeros((count, pixels + 1))
    # As many turned pixels as are known not to fool, and as are known to fool or to change the image too much.
    low = torch.zeros(count, dtype=torch.int64, device=images.device)
    high = torch.zeros_like(low)
    fooled_once = torch.zeros(count, dtype=torch.bool, device=images.device)
    in_vain = torch.zeros_like(low)
    confirmed, confirmed_norm = images.clone(), best.clone()

    def confirm(rows: Tensor) -> None:
        rows = rows[best[rows] < confirmed_norm[rows]]
        if rough is classifier or not len(rows):
            return
        fooling = classifier(result[rows]).argmax(1) != labels[rows]
        right, back = rows[fooling], rows[~fooling]
        confirmed[right], confirmed_norm[right] = result[right], best[right]
        result[back], best[back] = confirmed[back], confirmed_norm[back]
        fooled_once[back] = confirmed_norm[back] < threat.eps

    for step in range(steps):
        active = ~fooled_once | (in_vain < patience)
        if not active.any():
            break
        drawing = active & (high - low <= 1)
        fresh = drawing.nonzero().squeeze(1)
        if len(fresh):
            confirm(fresh)
            level = rng.select(fresh).uniform(pixels, draw=step)
            noise = (level >= 0.5).to(images.dtype).reshape(-1, 1, height, width).expand(-1, channels, -1, -1)
            turned[fresh] = torch.where(fooled_once[fresh].reshape(-1, 1, 1, 1), result[fresh], noise)
            order = torch.minimum(level, 1.0 - level).argsort(1)
            rank[fresh] = order.argsort(1)
            change = (turned[fresh] - images[fresh]).square().sum(1).flatten(1).gather(1, order)
            norms[fresh, 1:] = change.cumsum(1).sqrt()
            low[fresh] = 0
            high[fresh] = (norms[fresh] < best[fresh, None]).sum(1)
        tried = torch.where(drawing, high - 1, (low + high) // 2).clamp_min(0)
        norm = norms.gather(1, tried[:, None]).squeeze(1)
        fooled = torch.zeros_like(drawing)
        changed = (active & (norm > 0)).nonzero().squeeze(1)
        noisy = (rank[changed] < tried[changed, None]).reshape(-1, 1, height, width)
        candidates = torch.where(noisy, turned[changed], images[changed])
        if len(changed):
            fooling = rough(candidates).argmax(1) != labels[changed]
            fooled[changed] = fooling
            result[changed[fooling]] = candidates[fooling]
        fooled_once |= fooled
        in_vain = torch.where(fooled, 0, in_vain + 1)
        best = torch.where(fooled, norm, best)
        low, high = torch.where(fooled, low, tried), torch.where(fooled, tried, high)
    confirm(torch.arange(count, device=images.device))
    return result


ADDITIVE_NOISE = Attack(
    name="noise",
    title="additive noise, Gaussian in l2 and uniform in linf",
    function=additive_noise,
    norms=("linf", "l2"),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    settings={"repeats": 1},
    gradients=False,
)
REPEATED_NOISE = Attack(
    name="repeated-noise",
    title="additive noise, 100 draws",
    function=additive_noise,
    norms=("linf", "l2"),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    settings={"repeats": 100},
    gradients=False,
)
SALT_AND_PEPPER = Attack(
    name="salt-and-pepper",
    title="salt-and-pepper noise, as little as fools",
    function=salt_and_pepper,
    norms=("l2",),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    search="smallest",
    settings={"steps": 160, "patience": 20},
    warm_start=True,
    gradients=False,
    rough=True,
)
