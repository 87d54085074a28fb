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
from typing import Any, NamedTuple, TypeAlias, get_type_hints

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
def frozen_evaluation(model: nn.Module) -> Iterator[nn.Module]:
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


# Rounding differs with the batch; what an answer differs by beyond that depends on its neighbours.
TOLERANCE = 1e-3
_NAMED_AT_MOST = 4


class ClassifierInfo(NamedTuple):
    """A classifier that may be measured: how many classes it knows, and what the scorecard has to warn of."""

    classes: int
    warnings: list[str]


def check_classifier(
    classifier: nn.Module, images: Images, labels: Labels, classes: int, *, allow_random: bool = False
) -> ClassifierInfo:
    """Check the contract of :mod:`hardy.validation` on some images.

    Args:
        classifier: left as it was.
        images: float32 (N, C, H, W) in [0, 1], at least two, on the classifier's device.
        labels: int64 (N,).
        classes: how many the dataset has.
        allow_random: let a classifier pass that answers differently each time; the scorecard then warns.

    Raises:
        ContractError: what is wrong, and what would be right.
    """
    check_images(images, "the images to measure on")
    _check_parameters(classifier)
    with frozen_evaluation(classifier), _restoring_buffers(classifier) as buffers, torch.no_grad():
        left_on = [name or type(module).__name__ for name, module in classifier.named_modules() if module.training]
        logits = _answer(classifier, images)
        _check_shape(logits, images, classes)
        _check_buffers(buffers, left_on)
        warnings = _check_repeatable(logits, _answer(classifier, images), left_on, allow_random)
        if not warnings:
            _check_alone(logits, _answer(classifier, images[:1]), left_on)
        warnings += _range_hint(classifier, images, labels, logits)
    if logits.shape[1] > classes:
        warnings.append(f"the classifier knows {logits.shape[1]} classes, the data has {classes}")
    return ClassifierInfo(logits.shape[1], warnings)


def _check_parameters(classifier: nn.Module) -> None:
    broken = [
        name
        for name, value in [*classifier.named_parameters(), *classifier.named_buffers()]
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ContractError(f"parameters that are not finite: {_some(broken)}; load other weights")


class _Buffer(NamedTuple):
    name: str
    value: Tensor
    before: Tensor


@contextmanager
def _restoring_buffers(classifier: nn.Module) -> Iterator[list[_Buffer]]:
    buffers = [_Buffer(name, value, value.clone()) for name, value in classifier.named_buffers()]
    try:
        yield buffers
    finally:
        for buffer in buffers:
            buffer.value.copy_(buffer.before)


def _check_buffers(buffers: list[_Buffer], left_on: list[str]) -> None:
    changed = [buffer.name for buffer in buffers if not torch.equal(buffer.value, buffer.before)]
    if changed:
        where = f"; left in training mode: {_some(left_on)}" if left_on else ""
        raise ContractError(
            f"answering changes the buffers of the classifier ({_some(changed)}), so measuring would: does batch norm "
            f"go on collecting statistics in evaluation mode?{where}"
        )


def _answer(classifier: nn.Module, images: Images) -> Tensor:
    try:
        logits = classifier(images)
    except Exception as error:  # The classifier is foreign code: whatever it raises is the finding.
        raise ContractError(
            f"the classifier fails on float32 images of shape {tuple(images.shape)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ContractError(f"the classifier returns {type(logits).__name__}; it must return logits, a tensor (N, K)")
    return logits


def _check_shape(logits: Tensor, images: Images, classes: int) -> None:
    if logits.ndim != 2 or len(logits) != len(images):
        raise ContractError(
            f"the classifier returns shape {tuple(logits.shape)} for {len(images)} images; it must be (N, K)"
        )
    if not logits.is_floating_point():
        raise ContractError(f"the classifier returns {logits.dtype}; logits are floating point")
    if not logits.isfinite().all():
        raise ContractError("the classifier returns NaN or infinity for images in [0, 1]; logits are finite")
    if logits.shape[1] < classes:
        raise ContractError(f"the classifier knows {logits.shape[1]} classes, but the data has {classes}")
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        raise ContractError(
            "the classifier returns probabilities (rows in [0, 1] that sum to 1), which starves attacks of gradients "
            "and falsifies calibration; return logits: leave out the final softmax, or return torch.log(p)"
        )


def _check_repeatable(first: Tensor, second: Tensor, left_on: list[str], allow_random: bool) -> list[str]:
    difference = float((first - second).abs().max())
    if difference <= TOLERANCE:
        return []
    where = f" (left in training mode: {_some(left_on)})" if left_on else ""
    finding = f"two calls on the same images differ by up to {difference:.3g}{where}"
    if allow_random:
        return [
            f"the classifier is random: {finding}; figures hold for one draw only, and attacks are not adapted to it"
        ]
    raise ContractError(
        f"the classifier is random: {finding}; is dropout active in evaluation mode? Switch it off in forward, or "
        "measure it as it is with --allow-random"
    )


def _check_alone(together: Tensor, alone: Tensor, left_on: list[str]) -> None:
    difference = float((together[:1] - alone).abs().max())
    if difference > TOLERANCE:
        where = f" Left in training mode: {_some(left_on)}." if left_on else ""
        raise ContractError(
            f"the answer for an image depends on its batch: alone it differs by {difference:.3g}; does batch norm "
            f"use the statistics of the batch in evaluation mode?{where}"
        )


def _range_hint(classifier: nn.Module, images: Images, labels: Labels, logits: Tensor) -> list[str]:
    """A classifier that does much better on rescaled pixels has its normalisation outside."""

    def accuracy(answers: Tensor) -> float:
        return float((answers.argmax(1) == labels).float().mean())

    def accuracy_on(rescaled: Tensor) -> float:
        try:
            return accuracy(_answer(classifier, rescaled))
        except ContractError:  # A classifier may well refuse what lies outside [0, 1].
            return 0.0

    as_is = accuracy(logits)
    other = {
        "pixels from 0 to 255": images * 255,
        "pixels from -1 to 1": 2 * images - 1,
        "pixels with mean 0 and deviation 1": (images - images.mean()) / images.std().clamp_min(1e-6),
    }
    better = {name: accuracy_on(rescaled) for name, rescaled in other.items()}
    name, best = max(better.items(), key=lambda item: item[1])
    if best <= as_is + 0.2:
        return []
    hint = (
        f"on {len(images)} probes the classifier is right {as_is:.0%} of the time, but {best:.0%} on {name}: its "
        "normalisation seems to be outside; move it inside the model"
    )
    return [hint]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_AT_MOST]) + (
        f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    )
