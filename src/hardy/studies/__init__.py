"""Studies: several trainings side by side, as a table with intervals."""

from __future__ import annotations

from hardy.errors import unknown
from hardy.studies.augmentation import AUGMENTATION
from hardy.studies.framework import Options, Page, Progress, Study, run_study

__all__ = ["STUDIES", "Options", "Page", "Progress", "Study", "get_study", "run_study"]

STUDIES: dict[str, Study] = {study.name: study for study in (AUGMENTATION,)}


def get_study(name: str) -> Study:
    """The study of that name.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    return STUDIES[name]
