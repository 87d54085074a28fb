"""Evaluation: what is measured of a classifier, the records of it, and the figures made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardy.evaluation.properties import register_property

__all__ = ["register_property"]


def __getattr__(name: str) -> Any:
    # Properties import the modules of this package, so the package imports them when they are asked for.
    if name in __all__:
        from hardy.evaluation import properties

        return getattr(properties, name)
    raise AttributeError(f"module 'hardy.evaluation' has no attribute '{name}'")
