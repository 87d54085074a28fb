"""Bins of confidence: where they begin and end, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hardy.errors import UsageError
from hardy.metrics._arrays import (
    Floats,
    checked_confidence,
    checked_flags,
    checked_labels,
    checked_probabilities,
    checked_weights,
    group_sums,
)

Binning: TypeAlias = Literal["width", "mass"]


def prepared_bins(
    confidence: NDArray, correct: NDArray, bins: int, binning: Binning
) -> Callable[[Floats | None], tuple[Floats, Floats, Floats, Floats]]:
    """From weights to what each bin holds, and the edges: weight, summed confidence, right answers."""
    confidence = checked_confidence(confidence)
    correct = checked_flags(correct, len(confidence), "correct")
    order = np.argsort(confidence, kind="stable")
    confidence, correct = confidence[order], correct[order]
    width = _equal_width(bins)
    place = _place(confidence, width)

    def prepared(weights: Floats | None) -> tuple[Floats, Floats, Floats, Floats]:
        weights = checked_weights(weights, len(order))[order]
        edges = width if binning == "width" else _equal_mass(confidence, weights, bins)
        where = place if binning == "width" else _place(confidence, edges)
        return (
            group_sums(where, weights, bins),
            group_sums(where, weights * confidence, bins),
            group_sums(where, weights * correct, bins),
            edges,
        )

    return prepared


def prepared_class_bins(
    probabilities: NDArray, labels: NDArray, bins: int
) -> Callable[[Floats | None], tuple[Floats, Floats, Floats]]:
    """From weights to what the bins of each class's probability hold: weight, summed probability, hits; (K, bins)."""
    probabilities = checked_probabilities(probabilities)
    n, classes = probabilities.shape
    columns = probabilities.T.ravel()
    truth = (np.arange(classes)[:, None] == checked_labels(labels, n, classes)).ravel()
    place = _place(columns, _equal_width(bins)) + bins * np.arange(classes).repeat(n)

    def sums(weights: Floats | None) -> tuple[Floats, Floats, Floats]:
        weights = np.tile(checked_weights(weights, n), classes)
        counts, summed, hits = (
            group_sums(place, values, classes * bins).reshape(classes, bins)
            for values in (weights, weights * columns, weights * truth)
        )
        return counts, summed, hits

    return sums


def _place(confidence: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def _equal_width(bins: int) -> Floats:
    if bins < 1:
        raise UsageError(f"bins: {bins}; at least 1")
    # i/B rounded once; linspace multiplies a rounded step, so that its edge for 3/10 is not 0.3.
    return np.arange(bins + 1) / bins


def _equal_mass(confidence: Floats, weights: Floats, bins: int) -> Floats:
    """Edges at the quantiles of ascending confidences."""
    shares = _equal_width(bins)
    cumulative = np.cumsum(weights)
    # Compared as B·mass with i·total, which is exact for counts.
    last = np.searchsorted(bins * cumulative, np.arange(1, bins) * cumulative[-1], side="left")
    return np.concatenate([shares[:1], confidence[last], shares[-1:]])
