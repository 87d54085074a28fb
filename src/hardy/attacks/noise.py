"""Additive noise of a given size: the weakest attack, which needs no gradient."""

from __future__ import annotations

import torch

from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="additive noise, Gaussian in l2 and uniform in linf",
    norms=("linf", "l2"),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    gradients=False,
)
def noise(
    classifier: Classifier,  # noqa: ARG001
    images: Images,
    labels: Labels,  # noqa: ARG001
    threat: ThreatModel,
    *,
    rng: Randomness,
) -> Images:
    """One draw of noise scaled to norm eps, then clipped: Gaussian in l2, uniform in linf."""
    return _noisy(threat, images, rng, 0)


@register(
    title="additive noise, 100 draws",
    norms=("linf", "l2"),
    reference="Rauber, Brendel and Bethge, arXiv:1707.04131",
    gradients=False,
)
def repeated_noise(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    repeats: int = 100,
) -> Images:
    """Noise scaled to norm eps, then clipped, until it fools: Gaussian in l2, uniform in linf.

    Args:
        repeats: how many draws at most.
    """
    result = images.clone()
    active = torch.arange(len(images), device=images.device)
    for draw in range(repeats):
        result[active] = _noisy(threat, images[active], rng.select(active), draw)
        if draw == repeats - 1:
            break
        active = active[classifier(result[active]).argmax(1) == labels[active]]
        if not len(active):
            break
    return result


def _noisy(threat: ThreatModel, images: Images, rng: Randomness, draw: int) -> Images:
    shape = images.shape[1:]
    if threat.norm == "l2":
        noise = rng.normal(*shape, draw=draw)
        size = noise.flatten(1).norm(dim=1)
    else:
        noise = rng.uniform(*shape, low=-1.0, high=1.0, draw=draw)
        size = noise.flatten(1).abs().amax(1)
    return (images + noise * (threat.eps / size).reshape(-1, 1, 1, 1)).clamp(0.0, 1.0)
