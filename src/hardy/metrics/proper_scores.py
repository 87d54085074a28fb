"""Proper scores: best in the mean for a model that states the true probabilities. They reward sharpness as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.metrics._arrays import Floats, checked_labels, checked_probabilities, weighted_mean
from hardy.metrics._bins import prepared_class_bins


class BrierParts(NamedTuple):
    """The Brier score as reliability - resolution + uncertainty + within.

    Attributes:
        reliability: squared gaps between probability and frequency in bins; 0 is calibrated, lower is better.
        resolution: squared gaps between the bins' frequencies and the classes' own; higher is better.
        uncertainty: what the classes' frequencies alone leave open; no merit of the model.
        within: what bins hide, variance of probabilities within them less twice their covariance with the outcome.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def nll(log_probabilities: NDArray, labels: NDArray, *, weights: Floats | None = None) -> float:
    """Negative log-likelihood in nats, from 0 up: the mean of -log p(label); infinite where some p(label) is 0.

    Args:
        log_probabilities: (N, K), natural logarithms of rows with sum 1; -inf is the logarithm of 0.
        labels: integers (N,), from 0 to K-1.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, logits instead of log-probabilities, labels outside the classes.
    """
    log_probabilities = np.asarray(log_probabilities, dtype=np.float64)
    # Logits may be large; beyond 1 no exponential is needed to see that they are no log-probabilities.
    probabilities = checked_probabilities(np.exp(np.minimum(log_probabilities, 1.0)), "log_probabilities")
    labels = checked_labels(labels, *probabilities.shape)
    return weighted_mean(-log_probabilities[np.arange(len(labels)), labels], weights=weights)


def brier(probabilities: NDArray, labels: NDArray, *, weights: Floats | None = None) -> float:
    """Brier score in [0, 2]: the mean over examples of the squared error summed over the classes.

    Args:
        probabilities: (N, K), rows with sum 1.
        labels: integers (N,), from 0 to K-1.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: no examples or no weight, rows that are no distributions, labels outside the classes.

    Brier, Monthly Weather Review 1950: the original form, twice the binary one where K = 2.
    """
    return weighted_mean(_squares(probabilities, labels), weights=weights)


def brier_parts(
    probabilities: NDArray, labels: NDArray, bins: int = 15, *, weights: Floats | None = None
) -> BrierParts:
    """The parts that the Brier score is the sum of: each class against the rest, in bins of equal width, summed.

    Args:
        probabilities: (N, K), rows with sum 1.
        labels: integers (N,), from 0 to K-1.
        bins: how many.
        weights: float64 (N,), how often each example counts.

    Raises:
        UsageError: as :func:`brier`; no bins.

    Murphy, Journal of Applied Meteorology 1973; the parts within bins, Stephenson, Coelho and Jolliffe, Weather and
    Forecasting 2008.
    """
    return prepared_brier_parts(probabilities, labels, bins)(weights)


def prepared_brier_parts(
    probabilities: NDArray, labels: NDArray, bins: int = 15
) -> Callable[[Floats | None], BrierParts]:
    """:func:`brier_parts` as a function of weights, float64 (N,)."""
    sums = prepared_class_bins(probabilities, labels, bins)
    squares = _squares(probabilities, labels)

    def parts(weights: Floats | None) -> BrierParts:
        counts, summed, hits = sums(weights)
        total = counts[0].sum()
        share = hits.sum(axis=1, keepdims=True) / total
        filled = np.where(counts > 0, counts, 1.0)
        frequency = hits / filled
        reliability = float(((summed - hits) ** 2 / filled).sum() / total)
        resolution = float((counts * (frequency - share) ** 2).sum() / total)
        uncertainty = float((share * (1.0 - share)).sum())
        whole = weighted_mean(squares, weights=weights)
        return BrierParts(reliability, resolution, uncertainty, whole - (reliability - resolution + uncertainty))

    return parts


def _squares(probabilities: NDArray, labels: NDArray) -> Floats:
    """Each example's squared error, summed over the classes."""
    error = checked_probabilities(probabilities).copy()
    error[np.arange(len(error)), checked_labels(labels, *error.shape)] -= 1.0
    return np.einsum("nk,nk->n", error, error)
