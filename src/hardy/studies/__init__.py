"""Studies: several trainings side by side, as a table with intervals."""

from __future__ import annotations

from hardy.registry import Registry
from hardy.studies.augmentation import AUGMENTATION
from hardy.studies.framework import Options, Page, Progress, Study, run_study
from hardy.studies.mlss import MLSS

__all__ = ["STUDIES", "Options", "Page", "Progress", "Study", "run_study"]

STUDIES: Registry[Study] = Registry("study", (AUGMENTATION, MLSS))
