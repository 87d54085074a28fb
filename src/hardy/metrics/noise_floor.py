"""What chance alone makes of the calibration errors of a perfectly calibrated classifier."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import Floats, checked_confidence, checked_probabilities, checked_weights
from hardy.metrics._bins import prepared_bins, prepared_class_bins

# Bernoulli draws held at once: 8 MiB of float64.
_BLOCK = 1 << 20


class NoiseFloor(NamedTuple):
    """What a perfectly calibrated classifier shows of some calibration error by chance.

    Attributes:
        mean: its mean.
        low: its 2.5 % quantile.
        high: its 97.5 % quantile; between the two lie 95 %.
        values: float64 (resamples,), the draws.
    """

    mean: float
    low: float
    high: float
    values: Floats

    @property
    def band(self) -> tuple[float, float]:
        return self.low, self.high


def ece_noise_floor(
    confidence: NDArray, bins: int = 15, resamples: int = 1000, *, rng: np.random.Generator
) -> NoiseFloor:
    """The ECE of a perfectly calibrated model with these confidences: each example is right with its own confidence.

    Arguments, errors and papers as in :func:`noise_floors`.
    """
    return noise_floors(confidence, bins, resamples, rng=rng)["ece"]


def noise_floors(
    confidence: NDArray, bins: int = 15, resamples: int = 1000, *, rng: np.random.Generator
) -> dict[str, NoiseFloor]:
    """What a perfectly calibrated model with these confidences shows: each example is right with its own confidence.

    Args:
        confidence: (N,) in [0, 1]; their order does not matter.
        bins: how many, of equal width, and for ``ece_mass`` of equal mass.
        resamples: how often the outcomes are drawn.
        rng: where the draws come from.

    Returns:
        By name: ``ece``, ``ece_mass``, ``rms_calibration_error`` and ``max_calibration_error``.

    Raises:
        UsageError: no examples, confidences outside [0, 1], no bins, no resamples.

    Consistency resampling: Bröcker and Smith, Weather and Forecasting 2007; Vaicenavicius et al., AISTATS 2019.
    """
    confidence = np.sort(checked_confidence(confidence))
    n = len(checked_weights(None, len(confidence)))
    _check_resamples(resamples)
    by_binning = {}
    for binning in ("width", "mass"):
        counts = prepared_bins(confidence, np.zeros(n), bins, binning)(None)[0]
        counts = counts[counts > 0]
        # Where the bins that hold an example begin.
        first = (np.cumsum(counts) - counts).astype(np.int64)
        by_binning[binning] = first, counts, np.add.reduceat(confidence, first)
    rows = max(1, _BLOCK // n)
    values = {
        name: np.empty(resamples) for name in ("ece", "rms_calibration_error", "max_calibration_error", "ece_mass")
    }
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        hits = rng.random((block.stop - start, n)) < confidence
        for binning, (first, counts, expected) in by_binning.items():
            surplus = np.abs(np.add.reduceat(hits, first, axis=1, dtype=np.int32) - expected)
            values["ece" if binning == "width" else "ece_mass"][block] = surplus.sum(axis=1) / n
            if binning == "width":
                values["rms_calibration_error"][block] = np.sqrt((surplus**2 / counts).sum(axis=1) / n)
                values["max_calibration_error"][block] = (surplus / counts).max(axis=1)
    return {name: _floor(drawn) for name, drawn in values.items()}


def class_noise_floors(
    probabilities: NDArray, bins: int = 15, resamples: int = 300, *, rng: np.random.Generator
) -> dict[str, NoiseFloor]:
    """As :func:`noise_floors`, of the figures over all classes: each label is drawn from its probabilities, (N, K).

    Returns:
        By name: ``class_wise_ece`` and ``brier_reliability``.
    """
    probabilities = checked_probabilities(probabilities)
    n, classes = probabilities.shape
    _check_resamples(resamples)
    sums = prepared_class_bins(probabilities, np.zeros(n, np.int64), bins)
    counts, expected, _ = sums(None)
    filled = np.where(counts > 0, counts, 1.0)
    width = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(width, probabilities, side="left") - 1, 0, bins - 1) + bins * np.arange(classes)
    # Every row's running sum in an interval of its own, so that one search finds all labels.
    running = (np.cumsum(probabilities, axis=1) / probabilities.sum(axis=1, keepdims=True)).clip(max=1.0)
    running[:, -1] = 1.0
    rows = np.arange(n)
    running = (running + rows[:, None]).ravel()
    values = np.empty((2, resamples))
    for number in range(resamples):
        label = np.searchsorted(running, rows + rng.random(n), side="right") - classes * rows
        hits = np.bincount(place[rows, label.clip(0, classes - 1)], minlength=classes * bins).reshape(classes, bins)
        surplus = np.abs(hits - expected)
        values[:, number] = surplus.sum() / (classes * n), (surplus**2 / filled).sum() / n
    return {name: _floor(drawn) for name, drawn in zip(("class_wise_ece", "brier_reliability"), values, strict=True)}


def _floor(values: Floats) -> NoiseFloor:
    low, high = np.quantile(values, [0.025, 0.975])
    return NoiseFloor(float(values.mean()), float(low), float(high), values)


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise UsageError(f"resamples: {resamples}; at least 1")


def calibration_p_value(found: float, floor: NoiseFloor) -> float:
    """How often chance gives a perfectly calibrated model an ECE of at least ``found``; in (0, 1].

    Below 0.05, say, the model is not calibrated. The count includes ``found`` itself, so that it is never 0, and the
    p-value of a calibrated model is uniform up to ties.

    Args:
        found: the ECE, in the bins of the noise floor.
        floor: from the confidences that ``found`` is the error of.

    Widmann, Lindsten and Zachariah, NeurIPS 2019, arXiv:1910.11385; Davison and Hinkley 1997 for the count.
    """
    # The draws add up in another order than the figure: what is equal may differ by rounding.
    return float((1 + (floor.values >= found - 1e-12).sum()) / (1 + len(floor.values)))
