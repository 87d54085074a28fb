"""Weights: their hash, and reading them from safetensors files, which run no code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hardy.errors import ContractError, UsageError

_NAMED_AT_MOST = 4


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
    classifier.load_state_dict(state)


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
