"""The attack of Carlini and Wagner in l2: the smallest change plus a penalty for not fooling, minimized by Adam."""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.attacks.attack import value_and_gradient
from hardy.attacks.objectives import margin
from hardy.attacks.public import register
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels

# Keeps the inverse of tanh finite where a pixel is 0 or 1.
_INSIDE = 0.999999
# Checked ten times in a run: an example whose loss has not dropped by this factor since the last check is done.
_CHECKS = 10
_PROGRESS = 0.9999
_DECAY, _DECAY_OF_SQUARES, _TINY = 0.9, 0.999, 1e-8


@register(
    title="Carlini and Wagner",
    norms=("l2",),
    reference="Carlini and Wagner, IEEE S&P 2017, arXiv:1608.04644",
    search="smallest",
)
def carlini_wagner(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,  # noqa: ARG001
    *,
    binary_search_steps: int = 6,
    steps: int = 200,
    step_size: float = 0.05,
    initial_const: float = 0.1,
) -> Images:
    """The smallest change plus a penalty for not fooling, minimized by Adam; the weight of the penalty is searched.

    The weight grows tenfold until a run succeeds and is then bisected.

    Args:
        binary_search_steps: how many runs, each with another weight.
        steps: of a run, at most.
        step_size: of Adam.
        initial_const: the first weight, relative to the margin of the clean image.
    """
    result = images.clone()
    best = images.new_full((len(images),), torch.inf)
    low, high = torch.zeros_like(best), torch.full_like(best, torch.inf)
    # Relative to the margin, so that scaled logits make no difference.
    weight = initial_const / margin(classifier(images), labels).abs().clamp_min(_TINY)
    for _ in range(binary_search_steps):
        found, size = _descend(classifier, images, labels, weight, steps, step_size)
        better = size < best
        best = torch.where(better, size, best)
        result[better] = found[better]
        fooled = size.isfinite()
        low, high = torch.where(fooled, low, weight), torch.where(fooled, weight, high)
        weight = torch.where(high.isfinite(), 0.5 * (low + high), 10.0 * weight)
    return result


def _descend(
    classifier: Classifier, images: Images, labels: Labels, weight: Tensor, steps: int, step_size: float
) -> tuple[Images, Tensor]:
    """The nearest fooling image on the way down, and the square of its distance; infinite where there was none."""
    found = images.clone()
    smallest = torch.full_like(weight, torch.inf)
    rows = torch.arange(len(images), device=images.device)
    position = torch.atanh((2.0 * images - 1.0) * _INSIDE)
    mean, mean_square = torch.zeros_like(images), torch.zeros_like(images)
    checked = smallest
    for step in range(steps):
        tanh = position.tanh()
        current = 0.5 * (tanh + 1.0)
        logits, gradient = value_and_gradient(classifier, current, labels[rows], margin)
        fooled = logits.argmax(1) != labels[rows]
        change = current - images[rows]
        size = change.square().sum((1, 2, 3))
        better = fooled & (size < smallest[rows])
        smallest[rows[better]] = size[better]
        found[rows[better]] = current[better]

        pull = torch.where(fooled, 0.0, weight[rows])
        slope = 2.0 * change - pull.reshape(-1, 1, 1, 1) * gradient
        slope = slope * 0.5 * (1.0 - tanh.square())
        mean = _DECAY * mean + (1.0 - _DECAY) * slope
        mean_square = _DECAY_OF_SQUARES * mean_square + (1.0 - _DECAY_OF_SQUARES) * slope.square()
        unbiased = mean / (1.0 - _DECAY ** (step + 1))
        spread = (mean_square / (1.0 - _DECAY_OF_SQUARES ** (step + 1))).sqrt()
        position = position - step_size * unbiased / (spread + _TINY)

        if step % -(-steps // _CHECKS) == 0:
            loss = size - pull * margin(logits, labels[rows])
            going = loss <= _PROGRESS * checked
            if not going.any():
                break
            checked = loss[going]
            rows, position, mean, mean_square = rows[going], position[going], mean[going], mean_square[going]
    return found, smallest
