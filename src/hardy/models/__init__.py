"""The architectures, by name. A name and its arguments are what a run stores beside its weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from hardy.errors import UsageError, unknown
from hardy.models.compact import Compact, Strided
from hardy.models.ensemble import Ensemble
from hardy.models.study import ACTIVATIONS, SIMPLE_NETS, SimpleNet, StudyCNN

__all__ = [
    "MODELS",
    "Compact",
    "Ensemble",
    "SimpleNet",
    "Strided",
    "StudyCNN",
    "build_model",
    "member_count",
    "parameter_count",
]


def _simple_net(name: str, activation: str = "gelu", classes: int = 10) -> nn.Module:
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    kernel, channels = SIMPLE_NETS[name]
    return SimpleNet(kernel, channels, activation=activation, classes=classes)


def _ensemble(members: Sequence[Mapping[str, Any]]) -> nn.Module:
    return Ensemble([build_model(member["name"], **member.get("arguments", {})) for member in members])


MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": StudyCNN,
    **{name: partial(_simple_net, name) for name in SIMPLE_NETS},
    "compact": Compact,
    "strided": Strided,
    "ensemble": _ensemble,
}


def build_model(name: str, **arguments: Any) -> nn.Module:
    """A freshly initialised network.

    ``ensemble`` takes ``members``, a list of ``{"name": …, "arguments": {…}}``.

    Raises:
        UsageError: unknown name or argument.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    try:
        inspect.signature(MODELS[name]).bind(**arguments)
    except TypeError as error:
        raise UsageError(f"model '{name}': {error}; it takes {inspect.signature(MODELS[name])}") from None
    return MODELS[name](**arguments)


def parameter_count(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def member_count(model: nn.Module) -> int:
    """How many members an ensemble has; 0 where the model is none."""
    return len(model.members) if isinstance(model, Ensemble) else 0
