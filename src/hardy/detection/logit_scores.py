"""Scores that need nothing but logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray], NDArray]


def max_softmax(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the log of the largest probability (Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136).

    The logarithm keeps the order of one minus the probability and tells apart what float64 would round to a probability
    of 1; so it is taken of the other classes' share, in an order that does not depend on which class is the largest.
    """
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return np.log1p(np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1))


def max_logit(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the largest logit (Hendrycks et al., ICML 2022, arXiv:1911.11132)."""
    return -logits.astype(np.float64).max(axis=1)


SCORES: dict[str, Score] = {"max_softmax": max_softmax, "max_logit": max_logit}
