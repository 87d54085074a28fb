"""Calibration: does a confidence of 90 % mean right in 90 % of cases?

All work on the confidence in the predicted class, and compare, bin by bin, mean confidence with accuracy. Bins of equal
width are (i/B, (i+1)/B], compared in float64; a confidence of 0 belongs to the first. An error of this kind is biased
upwards, as chance alone makes the two differ: :func:`~hardy.metrics.ece_noise_floor` says by how much.
The ``prepared_…`` functions sort once and return the figure as a function of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.metrics._arrays import Figure, Flags, Floats, checked_labels, checked_probabilities
from hardy.metrics._bins import Binning, prepared_bins, prepared_class_bins


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
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
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
    counts, confidences, hits, edges = prepared_bins(confidence, correct, bins, binning)(weights)
    empty = counts == 0
    filled = np.where(empty, 1.0, counts)
    return Reliability(
        counts, np.where(empty, np.nan, confidences / filled), np.where(empty, np.nan, hits / filled), edges
    )


def ece(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
) -> float:
    """Expected calibration error in [0, 1]: the mean over examples of their bin's |accuracy - confidence|.

    Arguments and errors as in :func:`reliability`.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017; with bins of equal mass Nguyen and O'Connor, EMNLP 2015.
    """
    return prepared_ece(confidence, correct, bins, binning)(weights)


def rms_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
) -> float:
    """As :func:`ece`, but the root of the mean square (Hendrycks et al., ICLR 2019)."""
    return prepared_rms_calibration_error(confidence, correct, bins, binning)(weights)


def max_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
) -> float:
    """As :func:`ece`, but the largest gap of all bins that hold an example (Naeini et al., AAAI 2015)."""
    return prepared_max_calibration_error(confidence, correct, bins, binning)(weights)


def debiased_ece(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
) -> float:
    """:func:`ece` less what chance adds to it, in closed form; below 0 where the gaps are smaller than chance makes.

    What chance adds to a bin's gap g is the mean of |g + noise| less g, with normal noise of the variance that the
    bin's accuracy a has, a(1-a)/n. Kumar, Liang and Ma (NeurIPS 2019, arXiv:1909.10155) find that mean by drawing.
    """
    return prepared_debiased_ece(confidence, correct, bins, binning)(weights)


def debiased_squared_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width", *, weights: Floats | None = None
) -> float:
    """The mean over examples of their bin's squared gap, less a(1-a)/(n-1): unbiased, so below 0 at times.

    It is the reliability of the Brier score's decomposition without its bias (Bröcker, Climate Dynamics 2012; Ferro and
    Fricker, QJRMS 2012; Kumar, Liang and Ma, NeurIPS 2019). A bin of one example, which has no variance, counts as 0.
    """
    return prepared_debiased_squared_calibration_error(confidence, correct, bins, binning)(weights)


def class_wise_ece(probabilities: NDArray, labels: NDArray, bins: int = 15, *, weights: Floats | None = None) -> float:
    """The mean over classes of the ECE of that class's probability against whether it is the label.

    Args:
        probabilities: (N, K), rows with sum 1.
        labels: integers (N,), from 0 to K-1.
        bins: how many, of equal width.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, rows that are no distributions, labels outside the classes, no bins.

    Kull et al., NeurIPS 2019, arXiv:1910.12656; static calibration error in Nixon et al. 2019, arXiv:1904.01685.
    """
    return prepared_class_wise_ece(probabilities, labels, bins)(weights)


def prepared_ece(confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width") -> Figure:
    """:func:`ece` as a function of weights, float64 (N,)."""
    return _of_bins(lambda counts, gaps, _: counts @ gaps / counts.sum(), confidence, correct, bins, binning)


def prepared_rms_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width"
) -> Figure:
    """:func:`rms_calibration_error` as a function of weights, float64 (N,)."""
    return _of_bins(
        lambda counts, gaps, _: np.sqrt(counts @ gaps**2 / counts.sum()), confidence, correct, bins, binning
    )


def prepared_max_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width"
) -> Figure:
    """:func:`max_calibration_error` as a function of weights, float64 (N,)."""
    return _of_bins(lambda _, gaps, __: gaps.max(), confidence, correct, bins, binning)


def prepared_debiased_ece(confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width") -> Figure:
    """:func:`debiased_ece` as a function of weights, float64 (N,)."""
    from scipy.special import erf

    def figure(counts: Floats, gaps: Floats, accuracy: Floats) -> float:
        deviation = np.sqrt(accuracy * (1.0 - accuracy) / counts)
        ratio = np.divide(gaps, deviation, out=np.full_like(gaps, np.inf), where=deviation > 0)
        # The mean of a folded normal.
        folded = deviation * np.sqrt(2.0 / np.pi) * np.exp(-(ratio**2) / 2.0) + gaps * erf(ratio / np.sqrt(2.0))
        return counts @ (2.0 * gaps - folded) / counts.sum()

    return _of_bins(figure, confidence, correct, bins, binning)


def prepared_debiased_squared_calibration_error(
    confidence: NDArray, correct: NDArray, bins: int = 15, binning: Binning = "width"
) -> Figure:
    """:func:`debiased_squared_calibration_error` as a function of weights, float64 (N,)."""

    def figure(counts: Floats, gaps: Floats, accuracy: Floats) -> float:
        several = counts > 1
        n, gaps, accuracy = counts[several], gaps[several], accuracy[several]
        return n @ (gaps**2 - accuracy * (1.0 - accuracy) / (n - 1.0)) / counts.sum()

    return _of_bins(figure, confidence, correct, bins, binning)


def prepared_class_wise_ece(probabilities: NDArray, labels: NDArray, bins: int = 15) -> Figure:
    """:func:`class_wise_ece` as a function of weights, float64 (N,)."""
    sums = prepared_class_bins(probabilities, labels, bins)

    def figure(weights: Floats | None) -> float:
        counts, confidences, hits = sums(weights)
        return float(np.abs(hits - confidences).sum() / counts.sum())

    return figure


def _of_bins(
    figure: Callable[[Floats, Floats, Floats], float],
    confidence: NDArray,
    correct: NDArray,
    bins: int,
    binning: Binning,
) -> Figure:
    """From weights to a figure of the bins that hold an example: their weight, gap and accuracy."""
    prepared = prepared_bins(confidence, correct, bins, binning)

    def of_weights(weights: Floats | None) -> float:
        counts, confidences, hits, _ = prepared(weights)
        filled = counts > 0
        counts, confidences, hits = counts[filled], confidences[filled], hits[filled]
        return float(figure(counts, np.abs(hits - confidences) / counts, hits / counts))

    return of_weights
