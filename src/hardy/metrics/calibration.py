"""Calibration: does a confidence of 90 % mean right in 90 % of cases?

All work on the confidence in the predicted class, and compare, bin by bin, mean confidence with accuracy. Bins of equal
width are (i/B, (i+1)/B], compared in float64; a confidence of 0 belongs to the first. An error of this kind is biased
upwards, as chance alone makes the two differ: :func:`ece_noise_floor` says by how much.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import (
    Flags,
    Floats,
    checked_confidence,
    checked_flags,
    checked_labels,
    checked_probabilities,
    checked_weights,
    group_sums,
)

# Bernoulli draws held at once by the noise floor: 8 MiB of float64.
_BLOCK = 1 << 20


class Reliability(NamedTuple):
    """What a reliability diagram shows.

    Attributes:
        counts: float64 (B,), the weight in each bin.
        confidence: float64 (B,), mean confidence; NaN where a bin is empty.
        accuracy: float64 (B,), share of correct predictions; NaN where a bin is empty.
        edges: float64 (B+1,), from 0 to 1; bin i is (edges[i], edges[i+1]], and the first one holds 0 too.
    """

    counts: Floats
    confidence: Floats
    accuracy: Floats
    edges: Floats


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


def confidence_and_correct(probabilities: NDArray, labels: NDArray) -> tuple[Floats, Flags]:
    """The probability of the predicted class, and whether that class is right.

    Args:
        probabilities: (N, K), rows with sum 1; of equal ones the first class is predicted.
        labels: integers (N,), from 0 to K-1.

    Returns:
        float64 (N,) in [0, 1] and bool (N,).

    Raises:
        UsageError: rows that are no distributions, labels outside the classes.
    """
    probabilities = checked_probabilities(probabilities)
    labels = checked_labels(labels, *probabilities.shape)
    predicted = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(labels)), predicted], predicted == labels


def reliability(
    confidence: NDArray,
    correct: NDArray,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    *,
    weights: Floats | None = None,
) -> Reliability:
    """Confidence and accuracy, bin by bin.

    Args:
        confidence: (N,) in [0, 1].
        correct: bool (N,).
        bins: how many.
        binning: ``width`` for equal widths; ``mass`` for edges at the quantiles of the confidences, so that bins hold
            about equally many examples. Equal confidences share a bin, so ties may leave bins uneven or empty.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, confidences outside [0, 1], no bins.
    """
    confidence, correct, weights = _checked(confidence, correct, weights)
    edges = _equal_width(bins) if binning == "width" else _equal_mass(confidence, weights, bins)
    counts, confidences, hits = _bin_sums(confidence, correct, weights, edges)
    empty = counts == 0
    filled = np.where(empty, 1.0, counts)
    return Reliability(
        counts, np.where(empty, np.nan, confidences / filled), np.where(empty, np.nan, hits / filled), edges
    )


def ece(confidence: NDArray, correct: NDArray, bins: int = 15, *, weights: Floats | None = None) -> float:
    """Expected calibration error in [0, 1]: the mean over examples of their bin's |accuracy - confidence|.

    Args:
        confidence: (N,) in [0, 1].
        correct: bool (N,).
        bins: how many, of equal width.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, confidences outside [0, 1], no bins.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017.
    """
    counts, gaps = _gaps(confidence, correct, bins, weights)
    return float(counts @ gaps / counts.sum())


def rms_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, *, weights: Floats | None = None
) -> float:
    """As :func:`ece`, but the root of the mean square (Hendrycks et al., ICLR 2019)."""
    counts, gaps = _gaps(confidence, correct, bins, weights)
    return float(np.sqrt(counts @ gaps**2 / counts.sum()))


def max_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, *, weights: Floats | None = None
) -> float:
    """As :func:`ece`, but the largest gap of all bins that hold an example (Naeini et al., AAAI 2015)."""
    _, gaps = _gaps(confidence, correct, bins, weights)
    return float(gaps.max())


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
    _, first = np.unique(_place(confidence, _equal_width(bins)), return_index=True)
    expected = np.add.reduceat(confidence, first)
    rows = max(1, _BLOCK // n)
    values = np.empty(resamples)
    for start in range(0, resamples, rows):
        block = values[start : start + rows]
        hits = rng.random((len(block), n)) < confidence
        block[:] = np.abs(np.add.reduceat(hits, first, axis=1, dtype=np.int32) - expected).sum(axis=1) / n
    low, high = np.quantile(values, [0.05, 0.95])
    return NoiseFloor(float(values.mean()), float(low), float(high), values)


def _checked(confidence: NDArray, correct: NDArray, weights: NDArray | None) -> tuple[Floats, Flags, Floats]:
    confidence = checked_confidence(confidence)
    return confidence, checked_flags(correct, len(confidence), "correct"), checked_weights(weights, len(confidence))


def _gaps(confidence: NDArray, correct: NDArray, bins: int, weights: Floats | None) -> tuple[Floats, Floats]:
    confidence, correct, weights = _checked(confidence, correct, weights)
    counts, confidences, hits = _bin_sums(confidence, correct, weights, _equal_width(bins))
    filled = counts > 0
    return counts[filled], np.abs(hits - confidences)[filled] / counts[filled]


def _bin_sums(confidence: Floats, correct: Flags, weights: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
    place, bins = _place(confidence, edges), len(edges) - 1
    return (
        group_sums(place, weights, bins),
        group_sums(place, weights * confidence, bins),
        group_sums(place, weights * correct, bins),
    )


def _place(confidence: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def _equal_width(bins: int) -> Floats:
    if bins < 1:
        raise UsageError(f"bins: {bins}; at least 1")
    # i/B rounded once; linspace multiplies a rounded step, so that its edge for 3/10 is not 0.3.
    return np.arange(bins + 1) / bins


def _equal_mass(confidence: Floats, weights: Floats, bins: int) -> Floats:
    shares = _equal_width(bins)
    order = np.argsort(confidence)
    cumulative = np.cumsum(weights[order])
    # Compared as B·mass with i·total, which is exact for counts.
    last = np.searchsorted(bins * cumulative, np.arange(1, bins) * cumulative[-1], side="left")
    return np.concatenate([shares[:1], confidence[order[last]], shares[-1:]])
