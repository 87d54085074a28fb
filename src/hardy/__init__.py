"""hardy: image classifiers that hold up, and figures that show how far that is true.

The public names are loaded when they are first used, so that ``import hardy`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ThreatModel": "hardy.threats",
    "Randomness": "hardy.rng",
    "HardyError": "hardy.errors",
    "UsageError": "hardy.errors",
    "load_dataset": "hardy.data",
    "build_model": "hardy.models",
    "train": "hardy.training",
    "evaluate": "hardy.evaluation.evaluate",
    "Scorecard": "hardy.evaluation.scorecard",
}

if TYPE_CHECKING:
    from hardy.data import load_dataset
    from hardy.errors import HardyError, UsageError
    from hardy.evaluation.evaluate import evaluate
    from hardy.evaluation.scorecard import Scorecard
    from hardy.models import build_model
    from hardy.rng import Randomness
    from hardy.threats import ThreatModel
    from hardy.training import train

__all__ = [
    "HardyError",
    "Randomness",
    "Scorecard",
    "ThreatModel",
    "UsageError",
    "build_model",
    "evaluate",
    "load_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hardy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
