"""Checkpoints: one safetensors file with everything that the rest of a training depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hardy.errors import RunError
from hardy.files import atomic_write

Tensors = dict[str, Tensor]


def save_tensors(path: Path, groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Write groups of tensors as ``group/name``, and ``facts`` as JSON, in one step."""
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, value in members.items()
    }
    # safetensors refuses tensors that share storage, as the best and the averaged weights do on the CPU.
    content = save({name: value.clone() for name, value in tensors.items()}, {"facts": json.dumps(dict(facts))})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def load_tensors(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What :func:`save_tensors` wrote.

    Raises:
        RunError: no such file, or damaged.
    """
    groups: dict[str, Tensors] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            for key in file.keys():  # noqa: SIM118
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except FileNotFoundError:
        raise RunError(f"no checkpoint at {path}") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise RunError(f"the checkpoint {path} is damaged ({error}); remove it to train from the start") from error
    return groups, facts


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state, ``number.name``; numbers follow the order of its parameters."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what :func:`optimizer_tensors` took."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        # Fused optimizers walk through memory and ignore strides, so moments must have their parameters' memory layout.
        alike = value.shape == parameters[int(number)].shape
        state.setdefault(int(number), {})[name] = (
            torch.empty_like(parameters[int(number)]).copy_(value) if alike else value
        )
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
