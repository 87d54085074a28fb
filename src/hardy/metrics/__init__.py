"""Metrics: pure functions on NumPy arrays, from values an example to one figure.

``weights`` says how often each example counts: a bootstrap resample is a vector of counts, and a figure with weights is
the figure of the data with each example repeated so often. No figure is made from nothing: zero examples raise
:class:`~hardy.errors.UsageError`. NaN says that a figure is not defined, as an AUROC with one class.

SciPy is imported by the functions that use it: calibrators import this module, and the first answer of a bundle must
not wait for it.
"""

from __future__ import annotations

from hardy.metrics._arrays import Figure, weighted_mean
from hardy.metrics._bins import Binning
from hardy.metrics.calibration import (
    Reliability,
    class_wise_ece,
    confidence_and_correct,
    debiased_ece,
    debiased_squared_calibration_error,
    ece,
    max_calibration_error,
    prepared_class_wise_ece,
    prepared_debiased_ece,
    prepared_debiased_squared_calibration_error,
    prepared_ece,
    prepared_max_calibration_error,
    prepared_rms_calibration_error,
    reliability,
    rms_calibration_error,
)
from hardy.metrics.discrimination import (
    RocCurve,
    aupr,
    auroc,
    auroc_interval,
    fpr_at_tpr,
    prepared_aupr,
    prepared_auroc,
    prepared_fpr_at_tpr,
    roc_curve,
)
from hardy.metrics.intervals import (
    Interval,
    benjamini_hochberg,
    bootstrap,
    bootstrap_weights,
    bounded_interval,
    clopper_pearson,
    mcnemar,
    mover,
    newcombe,
    paired_bootstrap,
    phi_coefficient,
    share_interval,
    wilson,
)
from hardy.metrics.noise_floor import (
    NoiseFloor,
    calibration_p_value,
    class_noise_floors,
    ece_noise_floor,
    noise_floors,
)
from hardy.metrics.proper_scores import BrierParts, brier, brier_parts, nll, prepared_brier_parts
from hardy.metrics.selective import (
    RiskCoverage,
    aurc,
    coverage_at_bounded_risk,
    coverage_at_risk,
    excess_aurc,
    prepared_aurc,
    prepared_coverage_at_bounded_risk,
    prepared_coverage_at_risk,
    prepared_excess_aurc,
    prepared_risk_at_coverage,
    risk_at_coverage,
    risk_coverage,
)

__all__ = [
    "Figure",
    "weighted_mean",
    "confidence_and_correct",
    "Reliability",
    "reliability",
    "Binning",
    "ece",
    "rms_calibration_error",
    "max_calibration_error",
    "debiased_ece",
    "debiased_squared_calibration_error",
    "class_wise_ece",
    "prepared_ece",
    "prepared_rms_calibration_error",
    "prepared_max_calibration_error",
    "prepared_debiased_ece",
    "prepared_debiased_squared_calibration_error",
    "prepared_class_wise_ece",
    "NoiseFloor",
    "ece_noise_floor",
    "noise_floors",
    "class_noise_floors",
    "calibration_p_value",
    "nll",
    "brier",
    "BrierParts",
    "brier_parts",
    "prepared_brier_parts",
    "auroc",
    "auroc_interval",
    "aupr",
    "fpr_at_tpr",
    "prepared_auroc",
    "prepared_aupr",
    "prepared_fpr_at_tpr",
    "RocCurve",
    "roc_curve",
    "RiskCoverage",
    "risk_coverage",
    "aurc",
    "excess_aurc",
    "risk_at_coverage",
    "coverage_at_risk",
    "coverage_at_bounded_risk",
    "prepared_aurc",
    "prepared_excess_aurc",
    "prepared_risk_at_coverage",
    "prepared_coverage_at_risk",
    "prepared_coverage_at_bounded_risk",
    "Interval",
    "wilson",
    "clopper_pearson",
    "share_interval",
    "bounded_interval",
    "newcombe",
    "mover",
    "phi_coefficient",
    "mcnemar",
    "benjamini_hochberg",
    "bootstrap_weights",
    "bootstrap",
    "paired_bootstrap",
]
