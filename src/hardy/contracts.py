"""The contract between a classifier and everything that trains, attacks or measures it.

A classifier maps images, float32 in [0, 1] of shape (N, C, H, W), to logits, float32 of shape (N, K). Normalisation
lives inside it. It is called in evaluation mode, gives the same answer twice, and its answer for an image does not
depend on the other images of the batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, get_type_hints

import torch
from torch import Tensor, nn

from hardy.errors import ContractError, UsageError

Images: TypeAlias = Tensor
"""float32 (N, C, H, W) in [0, 1]."""

Labels: TypeAlias = Tensor
"""int64 (N,), from 0 to K-1."""

Targets: TypeAlias = Tensor
"""What is trained towards: labels, or float32 (N, K), whose rows are distributions (soft labels)."""

Logits: TypeAlias = Tensor
"""float32 (N, K)."""

Classifier: TypeAlias = Callable[[Images], Logits]
"""What an attack sees. Measuring takes an ``nn.Module``."""


def check_images(images: Tensor, where: str = "images") -> None:
    """Raise :class:`ContractError` unless ``images`` is float32 (N, C, H, W), finite and in [0, 1]."""
    if images.ndim != 4:
        raise ContractError(f"{where}: shape {tuple(images.shape)}; images are (N, C, H, W)")
    if images.dtype != torch.float32:
        raise ContractError(f"{where}: dtype {images.dtype}; images are float32 in [0, 1] (divide uint8 by 255)")
    if not images.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(images))
    if not (low >= 0.0 and high <= 1.0):
        raise ContractError(
            f"{where}: values from {low:g} to {high:g}; images lie in [0, 1]; normalisation belongs inside the model"
        )


def check_settings(what: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raise :class:`UsageError` unless ``settings`` are what the keyword-only parameters of ``function`` take.

    None is missing or unknown, and each is a number from 0 up, whole where the parameter is an ``int``.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [it.name for it in parameters if it.kind is it.KEYWORD_ONLY]
    try:
        inspect.signature(function).bind(*[None] * (len(parameters) - len(known)), **settings)
    except TypeError as error:
        raise UsageError(f"{what}: {error}; its settings: {', '.join(known) or 'none'}") from None
    hints = get_type_hints(function)
    for name, value in settings.items():
        whole = hints[name] is int
        if not _is_number(value) or (whole and value != int(value)):
            raise UsageError(f"{what}: {name} is {value!r}; it is a {'whole ' * whole}number from 0 up")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


@contextmanager
def left_untouched(model: nn.Module) -> Iterator[nn.Module]:
    """Yield ``model`` in evaluation mode with frozen parameters; give modes and flags back as they were.

    Frozen parameters save about a third of an input gradient, and nothing accumulates in ``.grad``.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
