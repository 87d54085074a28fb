"""The architectures, by name, and asking a classifier. A name and its arguments are what a run stores with weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import nn

from hardy.errors import UsageError, unknown
from hardy.models.compact import Compact, Size, Strided
from hardy.models.ensemble import Ensemble
from hardy.models.prediction import Examples, as_images, batches_of, device_of, predict_logits
from hardy.models.ramps import InputLevels, InputRamps, straight_through
from hardy.models.study import ACTIVATIONS, SIMPLE_NETS, SimpleNet, StudyCNN
from hardy.registry import Registry

__all__ = [
    "MODELS",
    "Architecture",
    "Compact",
    "Ensemble",
    "Examples",
    "InputLevels",
    "InputRamps",
    "SimpleNet",
    "Strided",
    "StudyCNN",
    "as_images",
    "batches_of",
    "build_model",
    "device_of",
    "member_count",
    "parameter_count",
    "predict_logits",
    "register",
    "straight_through",
]


class Architecture(NamedTuple):
    """A network by name: ``build`` takes its arguments and gives it with fresh weights."""

    name: str
    build: Callable[..., nn.Module]


def _simple_net(
    name: str, activation: str = "gelu", classes: int = 10, channels: int = 1, size: Size = 28
) -> nn.Module:
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    kernel, widths = SIMPLE_NETS[name]
    return SimpleNet(kernel, widths, activation=activation, classes=classes, inputs=channels, size=size)


def _ensemble(members: Sequence[Mapping[str, Any]]) -> nn.Module:
    return Ensemble([build_model(member["name"], **member.get("arguments", {})) for member in members])


MODELS: Registry[Architecture] = Registry(
    "model",
    (
        Architecture("cnn", StudyCNN),
        *(Architecture(name, partial(_simple_net, name)) for name in SIMPLE_NETS),
        Architecture("compact", Compact),
        Architecture("strided", Strided),
        Architecture("ensemble", _ensemble),
    ),
)

Build = TypeVar("Build", bound=Callable[..., nn.Module])


def register(*, name: str) -> Callable[[Build], Build]:
    """Register a network of one's own: a decorator of a class or a function whose arguments all have defaults.

    Raises:
        UsageError: the name is taken.

    >>> @hardy.models.register(name="linear")
    ... def linear(classes=10):
    ...     return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, classes))
    >>> hardy.build_model("linear", classes=3)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 3])
    >>> hardy.models.MODELS.remove("linear")
    """

    def add(build: Build) -> Build:
        MODELS.add(Architecture(name, build))
        return build

    return add


def build_model(name: str, **arguments: Any) -> nn.Module:
    """A network with fresh weights.

    ``ensemble`` takes ``members``, a list of ``{"name": …, "arguments": {…}}``.

    Raises:
        UsageError: unknown name or argument.

    >>> hardy.build_model("compact", width=4)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    build = MODELS.find(name).build
    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        raise UsageError(f"model '{name}': {error}; it takes {inspect.signature(build)}") from None
    return build(**arguments)


def parameter_count(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def member_count(model: nn.Module) -> int:
    """How many members an ensemble has; 0 where the model is none."""
    return len(model.members) if isinstance(model, Ensemble) else 0
