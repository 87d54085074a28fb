"""Weights: their hash, reading them from safetensors files, which run no code, and networks described by files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hardy.errors import ContractError, UsageError
from hardy.models import build_model

_NAMED_AT_MOST = 4
# Of numbers and lists that describe a network: what is larger would take minutes to lay out.
_LARGEST_ARGUMENT = 1 << 16
_LONGEST_ARGUMENT = 100


def weights_sha256(classifier: nn.Module) -> str:
    """A hash over names, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(classifier: nn.Module, path: Path) -> None:
    """Load a safetensors file into a classifier.

    Raises:
        ContractError: names or shapes do not fit.
        UsageError: no such file, or not a readable safetensors file.
    """
    state = _read_weights(path)
    _check_fits(classifier, state, path)
    classifier.load_state_dict(state)


def lay_out(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network as a file from outside describes it, on the meta device, where weights take no memory.

    Raises:
        UsageError: unknown name or argument, or an argument out of bounds.
    """
    _check_bounds(name, arguments)
    try:
        with torch.device("meta"):
            return build_model(name, **arguments)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UsageError(f"model '{name}' cannot be built with {dict(arguments)}: {error}") from error


def build_from_file(name: str, arguments: Mapping[str, Any], path: Path) -> nn.Module:
    """A network as a file from outside describes it, with the weights in ``path``.

    Raises:
        ContractError: names or shapes do not fit; no memory was taken for them.
        UsageError: as :func:`lay_out`, or the weights cannot be read.
    """
    _check_fits(lay_out(name, arguments), _read_weights(path), path)
    classifier = build_model(name, **arguments)
    load_weights(classifier, path)
    return classifier


def _check_bounds(name: str, value: Any) -> None:
    if isinstance(value, int | float) and not abs(value) <= _LARGEST_ARGUMENT:
        raise UsageError(f"model '{name}': the argument {value:g} is out of bounds; at most {_LARGEST_ARGUMENT:,}")
    if isinstance(value, Mapping | list | tuple):
        if len(value) > _LONGEST_ARGUMENT:
            raise UsageError(f"model '{name}': {len(value):,} arguments or members; at most {_LONGEST_ARGUMENT}")
        inner = list(value.values()) if isinstance(value, Mapping) else value
        if name == "ensemble" and any(isinstance(it, Mapping) and it.get("name") == name for it in inner):
            raise UsageError("model 'ensemble': a member is an ensemble; members are single networks")
        for it in inner:
            _check_bounds(name, it)


def _check_fits(classifier: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    wanted = classifier.state_dict()
    problems = [
        *(f"'{name}' is missing" for name in wanted.keys() - state.keys()),
        *(f"'{name}' belongs nowhere" for name in state.keys() - wanted.keys()),
        *(
            f"'{name}' has shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in state and state[name].shape != value.shape
        ),
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:_NAMED_AT_MOST])
        more = f"; and {len(problems) - _NAMED_AT_MOST} more" if len(problems) > _NAMED_AT_MOST else ""
        raise ContractError(f"the weights in {path} do not fit {type(classifier).__name__}: {shown}{more}")


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UsageError(f"no weights at {path}") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} is not a readable safetensors file ({error}); pickled weights are not loaded, because they can "
            "run code: convert them with safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
