"""Projected gradient descent on gradients that are smoothed over noise."""

from __future__ import annotations

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="projected gradient descent on gradients smoothed over noise",
    norms=("linf", "l2"),
    reference="Athalye, Carlini and Wagner, ICML 2018, arXiv:1802.00420",
)
def smoothed_pgd(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int = 20,
    rel_step_size: float = 0.1,
    samples: int = 8,
    deviation: float = 0.1,
) -> Images:
    """Projected gradient descent on the mean gradient over noisy copies of each image.

    Where a classifier's own gradients are shattered, those of its neighborhood still point somewhere.

    Args:
        steps: how many.
        rel_step_size: length of a step, as a multiple of eps.
        samples: how many noisy copies.
        deviation: standard deviation of the noise, in units of the pixel range [0, 1].
    """
    current = threat.random_start(images, rng)
    repeated = labels.repeat_interleave(samples)
    for step in range(steps):
        noise = deviation * rng.fold("noise").normal(samples, *images.shape[1:], draw=step)
        _, gradient = value_and_gradient(classifier, (current[:, None] + noise).flatten(0, 1), repeated)
        mean = gradient.unflatten(0, (-1, samples)).mean(1)
        current = threat.project(current + rel_step_size * threat.eps * steepest(mean, threat.norm), images)
    return current
