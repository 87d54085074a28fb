"""Proper scores: best in the mean for a model that states the true probabilities. They reward sharpness as well."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.metrics._arrays import Floats, checked_labels, checked_probabilities, weighted_mean


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
    error = checked_probabilities(probabilities).copy()
    error[np.arange(len(error)), checked_labels(labels, *error.shape)] -= 1.0
    return weighted_mean(np.einsum("nk,nk->n", error, error), weights=weights)
