"""Subjects: what is measured. A run, a bundle, or any classifier that Python can import."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from hardy.data import Dataset
from hardy.data.reading import Reading
from hardy.deployment import BUNDLE, Bundle, load_bundle, located, shipped
from hardy.errors import UsageError
from hardy.evaluation.framework import Access
from hardy.models.given import FromProbabilities, GivenLogits, ProbabilityFunction
from hardy.models.weights import load_weights, weights_sha256
from hardy.runs import MANIFEST, load_trained, training_facts
from hardy.validation import ClassifierInfo, check_classifier

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier and what is known about it.

    Attributes:
        name: what it is called in the scorecard.
        classifier: the network.
        architecture: in words.
        weights_sha256: over the names, shapes and values of its parameters and buffers.
        training: the resolved recipe and seed, where hardy trained it.
        run: its run folder, if it has one.
        classes: the class names in the order of its logits, where they are known.
        access: what can be asked of it.
        bundle: what it is deployed with, if it is a bundle's.
    """

    name: str
    classifier: nn.Module
    architecture: str
    weights_sha256: str
    training: dict[str, Any] | None = None
    run: Path | None = None
    classes: tuple[str, ...] = ()
    access: Access = "gradients"
    bundle: Bundle | None = None

    def data(self, given: T | None = None) -> T | str:
        """What to measure on: what is given, else what it was trained on, else MNIST.

        The path that it was trained on stands for the images that were set apart there for testing.
        """
        own = (self.training or {}).get("data")
        if given is None:
            return own or "mnist"
        if own and isinstance(given, str | Path) and Reading.of(own).path.resolve() == Path(given).resolve():
            return own
        return given


def load_subject(name: str | Path, weights: str | Path | None = None, *, probabilities: bool = False) -> Subject:
    """The classifier that ``name`` stands for.

    Args:
        name: the folder of a run or of a bundle; ``flagship``, the bundle that comes with hardy, unless something of
            that name lies in the current folder; or ``package.module:attribute``: an ``nn.Module``, or a callable
            without arguments that returns one. The current folder is searched for the module as well.
        weights: a safetensors file to load into it.
        probabilities: ``package.module:attribute`` is a function from images to probabilities, as for
            :func:`from_probabilities`.

    Raises:
        RunError: the run is not trained to its end, or its weights are not those it was trained to.
        BundleError: the bundle is not as it was written.
        UsageError: the module does not import, the attribute is no classifier, or the weights do not fit.
    """
    path, name = located(name), str(name)
    if probabilities:
        if ":" not in name or weights is not None:
            raise UsageError(
                f"'{name}': a function of probabilities is named as package.module:function, without weights"
            )
        found = _attribute(name)
        if not callable(found):
            raise UsageError(
                f"'{name}' is {type(found).__name__}; it has to be a function from images to probabilities"
            )
        return from_probabilities(found, name)
    if (path / MANIFEST).exists():
        if weights is not None:
            raise UsageError(f"{name} is a run and has its own weights; leave out --weights")
        return _from_run(path)
    if (path / BUNDLE).exists():
        if weights is not None:
            raise UsageError(f"{name} is a bundle and has its own weights; leave out --weights")
        return _from_bundle(path)
    if ":" not in name:
        raise UsageError(
            f"no subject '{name}': it is neither the folder of a run or a bundle, nor {' or '.join(shipped())}, nor "
            "package.module:callable"
            + (f" ({path} has no {MANIFEST})" if path.exists() else "")
            + (f"; do you mean {':'.join(name.rsplit('.', 1))}?" if re.fullmatch(r"\w+(\.\w+)+", name) else "")
        )
    return _from_import(name, Path(weights) if weights is not None else None)


def subject_of(model: nn.Module | Subject | str | Path) -> Subject:
    """A network as a subject called by its class; a subject as it is; and what :func:`load_subject` loads."""
    if isinstance(model, Subject):
        return model
    if isinstance(model, nn.Module):
        kind = type(model).__name__
        return Subject(kind, model, kind, weights_sha256(model))
    return load_subject(model)


def given_answers(path: str | Path = "") -> Subject:
    """What stands for a classifier of which there are only answers, in files that are handed in as data.

    Such a file takes the place of a dataset (see :mod:`hardy.data.answers`):
    ``hardy.evaluate(given_answers(), "answers.csv", validation="more.csv")``.
    """
    module = GivenLogits()
    return Subject(Path(path).stem or "given answers", module, "given answers", weights_sha256(module), access="logits")


def from_probabilities(function: ProbabilityFunction, name: str = "", classes: Sequence[str] = ()) -> Subject:
    """A function from images to probabilities as a classifier: all is measured of it that takes no gradients.

    Args:
        function: from a NumPy array (N, C, H, W), float32 in [0, 1], to probabilities (N, K), in rows that sum to 1,
            each image by itself.
        name: what it is called in the scorecard; by default as in Python.
        classes: the K class names, where labels are to be matched with them.

    ``hardy.evaluate(from_probabilities(predict), (images, labels))`` measures one.
    """
    module, name = FromProbabilities(function), name or getattr(function, "__name__", type(function).__name__)
    # Nobody can tell whether a function is the same; its code and its name are as near as it gets.
    code = getattr(getattr(function, "__code__", None), "co_code", b"")
    digest = hashlib.sha256(name.encode() + code).hexdigest()
    return Subject(name, module, "a function of probabilities", digest, classes=tuple(classes), access="images")


PROBES = 64
"""How many images the contract is checked on."""


def check_on_dataset(
    classifier: nn.Module, dataset: Dataset, device: torch.device, *, allow_random: bool = False
) -> ClassifierInfo:
    """:func:`hardy.validation.check_classifier` on the first images of a dataset's measuring order."""
    probes = dataset.measuring_order()[:PROBES]
    return check_classifier(
        classifier,
        dataset.floats(probes).to(device),
        dataset.labels[probes].to(device),
        len(dataset.classes),
        allow_random=allow_random,
    )


def _from_run(path: Path) -> Subject:
    classifier, manifest = load_trained(path)
    model = manifest["model"]
    return Subject(
        name=manifest["training"]["recipe"]["name"],
        classifier=classifier,
        architecture=_in_words(model["name"], model["arguments"]),
        weights_sha256=weights_sha256(classifier),
        training=training_facts(manifest),
        run=path,
        classes=tuple(manifest["classes"]),
    )


def _from_bundle(path: Path) -> Subject:
    bundle = load_bundle(path)
    manifest = bundle.manifest
    return Subject(
        name=manifest.name,
        classifier=bundle.classifier,
        architecture=_in_words(manifest.model.name, manifest.model.arguments),
        weights_sha256=weights_sha256(bundle.classifier),
        training=manifest.training or None,
        classes=manifest.classes,
        bundle=bundle,
    )


def _in_words(model: str, arguments: dict[str, Any]) -> str:
    members = arguments.get("members")
    return f"ensemble of {', '.join(member['name'] for member in members)}" if members else model


def import_from_here(name: str) -> ModuleType:
    """A module; the current folder is searched too.

    Raises:
        UsageError: it does not import.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # Whatever the user's module raises is what the user has to see.
        raise UsageError(f"cannot import '{name}': {type(error).__name__}: {error}") from error


def _attribute(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    found: Any = import_from_here(module_name)
    for part in attribute.split("."):
        if not part or not hasattr(found, part):
            raise UsageError(f"module '{module_name}' has no '{attribute}'")
        found = getattr(found, part)
    return found


def _from_import(name: str, weights: Path | None) -> Subject:
    found = _attribute(name)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UsageError(
                f"'{name}' is {type(found).__name__}, neither an nn.Module nor a callable that returns one"
            )
        try:
            found = found()
        except Exception as error:
            raise UsageError(f"calling '{name}()' failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise UsageError(f"'{name}()' returned {type(found).__name__}; a classifier is an nn.Module")
    if weights is not None:
        load_weights(found, weights)
    return Subject(name, found, type(found).__name__, weights_sha256(found))
