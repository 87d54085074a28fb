"""Calibrators turn logits into probabilities that can be taken at their word; prediction sets hold the true class.

Both are fitted on validation examples: ``hardy.calibration.temperature(logits, labels)`` gives a calibrator to call
with logits, ``hardy.calibration.lac(probabilities, labels)`` a rule to call with probabilities.
"""

from hardy.calibration import calibrator as _calibrator
from hardy.calibration import conformal as _conformal
from hardy.calibration.calibrator import CALIBRATORS, Calibrator, fit_calibrator, restore_calibrator
from hardy.calibration.conformal import CONFORMAL, Conformal, fit_conformal, restore_conformal
from hardy.calibration.kind import CalibrationMethod
from hardy.calibration.members import average_probabilities, fit_member_calibrators
from hardy.calibration.overlap import check_disjoint

temperature = _calibrator.function_of("temperature")
vector = _calibrator.function_of("vector")
isotonic = _calibrator.function_of("isotonic")
histogram = _calibrator.function_of("histogram")
lac = _conformal.function_of("lac")
aps = _conformal.function_of("aps")
raps = _conformal.function_of("raps")
class_conditional = _conformal.function_of("class_conditional")

__all__ = [
    "CALIBRATORS",
    "CONFORMAL",
    "CalibrationMethod",
    "Calibrator",
    "Conformal",
    "aps",
    "average_probabilities",
    "check_disjoint",
    "class_conditional",
    "fit_calibrator",
    "fit_conformal",
    "fit_member_calibrators",
    "histogram",
    "isotonic",
    "lac",
    "raps",
    "restore_calibrator",
    "restore_conformal",
    "temperature",
    "vector",
]
