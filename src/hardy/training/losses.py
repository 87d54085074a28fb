"""Losses, by name.

A loss is a function ``(model, batch, **settings) -> scalar``. It runs the model itself, so that a loss that trains on
adversarial images needs nothing from the training loop. Its settings are keyword-only parameters: the recipe's
``loss_settings``, and ``label_smoothing`` where the recipe has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Images, Logits, Targets, frozen_evaluation


class Batch(NamedTuple):
    """What one training step sees.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1], augmented.
        targets: int64 (N,), or float32 (N, K) where augmentation mixes labels.
        rng: one random stream per example.
        progress: the share of all training steps that is done, from 0 to 1.
    """

    images: Images
    targets: Targets
    rng: Randomness
    progress: float


LossFunction: TypeAlias = Callable[..., Tensor]
"""``(model, batch, **settings) -> scalar``."""


class Loss(NamedTuple):
    """A loss and the name by which recipes ask for it."""

    name: str
    function: LossFunction


LOSSES: Registry[Loss] = Registry("loss")


def register_loss(name: str) -> Callable[[LossFunction], LossFunction]:
    """Decorate a function ``(model, batch, **settings) -> scalar`` so that recipes can name it as their loss.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> import hardy.training
        >>> from torch.nn.functional import multi_margin_loss
        >>> @hardy.training.register_loss("margin")
        ... def margin(model, batch, *, width: float = 1.0):
        ...     return multi_margin_loss(model(batch.images), batch.targets, margin=width)
        >>> recipe = hardy.training.Recipe("mine", "with a margin", loss="margin", loss_settings={"width": 2.0})
    """

    def register(function: LossFunction) -> LossFunction:
        LOSSES.add(Loss(name, function))
        return function

    return register


@register_loss("cross_entropy")
def cross_entropy(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy; ``label_smoothing`` is the share of the target that is spread evenly over all classes."""
    return nn.functional.cross_entropy(model(batch.images), batch.targets, label_smoothing=label_smoothing)


@register_loss("trades")
def trades(
    model: nn.Module,
    batch: Batch,
    *,
    eps: float,
    steps: int,
    step_size: float,
    beta: float,
    ramp: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """TRADES: cross-entropy plus ``beta`` times how far the answer moves within a ball around the image.

    How far is the Kullback-Leibler divergence of the answer on the worst image found, from the answer on the clean one.

    Args:
        model: in training mode.
        batch: what the step trains on.
        eps: radius of the linf ball, of the pixel range.
        steps: gradient steps of the search for the worst image.
        step_size: of each of them, of the pixel range.
        beta: weight of the divergence.
        ramp: the share of training during which eps grows from 0.
        label_smoothing: as in :func:`cross_entropy`.

    Zhang et al., ICML 2019, arXiv:1901.08573.
    """
    threat = ThreatModel("linf", eps * min(1.0, batch.progress / ramp) if ramp else eps)
    clean = model(batch.images)
    worst = _most_divergent(model, batch, clean.detach(), threat, int(steps), step_size)
    natural = nn.functional.cross_entropy(clean, batch.targets, label_smoothing=label_smoothing)
    return natural + beta * _divergence(model(worst), clean)


def _most_divergent(
    model: nn.Module, batch: Batch, clean: Logits, threat: ThreatModel, steps: int, step_size: float
) -> Images:
    current = threat.random_start(batch.images, batch.rng.fold("start"))
    # The search must not move batch-norm statistics, and gradients of the weights would be wasted.
    with frozen_evaluation(model):
        for _ in range(steps):
            current.requires_grad_(True)
            (gradient,) = torch.autograd.grad(_divergence(model(current), clean), current)
            current = threat.project(current.detach() + min(step_size, threat.eps) * gradient.sign(), batch.images)
    return current


def _divergence(answer: Logits, clean: Logits) -> Tensor:
    """The Kullback-Leibler divergence of ``answer`` from ``clean``, mean over the batch."""
    return nn.functional.kl_div(answer.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
