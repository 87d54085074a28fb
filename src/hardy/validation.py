"""The contract between a classifier and everything that trains, attacks or measures it, and the checks of it.

A classifier maps images, float32 in [0, 1] of shape (N, C, H, W), to logits, float32 of shape (N, K). It normalizes
inside. It is called in evaluation mode, where two calls on the same images give the same logits, and the logits of an
image do not depend on the other images of the batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from hardy.errors import ContractError, UsageError

TOLERANCE = 1e-3
"""By how much logits may differ between batches, because of rounding: in logits, or of the largest if that is more."""

_MOST_NAMED = 4

Images: TypeAlias = Tensor
"""float32 (N, C, H, W) in [0, 1]."""

Labels: TypeAlias = Tensor
"""int64 (N,), from 0 to K-1."""

Targets: TypeAlias = Tensor
"""What training aims at: labels, or soft labels, float32 (N, K), whose rows are distributions."""

Logits: TypeAlias = Tensor
"""float32 (N, K)."""

Classifier: TypeAlias = Callable[[Images], Logits]
"""What an attack sees; everything else takes an ``nn.Module``."""


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
            f"{where}: values from {low:g} to {high:g}; images lie in [0, 1]; normalize inside the model"
        )


def check_settings(what: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raise :class:`UsageError` unless ``settings`` fit the keyword-only parameters of ``function``.

    None may be missing or unknown, and each is text where the annotation says ``str``, a mapping where it says
    ``Steps``, and else a number from 0 up, an integer where it says ``int``.
    """
    signature = inspect.signature(function)
    known = {name: it.annotation for name, it in signature.parameters.items() if it.kind is it.KEYWORD_ONLY}
    try:
        signature.bind(*[None] * (len(signature.parameters) - len(known)), **settings)
    except TypeError as error:
        raise UsageError(f"{what}: {error}; its settings: {', '.join(known) or 'none'}") from None
    for name, value in settings.items():
        if known[name] in (str, "str"):
            if not isinstance(value, str):
                raise UsageError(f"{what}: {name} is {value!r}; it is text")
            continue
        if known[name] == "Steps":
            if not isinstance(value, Mapping):
                raise UsageError(f"{what}: {name} is {value!r}; it is a mapping of augmentations to their settings")
            continue
        whole = known[name] in (int, "int")
        if not _is_number(value) or (whole and value != int(value)):
            raise UsageError(f"{what}: {name} is {value!r}; it is a {'whole ' * whole}number from 0 up")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


@contextmanager
def frozen_evaluation(model: nn.Module) -> Iterator[nn.Module]:
    """Yield ``model`` in evaluation mode with frozen parameters; afterwards all modes and flags are as before.

    Frozen parameters make an input gradient about a third faster, and nothing accumulates in ``.grad``. Meanwhile
    float32 means float32 on a GPU too: PyTorch's convolutions round to TF32 there, which keeps 10 bits of 23.

    Example:
        >>> import torch
        >>> from hardy.validation import frozen_evaluation
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> with frozen_evaluation(model):
        ...     model.training, model[1].weight.requires_grad
        (False, False)
        >>> model.training, model[1].weight.requires_grad
        (True, True)
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    # torch declares no types for these.
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    precisions = [(backend, backend.fp32_precision) for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for backend, precision in precisions:
            backend.fp32_precision = precision


class ClassifierInfo(NamedTuple):
    """What :func:`check_classifier` found: the number of classes of the classifier, and warnings for the scorecard."""

    classes: int
    warnings: list[str]


def check_classifier(
    classifier: nn.Module, images: Images, labels: Labels, classes: int, *, allow_random: bool = False
) -> ClassifierInfo:
    """Check on some images that a classifier keeps the contract of this module.

    Args:
        classifier: its modes, flags and buffers are as before afterwards.
        images: float32 (N, C, H, W) in [0, 1], at least two, on the classifier's device.
        labels: int64 (N,).
        classes: the number of classes of the dataset.
        allow_random: accept a classifier whose logits differ from call to call, with a warning.

    Raises:
        ContractError: the classifier or the images break the contract.

    Example:
        >>> import torch
        >>> from hardy.validation import check_classifier
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> check_classifier(model, torch.rand(8, 1, 4, 4), torch.arange(8) % 3, classes=3).classes
        3
    """
    check_images(images, "the images to measure on")
    _check_parameters(classifier)
    with frozen_evaluation(classifier), _restoring_buffers(classifier) as buffers, torch.no_grad():
        left_on = [name or type(module).__name__ for name, module in classifier.named_modules() if module.training]
        logits = _logits(classifier, images)
        _check_shape(logits, images, classes)
        _check_buffers(buffers, left_on)
        warnings = _check_repeatable(logits, _logits(classifier, images), left_on, allow_random)
        if not warnings:
            _check_independent_of_batch(logits, _logits(classifier, images[:1]), left_on)
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
        raise ContractError(f"parameters or buffers that are not finite: {_some(broken)}; load other weights")


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
            f"calling the classifier changes its buffers ({_some(changed)}): does batch norm still update its "
            f"statistics in evaluation mode?{where}"
        )


def _logits(classifier: nn.Module, images: Images) -> Tensor:
    try:
        logits = classifier(images)
    except Exception as error:  # The classifier is the user's code: it may raise anything.
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
            "the classifier returns probabilities (rows in [0, 1] that sum to 1), which leaves attacks without "
            "gradients and makes calibration wrong; return logits: leave out the final softmax, or return torch.log(p)"
        )


def _check_repeatable(first: Tensor, second: Tensor, left_on: list[str], allow_random: bool) -> list[str]:
    difference = float((first - second).abs().max())
    if difference <= TOLERANCE * _size(first):
        return []
    where = f" (left in training mode: {_some(left_on)})" if left_on else ""
    finding = f"two calls on the same images differ by up to {difference:.3g}{where}"
    if allow_random:
        return [
            f"the classifier is random: {finding}; figures hold for one draw only, and attacks are not adapted to it"
        ]
    raise ContractError(
        f"the classifier is random: {finding}; is dropout active in evaluation mode? Turn it off, or "
        "measure the classifier as it is with --allow-random"
    )


def _size(logits: Tensor) -> float:
    return max(1.0, float(logits.abs().max()))


def _check_independent_of_batch(together: Tensor, alone: Tensor, left_on: list[str]) -> None:
    difference = float((together[:1] - alone).abs().max())
    if difference > TOLERANCE * _size(together):
        where = f" Left in training mode: {_some(left_on)}." if left_on else ""
        raise ContractError(
            f"the logits of an image depend on its batch: alone they differ by {difference:.3g}; does batch norm "
            f"use the statistics of the batch in evaluation mode?{where}"
        )


def _range_hint(classifier: nn.Module, images: Images, labels: Labels, logits: Tensor) -> list[str]:
    """A warning if the accuracy on rescaled pixels is much higher: the classifier then expects normalized images."""

    def accuracy(answers: Tensor) -> float:
        return float((answers.argmax(1) == labels).float().mean())

    def accuracy_on(rescaled: Tensor) -> float:
        try:
            return accuracy(_logits(classifier, rescaled))
        except ContractError:  # A classifier may refuse what lies outside [0, 1].
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
        f"on {len(images)} images the accuracy is {as_is:.0%}, but {best:.0%} on {name}: the classifier seems to "
        "expect normalized images; normalize inside the model"
    )
    return [hint]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
