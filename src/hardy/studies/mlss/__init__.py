"""The study that hardy grew from, run again: its tables beside the published ones, its claims answered."""

from __future__ import annotations

from hardy.studies.mlss.study import MLSS

__all__ = ["MLSS"]
