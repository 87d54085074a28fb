"""What chance alone makes of the calibration error of a perfectly calibrated classifier."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import Floats, checked_confidence, checked_weights
from hardy.metrics.calibration import reliability

# Bernoulli draws held at once: 8 MiB of float64.
_BLOCK = 1 << 20


class NoiseFloor(NamedTuple):
    """The ECE that a perfectly calibrated model shows by chance.

    Attributes:
        mean: its mean.
        low: its 5 % quantile.
        high: its 95 % quantile; an ECE below this one tells nothing.
        values: float64 (resamples,), the draws.
    """

    mean: float
    low: float
    high: float
    values: Floats


def ece_noise_floor(
    confidence: NDArray, bins: int = 15, resamples: int = 1000, *, rng: np.random.Generator
) -> NoiseFloor:
    """The ECE of a perfectly calibrated model with these confidences: each example is right with its own confidence.

    Args:
        confidence: (N,) in [0, 1]; their order does not matter.
        bins: how many, of equal width.
        resamples: how often the outcomes are drawn.
        rng: where the draws come from.

    Raises:
        UsageError: no examples, confidences outside [0, 1], no bins, no resamples.

    Consistency resampling: Bröcker and Smith, Weather and Forecasting 2007; Vaicenavicius et al., AISTATS 2019.
    """
    confidence = np.sort(checked_confidence(confidence))
    n = len(checked_weights(None, len(confidence)))
    if resamples < 1:
        raise UsageError(f"resamples: {resamples}; at least 1")
    counts = reliability(confidence, np.zeros(n), bins).counts
    # Where the bins that hold an example begin.
    first = (np.cumsum(counts) - counts)[counts > 0].astype(np.int64)
    expected = np.add.reduceat(confidence, first)
    rows = max(1, _BLOCK // n)
    values = np.empty(resamples)
    for start in range(0, resamples, rows):
        block = values[start : start + rows]
        hits = rng.random((len(block), n)) < confidence
        block[:] = np.abs(np.add.reduceat(hits, first, axis=1, dtype=np.int32) - expected).sum(axis=1) / n
    low, high = np.quantile(values, [0.05, 0.95])
    return NoiseFloor(float(values.mean()), float(low), float(high), values)


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
