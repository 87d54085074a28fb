"""Calibrators: fitted on validation logits, they turn logits into probabilities that can be taken at their word."""

from hardy.calibration.calibrator import CALIBRATORS, Calibrator, fit_calibrator, restore_calibrator
from hardy.calibration.kind import Kind
from hardy.calibration.members import average_probabilities, fit_member_calibrators
from hardy.calibration.overlap import check_disjoint

__all__ = [
    "CALIBRATORS",
    "Calibrator",
    "Kind",
    "average_probabilities",
    "check_disjoint",
    "fit_calibrator",
    "fit_member_calibrators",
    "restore_calibrator",
]
