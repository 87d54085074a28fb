"""Attacks as users call them: functions of a model, images and labels, made from what the engine runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from hardy.attacks.attack import Attack, AttackFunction
from hardy.attacks.engine import AttackResult, Precision, run_attacks
from hardy.attacks.masking import find_signs, masking_warnings
from hardy.data.arrays import read_loader
from hardy.errors import ContractError, UsageError
from hardy.models import device_of
from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.validation import Images, Labels, check_classifier, check_images

Array: TypeAlias = Tensor | NDArray[Any]

_CHECKED = 16
# Of the examples in docstrings.
_RADII: Mapping[Norm, float] = {"linf": 8 / 255, "l2": 0.5, "l1": 5.0, "l0": 8.0}


class PublicAttack(Protocol):
    """An attack or a suite as users call it; ``attacks`` are what it runs."""

    __name__: str
    attacks: tuple[Attack, ...]

    def __call__(
        self,
        model: nn.Module,
        images: Array | DataLoader[Any],
        labels: Array | None = None,
        *,
        eps: float | Sequence[float],
        norm: str = ...,
        seed: int = 0,
        batch_size: int = 500,
        precision: Precision = "auto",
        **settings: Any,
    ) -> AttackResult: ...


ATTACKS: Registry[Attack] = Registry("attack")


def register(
    *,
    title: str,
    norms: tuple[Norm, ...],
    reference: str,
    name: str = "",
    search: Literal["fixed", "smallest"] = "fixed",
    gradients: bool = True,
) -> Callable[[AttackFunction], PublicAttack]:
    """Make an attack known by its name, and a function of a model; hardy's own attacks are registered so, too.

    Decorates ``(classifier, images, labels, threat, *, rng, **settings) -> images``, an
    :data:`~hardy.attacks.attack.AttackFunction`. The engine clips what it returns, checks the ball and judges success.

    Args:
        title: what the attack is, in words.
        norms: the norms that it works in; the first is the default.
        reference: the paper, or where it comes from.
        name: what it is called; by default as the function, with hyphens.
        search: ``fixed`` looks inside the ball; ``smallest`` looks for the smallest perturbation, whatever the radius.
        gradients: whether it needs gradients.

    Raises:
        UsageError: the name is taken, or a setting has no default.

    Example:
        >>> import hardy, torch
        >>> @hardy.attacks.register(title="one gray level", norms=("linf",), reference="this example")
        ... def shade(classifier, images, labels, threat, *, rng, tries=4):
        ...     return images + threat.eps * (2 * rng.uniform(1, 1, 1) - 1)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
        >>> images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 1])
        >>> shade(model, images, labels, eps=0.1, tries=8).images.shape
        torch.Size([4, 1, 6, 6])
        >>> hardy.attacks.ATTACKS["shade"].settings
        {'tries': 4}
    """

    def decorate(function: AttackFunction) -> PublicAttack:
        called = name or function.__name__.replace("_", "-")
        found = ATTACKS.add(Attack(called, title, function, norms, reference, search, gradients))
        settings = [it for key, it in inspect.signature(function).parameters.items() if key in found.settings]
        return public(function.__name__, function.__module__, function.__doc__ or "", (found,), reference, settings)

    return decorate


def public(
    name: str,
    module: str,
    text: str,
    attacks: tuple[Attack, ...],
    reference: str,
    settings: Sequence[inspect.Parameter] = (),
) -> PublicAttack:
    """The function that runs ``attacks``, under that name and with that text at the head of its docstring."""
    norms: list[Norm] = [norm for norm in attacks[0].norms if all(norm in attack.norms for attack in attacks)]

    def call(
        model: nn.Module,
        images: Array | DataLoader[Any],
        labels: Array | None = None,
        *,
        eps: float | Sequence[float],
        norm: str = norms[0],
        seed: int = 0,
        batch_size: int = 500,
        precision: Precision = "auto",
        **settings: Any,
    ) -> AttackResult:
        chosen = [attack.with_settings(**settings) for attack in attacks] if settings else attacks
        return _attack_model(model, images, labels, chosen, eps, norm, seed, batch_size, precision)

    signature = inspect.signature(call)
    common = list(signature.parameters.values())[:-1]
    call.__name__ = call.__qualname__ = name
    call.__module__, call.__doc__ = module, _document(name, text, norms, reference)
    vars(call).update(attacks=attacks, __signature__=signature.replace(parameters=[*common, *settings]))
    return call  # type: ignore[return-value]


def _document(name: str, text: str, norms: Sequence[Norm], reference: str) -> str:
    text, _, settings = inspect.cleandoc(text).partition("\n\nArgs:\n")
    settings = settings and settings + "\n"
    call = f'hardy.attacks.{name}(model, images, labels, norm="{norms[0]}", eps={_RADII[norms[0]]:.4g})'
    return f"""{text}

Works in {", ".join(norms)}.

Args:
    model: any classifier, from images in [0, 1] to logits, in any mode and on any device; left as it was.
    images: float32 (N, C, H, W) in [0, 1], tensor or array; or a ``DataLoader`` of images and labels.
    labels: integers (N,), the right classes; None with a loader.
    eps: the radius, in units of the pixel range [0, 1] (in l0 a number of pixels); or several radii, for all of which
        ``min_norm`` answers.
    norm: {", ".join(f"``{norm}``" for norm in norms)}.
    seed: of the random numbers. What happens to an image depends on the seed and its position alone.
    batch_size: how many images are attacked at once; bounds the memory.
    precision: of the search: ``float32``, ``bf16``, or ``auto``, which takes bfloat16 first where that is faster.
{settings}
Returns:
    An :class:`~hardy.attacks.AttackResult`: ``images``, ``min_norm``, ``broken``, ``warnings``, …

Raises:
    ContractError: images, labels or the model are not as above.
    UsageError: a radius, a norm or a setting that makes no sense.

Example:
    >>> import hardy, torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    >>> images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 1])
    >>> result = {call}
    >>> result.images.shape, result.broken.dtype
    (torch.Size([4, 1, 6, 6]), torch.bool)

Reference: {reference}
"""


def _attack_model(
    model: nn.Module,
    images: Array | DataLoader[Any],
    labels: Array | None,
    attacks: Sequence[Attack],
    eps: float | Sequence[float],
    norm: str,
    seed: int,
    batch_size: int,
    precision: Precision,
) -> AttackResult:
    threats = [ThreatModel.checked(norm, radius) for radius in np.atleast_1d(eps).astype(float).tolist()]
    warnings = []
    if isinstance(images, DataLoader) and isinstance(images.sampler, RandomSampler):
        warnings.append("the loader shuffles; what was found is in the order in which it gave the images")
    images, labels = _tensors(images, labels)
    device = device_of(model)
    images, labels = images.to(device), labels.to(device)
    if len(images):
        classes = int(labels.max()) + 1
        info = check_classifier(model, images[:_CHECKED], labels[:_CHECKED], classes, allow_random=True)
        # The last warning would be that these labels are not all the classes, which a few images rarely have.
        warnings += info.warnings[:-1] if info.classes > classes else info.warnings
    rng = Randomness(seed, torch.arange(len(images), device=device), ("attack",))
    result = run_attacks(model, images, labels, attacks, threats, rng=rng, batch_size=batch_size, precision=precision)
    if len(images):
        largest = max(threats, key=lambda threat: threat.eps)
        signs = find_signs(
            model, images, labels, result, attacks, largest, pgd=ATTACKS["pgd"], rng=rng, batch_size=batch_size
        )
        warnings += masking_warnings(signs)
    result.warnings[:0] = warnings
    return result


def _tensors(images: Array | DataLoader[Any], labels: Array | None) -> tuple[Images, Labels]:
    if labels is None:
        if not isinstance(images, DataLoader):
            raise UsageError("labels are missing; pass images and labels, or a DataLoader that gives both")
        images, labels = read_loader(images, "the images to attack")
    elif isinstance(images, DataLoader):
        raise UsageError("a DataLoader gives the labels itself; leave labels out")
    images, labels = (
        torch.from_numpy(np.array(it)) if not isinstance(it, Tensor) else it.detach() for it in (images, labels)
    )
    check_images(images)
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ContractError(
            f"labels: {labels.dtype} of shape {tuple(labels.shape)} for {len(images)} images; labels are integers, (N,)"
        )
    if (labels < 0).any():
        raise ContractError(f"labels: {int(labels.min())} is no class; labels are integers from 0 to K-1")
    return images, labels.long()
