"""What gets around masked gradients: stand-ins for what has none, means over noise, a black box, another network.

Backward pass differentiable approximation and expectation over transformation are from Athalye, Carlini and Wagner,
ICML 2018, arXiv:1802.00420.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from hardy.attacks.attack import Attack
from hardy.attacks.engine import AttackResult, run_attacks
from hardy.attacks.pgd import highest_loss, pgd
from hardy.attacks.smoothed_pgd import smoothed_pgd
from hardy.attacks.square import square
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Images, Labels, Logits, frozen_evaluation

_LEAD = 15.0


def get_around(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    threats: Sequence[ThreatModel],
    *,
    rng: Randomness,
    n_queries: int,
    batch_size: int = 500,
    surrogate: nn.Module | None = None,
) -> tuple[AttackResult, tuple[str, ...]]:
    """Attack images without relying on the classifier's own gradients; also the names of what was tried.

    Args:
        classifier: left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        threats: one norm, any number of radii.
        rng: the streams of these examples.
        n_queries: of Square, which has the last word; 0 leaves it out.
        batch_size: how many images are attacked at once.
        surrogate: another network for the same classes, to transfer images from.
    """
    norm, largest = threats[0].norm, max(threat.eps for threat in threats)
    # Noise of a third of the radius, spread over all values.
    spread = {"linf": 1.0, "l2": images[0].numel() ** -0.5}.get(norm, 1.0)
    softened = smoothed_pgd.attacks[0].with_settings(deviation=largest * spread / 3)
    tried = [_through(StandIn(_traced(classifier)), pgd.attacks[0]), _through(StandIn(classifier), softened)]
    if surrogate is not None:
        tried.append(_transfer(surrogate))
    black_box = square.attacks[0].with_settings(n_queries=max(n_queries, 1), abort_factor=torch.inf)
    usable = [attack for attack in tried if norm in attack.norms]
    names = (*(attack.name for attack in usable), black_box.name)
    result = None
    if usable:
        result = run_attacks(
            classifier,
            images,
            labels,
            usable,
            threats,
            rng=rng.fold("around"),
            batch_size=batch_size,
            precision="float32",
        )
    if norm in black_box.norms and n_queries:
        left = (
            torch.ones_like(labels, dtype=torch.bool)
            if result is None
            else result.min_norm > min(threat.eps for threat in threats)
        )
        last = run_attacks(
            classifier,
            images[left],
            labels[left],
            [black_box],
            threats,
            rng=rng.select(left).fold("around"),
            batch_size=batch_size,
        )
        last.attack[last.attack >= 0] += len(usable)
        result = last if result is None else _merged(result, left, last)
    if result is None:
        result = run_attacks(classifier, images[:0], labels[:0], [black_box], threats, rng=rng.select(labels[:0]))
    return result, names


def _merged(result: AttackResult, chosen: Tensor, more: AttackResult) -> AttackResult:
    """The smaller perturbation of each of the chosen images."""
    better = chosen.clone()
    better[chosen] = more.min_norm < result.min_norm[chosen]
    smaller = more.min_norm < result.min_norm[chosen]
    for name in ("images", "min_norm", "prediction", "attack"):
        getattr(result, name)[better] = getattr(more, name)[smaller]
    return result


def _through(stand_in: nn.Module, attack: Attack) -> Attack:
    """The attack, which searches a stand-in; as ever the engine asks the classifier itself."""

    @wraps(attack.function)
    def function(_: object, images: Images, labels: Labels, threat: ThreatModel, **keywords: Any) -> Images:
        with frozen_evaluation(stand_in):
            return attack.function(stand_in, images, labels, threat, **keywords)

    return replace(attack, name=f"{attack.name} through stand-ins", function=function)


def _traced(classifier: nn.Module) -> nn.Module:
    """A traced copy, which has lost backward passes and hooks of the classifier's own; itself if there is none."""
    try:
        return fx.symbolic_trace(copy.deepcopy(classifier).eval())
    except Exception:  # A user's network cannot be copied or traced for reasons of its own.
        return classifier


def _transfer(surrogate: nn.Module) -> Attack:
    def transfer(
        _: Callable[[Images], Logits], images: Images, labels: Labels, threat: ThreatModel, *, rng: Randomness
    ) -> Images:
        return highest_loss(surrogate, images, labels, threat, rng=rng)

    norms = pgd.attacks[0].norms
    return Attack("transfer", "images made against another network", transfer, norms, "", gradients=False)


def with_gradient(classifier: nn.Module, images: Images) -> nn.Module:
    """The classifier, or one with the same answers and a gradient of zero where it gives none at all."""
    if not len(images):
        return classifier
    with torch.enable_grad(), frozen_evaluation(classifier):
        given = classifier(images[:1].clone().requires_grad_(True)).requires_grad
    return classifier if given else _ZeroGradient(classifier)


class _ZeroGradient(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        return self.classifier(images) + 0.0 * images.flatten(1).sum(1, keepdim=True)


class StandIn(nn.Module):
    """A classifier with the same answers whose gradients pass what has none, saturates, or was cut off."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        if isinstance(images, fx.Proxy):
            raise TypeError("stand-ins cannot be traced")
        with _StandIns():
            answers = self.classifier(images)
        # Where no stand-in is known the gradient is zero, which is no error.
        return answers + 0.0 * images.flatten(1).sum(1, keepdim=True)


def _straight(value: Tensor, stand_in: Tensor) -> Tensor:
    """``value`` forward, the gradient of ``stand_in`` backward."""
    return value.detach() + (stand_in - stand_in.detach())


def _softmax(logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The softmax of logits scaled down so that it does not saturate."""
    lead = (logits.amax(-1, keepdim=True) - logits.mean(-1, keepdim=True)).detach()
    return torch.softmax(logits * (_LEAD / lead.clamp_min(_LEAD)), *args, **kwargs)


# By the name of the operation, what takes its place backward: itself, or a slope that falls slowly and is never 0.
_IDENTITY = ("round", "floor", "ceil", "trunc", "sign", "clamp", "clip", "hardtanh", "relu6", "detach")
_SLOPES: Mapping[str, Callable[..., Tensor]] = {
    **dict.fromkeys(_IDENTITY, lambda value, *_, **__: value),
    "sigmoid": lambda value: 0.5 * value / (1.0 + value.abs()),
    "tanh": lambda value: value / (1.0 + value.abs()),
    "softmax": _softmax,
}
_STAND_IN = "hardy_stand_in"
_COMPARISONS = {"gt": 1.0, "ge": 1.0, "lt": -1.0, "le": -1.0}
_TO_HOST = ("item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__")
_TO_FLOAT = ("float", "to", "type", "double", "type_as")


class _StandIns(TorchFunctionMode):
    """Exchanges the backward pass of operations, and goes on recording inside ``torch.no_grad``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "_set_grad_enabled":
            return None
        first = args[0] if args else None
        if name in _TO_HOST and isinstance(first, Tensor):
            args = (first.detach(), *args[1:])
        found = func(*args, **kwargs)
        if not isinstance(first, Tensor) or not isinstance(found, Tensor):
            return found
        if name in _COMPARISONS and first.is_floating_point():
            # A comparison has no gradient; how far it is from turning has one, once it becomes a number.
            vars(found)[_STAND_IN] = _COMPARISONS[name] * (first - args[1])
        elif name in _TO_FLOAT and found.is_floating_point() and _STAND_IN in vars(first):
            return _straight(found, vars(first)[_STAND_IN].to(found.dtype))
        elif name in _SLOPES and first.is_floating_point() and first.requires_grad:
            return _straight(found, _SLOPES[name](*args, **kwargs))
        return found
