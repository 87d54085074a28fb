"""Detectors of a model: fit one by a call, then score images by calling it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.errors import UsageError
from hardy.models.prediction import Examples, as_images, batches_of, device_of
from hardy.ood.detector import DETECTORS, Detector, fit_combination, fit_detector, fit_exposed, usable
from hardy.ood.features import Features, concatenate, extract
from hardy.ood.method import Doubles
from hardy.validation import frozen_evaluation


@dataclass(frozen=True, eq=False)
class ModelDetector:
    """A fitted detector of a model.

    Attributes:
        model: what it looks at; left in the mode that it is in.
        detector: the method, and what was fitted.
        batch_size: images at once.
    """

    model: nn.Module
    detector: Detector
    batch_size: int = 500

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def arrays(self) -> Mapping[str, NDArray]:
        """All that was fitted."""
        return self.detector.arrays

    def __call__(self, images: Tensor | NDArray) -> Doubles:
        """float64 (N,), higher is more suspicious, of float32 (N, C, H, W) in [0, 1].

        Raises:
            ContractError: images outside the contract.
            UsageError: the model lacks what the method needs, such as a linear last layer.
        """
        given, method = as_images(images, device_of(self.model)), DETECTORS[self.name]
        if not len(given):
            return np.zeros(0)
        with frozen_evaluation(self.model):
            if method.needs == "gradients":
                return method.score(dict(self.arrays), self.model, given, self.batch_size)
            return self.detector.scores(extract(self.model, given, self.batch_size))


def detector(name: str, model: nn.Module, examples: Examples | None = None, *, batch_size: int = 500) -> ModelDetector:
    """Fit a detector to a model.

    Args:
        name: a name in ``DETECTORS``, of hardy's own or a registered one.
        model: any classifier that keeps the contract of :mod:`hardy.validation`.
        examples: training images and their labels: a ``DataLoader``, a pair of tensors or arrays, or a dataset. For
            ``learned`` they are validation images; methods that fit nothing take none.
        batch_size: images at once.

    Raises:
        ContractError: images outside the contract.
        UsageError: unknown name; a model that lacks what the method needs; examples missing, or fewer than two.

    >>> model, images = hardy.build_model("compact", width=4), torch.rand(40, 1, 28, 28)
    >>> hardy.ood.detector("mahalanobis", model, (images, torch.arange(40) % 10)).arrays["means"].shape
    (10, 128)
    """
    method = DETECTORS.find(name)
    if method.fitted_on == "nothing":
        return ModelDetector(model, Detector(name, {}), batch_size)
    if method.fit is None:
        raise UsageError(f"detector '{name}' is fitted on {method.fitted_on}; call hardy.ood.{name}")
    if examples is None:
        raise UsageError(f"detector '{name}' is fitted on {method.fitted_on}; give them, with their labels")
    return ModelDetector(model, fit_detector(name, *_features(model, examples, batch_size)), batch_size)


def _features(model: nn.Module, examples: Examples, batch_size: int) -> tuple[Features, NDArray[np.int64]]:
    with frozen_evaluation(model):
        found = [
            (extract(model, images, batch_size), labels) for images, labels in batches_of(examples, device_of(model))
        ]
    if not found:
        raise UsageError("no examples; a detector is fitted on at least two")
    return concatenate([features for features, _ in found]), np.concatenate([labels for _, labels in found])


def odin(model: nn.Module, *, temperature: float = 1000.0, eps: float = 0.0014, batch_size: int = 500) -> ModelDetector:
    """ODIN: max softmax at a temperature, after a step of ``eps`` in linf towards the top class.

    The defaults are the paper's for CIFAR-10; :func:`choose_odin` finds the setting for a model.

    Raises:
        UsageError: a temperature that is not above 0, or a negative ``eps``.

    Liang, Li and Srikant, ICLR 2018, arXiv:1706.02690.

    >>> detector = hardy.ood.odin(hardy.build_model("compact", width=4), temperature=10.0, eps=0.03)
    >>> detector(torch.rand(3, 1, 28, 28)).shape
    (3,)
    """
    if not (temperature > 0 and eps >= 0):
        raise UsageError(f"odin: temperature {temperature}, eps {eps}; the one is above 0, the other from 0 up")
    return ModelDetector(
        model, Detector("odin", {"temperature": np.array(float(temperature)), "eps": np.array(float(eps))}), batch_size
    )


def combination(
    model: nn.Module,
    examples: Examples,
    validation: Tensor | NDArray,
    outliers: Tensor | NDArray,
    *,
    names: Sequence[str] | None = None,
    batch_size: int = 500,
) -> ModelDetector:
    """A logistic regression over the ranks of other detectors' scores.

    Args:
        model: any classifier.
        examples: training images and labels, which those detectors are fitted on; see :func:`detector`.
        validation: images (N, C, H, W) that nothing was fitted on.
        outliers: images (M, C, H, W), as of :func:`hardy.synthetic.make_outliers`; never what is measured on.
        names: of those detectors; None for all that the model allows.
        batch_size: images at once.

    Raises:
        ContractError: images outside the contract.
        UsageError: nothing to fit on, or a model that lacks what a detector needs.

    >>> model, images = hardy.build_model("compact", width=4), torch.rand(40, 1, 28, 28)
    >>> train = images, torch.arange(40) % 10
    >>> detector = hardy.ood.combination(model, train, images[:9], 1 - images[:9], names=["vim", "energy"])
    >>> detector(images[:3]).shape
    (3,)
    """
    training, labels = _features(model, examples, batch_size)
    parts = [fit_detector(name, training, labels) for name in (usable(training) if names is None else names)]
    with frozen_evaluation(model):
        seen = [extract(model, as_images(it, device_of(model)), batch_size) for it in (validation, outliers)]
    return ModelDetector(model, fit_combination(parts, *seen), batch_size)


def discriminator(
    model: nn.Module, examples: Examples, outliers: Sequence[Tensor | NDArray], *, batch_size: int = 500
) -> ModelDetector:
    """A small network on features and image gradients, fitted to tell training images from synthetic outliers.

    Args:
        model: any classifier.
        examples: training images and labels; see :func:`detector`.
        outliers: per family images (M, C, H, W), never what is measured on; ``hardy.synthetic.outliers`` makes them.
        batch_size: images at once.

    Raises:
        ContractError: images outside the contract.
        UsageError: nothing to fit on.

    >>> model, images = hardy.build_model("compact", width=4), torch.rand(40, 1, 28, 28)
    >>> detector = hardy.ood.discriminator(model, (images, torch.arange(40) % 10), [1 - images[:9], images[:9] / 2])
    >>> detector(images[:3]).shape
    (3,)
    """
    training, _ = _features(model, examples, batch_size)
    with frozen_evaluation(model):
        seen = [extract(model, as_images(it, device_of(model)), batch_size) for it in outliers]
    return ModelDetector(model, fit_exposed(training, seen), batch_size)


class WithoutFit(Protocol):
    def __call__(self, model: nn.Module, *, batch_size: int = 500) -> ModelDetector: ...


class WithFit(Protocol):
    def __call__(self, model: nn.Module, examples: Examples, *, batch_size: int = 500) -> ModelDetector: ...


def without_fit(name: str) -> WithoutFit:
    """The public function of a method that fits nothing."""

    def function(model: nn.Module, *, batch_size: int = 500) -> ModelDetector:
        return detector(name, model, batch_size=batch_size)

    _document(function, name, "model")
    return function


def with_fit(name: str) -> WithFit:
    """The public function of a method that is fitted on labeled images."""

    def function(model: nn.Module, examples: Examples, *, batch_size: int = 500) -> ModelDetector:
        return detector(name, model, examples, batch_size=batch_size)

    _document(function, name, "model, (images, labels)")
    return function


def _document(function: Callable[..., ModelDetector], name: str, arguments: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "hardy.ood"
    member = '{"name": "compact", "arguments": {"width": 4}}'
    build = f'"ensemble", members=2 * [{member}]' if DETECTORS[name].needs == "members" else '"compact", width=4'
    function.__doc__ = f"""{DETECTORS[name].description}.

    Arguments and errors as in :func:`detector`.

    >>> model = hardy.build_model({build})
    >>> images, labels = torch.rand(40, 1, 28, 28), torch.arange(40) % 10
    >>> detector = hardy.ood.{name}({arguments})
    >>> detector(images[:3]).shape
    (3,)
    """
