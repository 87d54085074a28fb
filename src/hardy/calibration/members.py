"""Calibrating an ensemble's members each for itself, before they are averaged.

The other order, averaging first and calibrating the mean, is a calibrator fitted on the ensemble's own logits. The two
differ: the mean of calibrated members is less confident than they are (Rahaman and Thiery, NeurIPS 2021,
arXiv:2007.08792).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardy.calibration.calibrator import Calibrator, fit_calibrator
from hardy.calibration.kind import Floats
from hardy.errors import UsageError


def fit_member_calibrators(name: str, member_logits: NDArray, labels: NDArray) -> tuple[Calibrator, ...]:
    """One calibrator for each member.

    Args:
        name: of the calibrators.
        member_logits: float (M, N, K), what each member answers.
        labels: integers (N,).

    Raises:
        UsageError: no members; otherwise as :func:`~hardy.calibration.fit_calibrator`.
    """
    if np.ndim(member_logits) != 3 or not len(member_logits):
        raise UsageError(
            f"member logits: shape {np.shape(member_logits)}; they are (M, N, K), with at least one member"
        )
    return tuple(fit_calibrator(name, logits, labels) for logits in member_logits)


def average_probabilities(calibrators: Sequence[Calibrator], member_logits: NDArray) -> Floats:
    """The mean of the members' calibrated probabilities, float64 (N, K), from their logits, float (M, N, K).

    Raises:
        UsageError: as many calibrators as members are needed; otherwise as :class:`Calibrator`.
    """
    if not calibrators or len(calibrators) != len(member_logits):
        raise UsageError(f"{len(calibrators)} calibrators for {len(member_logits)} members; one each, and at least one")
    return np.mean([one(logits) for one, logits in zip(calibrators, member_logits, strict=True)], axis=0)
