"""Salt-and-pepper noise, as little of it as fools; an attack that needs no gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="salt-and-pepper noise, as little as fools",
    norms=("l2",),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    search="smallest",
    gradients=False,
)
def salt_and_pepper(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    fast_model: Classifier,
    steps: int = 160,
    patience: int = 20,
) -> Images:
    """Pixels set to 0 or 1 at random, in all channels: the smallest change in l2 that fools.

    A draw says for each pixel at which amount of noise it changes, and into what; so the noise of a smaller amount is
    part of that of a larger one. Until an image is fooled, the largest amount whose change is smaller than eps is
    tried; then draws only order the pixels that are changed, and bisection looks for the fewest of them that fool. So
    no try is spent where it could not be an improvement, nor on an amount so small that it hardly ever fools.

    Args:
        steps: how many tries.
        patience: an image that has been fooled and then withstood so many tries in a row is done.
    """
    # The fast model judges the tries. What a draw has come to is confirmed by the classifier itself, or taken back.
    # A search in lower precision has found nothing, so there is no other start than the image.
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
        if fast_model is classifier or not len(rows):
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
            fooling = fast_model(candidates).argmax(1) != labels[changed]
            fooled[changed] = fooling
            result[changed[fooling]] = candidates[fooling]
        fooled_once |= fooled
        in_vain = torch.where(fooled, 0, in_vain + 1)
        best = torch.where(fooled, norm, best)
        low, high = torch.where(fooled, low, tried), torch.where(fooled, tried, high)
    confirm(torch.arange(count, device=images.device))
    return result
