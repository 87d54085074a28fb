"""hardy: image classifiers that hold up, and figures that show how far that is true.

The public names are loaded when they are first used, so that ``import hardy`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hardy import (
        attacks,
        augmentations,
        calibration,
        certification,
        corruptions,
        data,
        evaluation,
        metrics,
        models,
        ood,
        report,
        training,
    )
    from hardy.corruptions import corrupt
    from hardy.data import load_dataset
    from hardy.deployment import load
    from hardy.deployment.fit import fit_bundle as bundle
    from hardy.errors import HardyError, UsageError
    from hardy.evaluation.evaluate import evaluate
    from hardy.evaluation.scorecard import Scorecard
    from hardy.models import build_model
    from hardy.rng import Randomness
    from hardy.threats import ThreatModel
    from hardy.training import train

_FROM = {
    "HardyError": "hardy.errors",
    "Randomness": "hardy.rng",
    "Scorecard": "hardy.evaluation.scorecard",
    "ThreatModel": "hardy.threats",
    "UsageError": "hardy.errors",
    "build_model": "hardy.models",
    "bundle": "hardy.deployment.fit",
    "corrupt": "hardy.corruptions",
    "evaluate": "hardy.evaluation.evaluate",
    "load": "hardy.deployment",
    "load_dataset": "hardy.data",
    "train": "hardy.training",
}

__all__ = [
    "HardyError",
    "Randomness",
    "Scorecard",
    "ThreatModel",
    "UsageError",
    "attacks",
    "augmentations",
    "build_model",
    "bundle",
    "calibration",
    "certification",
    "corrupt",
    "corruptions",
    "data",
    "evaluate",
    "evaluation",
    "load",
    "load_dataset",
    "metrics",
    "models",
    "ood",
    "report",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    from hardy.errors import explain_missing_packages

    with explain_missing_packages():
        if name in _FROM:
            return getattr(import_module(_FROM[name]), {"bundle": "fit_bundle"}.get(name, name))
        if name in __all__:
            return import_module(f"hardy.{name}")
    raise AttributeError(f"module 'hardy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
