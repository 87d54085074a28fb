"""What a classifier makes of images on its way to its answer, computed once and shared by all scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hardy.models import Ensemble
from hardy.models.ensemble import combined_logits
from hardy.ood.recorded import Recorded
from hardy.validation import Images

Floats = NDArray[np.float32]

# What is called a linear map gives its logits up to the rounding of float32 sums of some thousand terms.
_RELATIVE_TOLERANCE = 1e-3

_DIRECTIONS, _CELLS = 8, 7


class Head(NamedTuple):
    """The last linear map: logits are ``features @ weight.T + bias``.

    Attributes:
        weight: float32 (K, D).
        bias: float32 (K,).
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, eq=False)
class Member:
    """One network's view of N images.

    Attributes:
        logits: float32 (N, K).
        layers: per convolution, float32 (N, 2C): mean and standard deviation over space of each channel, before any
            activation.
        penultimate: float32 (N, D), what the head maps to the logits; None where there is no such head.
        head: the head with a batch norm that follows it folded in.
    """

    logits: Floats
    layers: tuple[Floats, ...] = ()
    penultimate: Floats | None = None
    head: Head | None = None


@dataclass(frozen=True, eq=False)
class Features:
    """What all scores are computed from.

    Attributes:
        logits: float32 (N, K), the classifier's own.
        members: one entry per member of an ensemble; else one.
        reason: why there are no penultimate features; "" where there are.
        gradients: float32 (N, G): of the images themselves, whatever the classifier makes of them, how strong the
            gradients are in each of 8 directions and each cell of a grid of 7x7.
    """

    logits: Floats
    members: tuple[Member, ...]
    reason: str = ""
    gradients: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def member_logits(self) -> Floats:
        """float32 (M, N, K)."""
        return np.stack([member.logits for member in self.members])

    @property
    def mean_logits(self) -> Floats:
        """float32 (N, K): the mean over the members."""
        return np.stack([member.logits for member in self.members]).mean(axis=0)

    def joint(self) -> tuple[Floats, Head]:
        """The members taken as one network: penultimate features (N, D) side by side, and the mean of the heads.

        That head maps them to the mean of the members' logits, so every method for one network is one for an ensemble.
        """
        parts = [(member.penultimate, member.head) for member in self.members]
        values = [penultimate for penultimate, _ in parts if penultimate is not None]
        heads = [head for _, head in parts if head is not None]
        weight = np.concatenate([head.weight for head in heads], axis=1) / np.float32(len(heads))
        return np.concatenate(values, axis=1), Head(weight, np.mean([head.bias for head in heads], axis=0))

    def of_member(self, number: int) -> Features:
        """The features of one member as those of a classifier of its own."""
        member = self.members[number]
        return dataclasses.replace(self, logits=member.logits, members=(member,))

    def select(self, index: NDArray | slice) -> Features:
        """The features of some of the images."""
        return dataclasses.replace(
            self,
            logits=self.logits[index],
            gradients=self.gradients[index] if self.gradients.shape[1] else self.gradients,
            members=tuple(
                dataclasses.replace(
                    member,
                    logits=member.logits[index],
                    layers=tuple(layer[index] for layer in member.layers),
                    penultimate=None if member.penultimate is None else member.penultimate[index],
                )
                for member in self.members
            ),
        )


def concatenate(parts: Sequence[Features]) -> Features:
    """The features of several batches of one classifier, as if taken at once."""
    first = parts[0]
    members = []
    for number, like in enumerate(first.members):
        same = [part.members[number] for part in parts]
        penultimate = [it.penultimate for it in same if it.penultimate is not None]
        members.append(
            Member(
                np.concatenate([it.logits for it in same]),
                tuple(np.concatenate(layer) for layer in zip(*(it.layers for it in same), strict=True)),
                np.concatenate(penultimate) if len(penultimate) == len(parts) else None,
                like.head,
            )
        )
    reason = next((part.reason for part in parts if part.reason), "")
    gradients = np.concatenate([part.gradients for part in parts])
    return Features(np.concatenate([part.logits for part in parts]), tuple(members), reason, gradients)


def extract(classifier: nn.Module, images: Images, batch_size: int = 500) -> Features:
    """Run the classifier over the images once and keep what scores need.

    Penultimate features are the input of the last ``nn.Linear`` that is called; an ``nn.BatchNorm1d`` called after it
    is folded into the head. The head is held against the logits, so a network that does something else after its last
    linear layer has no penultimate features, and ``reason`` says so. An ensemble is asked member by member.

    Args:
        classifier: in evaluation mode.
        images: float32 (N, C, H, W) in [0, 1], on the classifier's device.
        batch_size: images at once; the features do not depend on it, up to float rounding.
    """
    networks: Sequence[nn.Module] = list(classifier.members) if isinstance(classifier, Ensemble) else [classifier]
    watched = [_watched(network, images, batch_size) for network in networks]
    members = tuple(member for member, _ in watched)
    if isinstance(classifier, Ensemble):
        logits = combined_logits(torch.from_numpy(np.stack([member.logits for member in members]))).numpy()
    else:
        logits = members[0].logits
    reason = next((reason for _, reason in watched if reason), "")
    gradients = torch.cat([_gradients(batch) for batch in images.split(batch_size)]).cpu().numpy()
    return Features(logits, members, reason, gradients)


def _gradients(images: Images) -> Tensor:
    """(N, G): a histogram of oriented gradients (Dalal and Triggs, CVPR 2005) of the mean over channels, smoothed."""
    gray = F.avg_pool2d(F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1)), 3, 1)
    across = F.pad(gray, (1, 1, 0, 0))
    along = F.pad(gray, (0, 0, 1, 1))
    dx, dy = across[..., 2:] - across[..., :-2], along[..., 2:, :] - along[..., :-2, :]
    directions = torch.arange(_DIRECTIONS, device=images.device)[:, None, None] * (2 * math.pi / _DIRECTIONS)
    # A cosine cubed spreads each gradient over the directions next to its own: |g| cos³(angle between), where positive.
    projected = (dx * directions.cos() + dy * directions.sin()).clamp_min(0.0)
    strength = projected**3 / (dx**2 + dy**2).clamp_min(1e-12)
    return F.adaptive_avg_pool2d(strength, _CELLS).flatten(1)


class _Watch:
    """Forward hooks on one network: pooled convolutions, and the last linear layer with what follows it."""

    def __init__(self) -> None:
        self.layers: list[Tensor] = []
        self.linear: nn.Linear | None = None
        self.entered: Tensor | None = None
        self.norm: nn.BatchNorm1d | None = None

    def clear(self) -> None:
        self.layers, self.linear, self.entered, self.norm = [], None, None, None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        match module:
            case nn.Conv2d():
                # Three times as fast as torch.std_mean, and as exact.
                flat = output.float().flatten(2)
                mean = flat.mean(2)
                std = torch.linalg.vector_norm(flat - mean[:, :, None], dim=2) / flat.shape[2] ** 0.5
                self.layers.append(torch.cat([mean, std], dim=1))
            case nn.Linear():
                self.linear, self.entered, self.norm = module, inputs[0], None
            case nn.BatchNorm1d():
                self.norm = module


@contextmanager
def _watching(network: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()
    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d):
                stack.callback(module.register_forward_hook(watch).remove)
        yield watch


def record(classifier: nn.Module, images: Images, like: Features) -> Features:
    """The features of a batch, which lead from scores back to the images: float64 :class:`Recorded` arrays.

    ``like`` are features of the same classifier, which say what it has.
    """
    networks: Sequence[nn.Module] = list(classifier.members) if isinstance(classifier, Ensemble) else [classifier]
    members, answers = [], []
    for network, member in zip(networks, like.members, strict=True):
        with _watching(network) as watch:
            answers.append(network(images))
        entered = watch.entered if member.penultimate is not None else None
        penultimate = None if entered is None else _recorded(entered)
        members.append(Member(_recorded(answers[-1]), tuple(map(_recorded, watch.layers)), penultimate, member.head))
    combined = combined_logits(torch.stack(answers)) if isinstance(classifier, Ensemble) else answers[0]
    return Features(_recorded(combined), tuple(members), like.reason, _recorded(_gradients(images)))


def _recorded(values: Tensor) -> Any:
    return Recorded(values.double())


def _watched(network: nn.Module, images: Images, batch_size: int) -> tuple[Member, str]:
    logits, layers, entered = [], [], []
    with _watching(network) as watch, torch.no_grad():
        for batch in images.split(batch_size):
            watch.clear()
            logits.append(network(batch).float().cpu())
            layers.append([layer.cpu() for layer in watch.layers])
            if watch.entered is not None:
                entered.append(watch.entered.float().cpu())
    member = Member(torch.cat(logits).numpy(), tuple(torch.cat(parts).numpy() for parts in zip(*layers, strict=True)))
    if watch.linear is None:
        return member, "the network has no nn.Linear, so no penultimate features"
    if any(each.ndim != 2 for each in entered):
        return member, "the last nn.Linear is not given one vector per image, so there are no penultimate features"
    head, penultimate = _folded(watch.linear, watch.norm), torch.cat(entered).numpy()
    if not _gives(head, penultimate, member.logits):
        return member, "the logits are not a linear map of what enters the last nn.Linear: no penultimate features"
    return dataclasses.replace(member, penultimate=penultimate, head=head), ""


def _folded(linear: nn.Linear, norm: nn.BatchNorm1d | None) -> Head:
    weight = linear.weight.detach().double().cpu()
    bias = torch.zeros(len(weight), dtype=torch.float64) if linear.bias is None else linear.bias.detach().double().cpu()
    if norm is not None and norm.running_mean is not None and norm.running_var is not None:
        scale = (norm.running_var.double().cpu() + norm.eps).rsqrt()
        shift = -norm.running_mean.double().cpu() * scale
        if norm.affine:
            gain = norm.weight.detach().double().cpu()
            scale, shift = scale * gain, shift * gain + norm.bias.detach().double().cpu()
        if len(scale) == len(weight):
            weight, bias = weight * scale[:, None], bias * scale + shift
    return Head(weight.float().numpy(), bias.float().numpy())


def _gives(head: Head, penultimate: Floats, logits: Floats) -> bool:
    if head.weight.shape != (logits.shape[1], penultimate.shape[1]):
        return False
    found = penultimate @ head.weight.T + head.bias
    return float(np.abs(found - logits).max(initial=0.0)) <= _RELATIVE_TOLERANCE * (
        1.0 + float(np.abs(logits).max(initial=0.0))
    )
