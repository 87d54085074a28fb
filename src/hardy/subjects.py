"""Subjects: what is measured. A run, a bundle, or any classifier that Python can import."""

from __future__ import annotations

import hashlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hardy.bundle import BUNDLE, load_bundle
from hardy.errors import ContractError, RunError, UsageError
from hardy.files import sha256_of
from hardy.models import build_model
from hardy.runs import MANIFEST, Run


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
    """

    name: str
    classifier: nn.Module
    architecture: str
    weights_sha256: str
    training: dict[str, Any] | None = None
    run: Path | None = None


_NAMED_AT_MOST = 4


def load_subject(name: str, weights: Path | None = None) -> Subject:
    """The classifier that ``name`` stands for.

    Args:
        name: the folder of a run or of a bundle, or ``package.module:attribute``: an ``nn.Module``, or a callable
            without arguments that returns one. The current folder is searched for the module as well.
        weights: a safetensors file to load into it.

    Raises:
        RunError: the run is not trained to its end, or its weights are not those it was trained to.
        BundleError: the bundle is not as it was written.
        UsageError: the module does not import, the attribute is no classifier, or the weights do not fit.
    """
    path = Path(name)
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
            f"no subject '{name}': it is neither the folder of a run or a bundle nor package.module:callable"
            + (f" ({path} has no {MANIFEST})" if path.exists() else "")
        )
    return _from_import(name, weights)


def weights_sha256(classifier: nn.Module) -> str:
    """A hash over names, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_run(path: Path) -> Subject:
    run = Run.open(path)
    if "model" not in run.manifest:
        raise RunError(f"{path} holds an evaluation of something else and no classifier of its own")
    if run.manifest["training"]["status"] != "trained":
        raise RunError(f"the training in {path} is not finished; go on with 'hardy train … --out {path} --resume'")
    if not run.weights.exists():
        raise RunError(f"{run.weights} is missing; train the run again")
    if sha256_of(run.weights) != run.manifest["weights_sha256"]:
        raise RunError(f"{run.weights} is not what was trained: its hash differs from the one in {MANIFEST}")
    model = run.manifest["model"]
    classifier = build_model(model["name"], **model["arguments"])
    _load_weights(classifier, run.weights)
    recipe = run.manifest["training"]["recipe"]
    return Subject(
        name=recipe["name"],
        classifier=classifier,
        architecture=_in_words(model["name"], model["arguments"]),
        weights_sha256=weights_sha256(classifier),
        training={key: run.manifest["training"][key] for key in ("recipe", "seed", "data")},
        run=path,
    )


def _from_bundle(path: Path) -> Subject:
    bundle = load_bundle(path)
    facts = bundle.facts
    return Subject(
        name=facts.name,
        classifier=bundle.classifier,
        architecture=_in_words(facts.model.name, facts.model.arguments),
        weights_sha256=weights_sha256(bundle.classifier),
        training=facts.training or None,
    )


def _in_words(model: str, arguments: dict[str, Any]) -> str:
    members = arguments.get("members")
    return f"ensemble of {', '.join(member['name'] for member in members)}" if members else model


def _from_import(name: str, weights: Path | None) -> Subject:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Whatever the user's module raises is what the user has to see.
        raise UsageError(f"cannot import '{module_name}' of '{name}': {type(error).__name__}: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        if not part or not hasattr(found, part):
            raise UsageError(f"module '{module_name}' has no '{attribute}'")
        found = getattr(found, part)
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
        _load_weights(found, weights)
    return Subject(name, found, type(found).__name__, weights_sha256(found))


def _load_weights(classifier: nn.Module, path: Path) -> None:
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
