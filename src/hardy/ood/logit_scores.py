"""Scores that need nothing but logits.

Each takes logits, float (N, K), K at least 2, and gives float64 (N,). Logits are sorted first: the score of an answer
does not depend, by rounding, on which class it names. What a probability would round away is kept by its logarithm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.method import Method

Score = Callable[[NDArray], NDArray]

GEN_GAMMA = 0.1
"""The paper's exponent, for every dataset there. What is there the top 100 of 1,000 classes is here all of them."""


def max_softmax(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the log of the largest probability.

    The logarithm keeps the order of one minus the probability and tells apart what float64 would round to a probability
    of 1; so it is taken of the other classes' share.
    """
    return np.log1p(np.exp(_below_the_largest(logits)[:, :-1]).sum(axis=1))


def max_logit(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the largest logit."""
    return -logits.astype(np.float64).max(axis=1)


def margin(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the largest logit's lead over the second: the log of the odds between the two likeliest classes."""
    return _below_the_largest(logits)[:, -2]


def entropy(logits: NDArray) -> NDArray[np.float64]:
    """(N,): the entropy of the probabilities, in nats, from 0 to log K."""
    below = _below_the_largest(logits)
    odds = np.exp(below)
    return np.log1p(odds[:, :-1].sum(axis=1)) - (odds * below).sum(axis=1) / odds.sum(axis=1)


def energy(logits: NDArray) -> NDArray[np.float64]:
    """(N,): the free energy, minus the log of the summed exponentials."""
    return max_logit(logits) - max_softmax(logits)


def uniform_cross_entropy(logits: NDArray) -> NDArray[np.float64]:
    """(N,): minus the cross-entropy from the uniform distribution to the probabilities; at most -log K.

    The smaller the cross-entropy, the nearer the answer is to no answer.
    """
    return _below_the_largest(logits).mean(axis=1) - max_softmax(logits)


def generalized_entropy(logits: NDArray) -> NDArray[np.float64]:
    """(N,): GEN, the sum of (p(1-p))^0.1 over classes."""
    below = _below_the_largest(logits)
    log_p = below - max_softmax(logits)[:, None]
    # One minus the largest probability is the share of the others; of 1 - p itself rounding would leave nothing.
    others = log_p[:, :-1]
    log_rest = np.column_stack([np.log1p(-np.exp(others)), -energy(others)])
    return np.exp(GEN_GAMMA * (log_p + log_rest)).sum(axis=1)


def _below_the_largest(logits: NDArray) -> NDArray[np.float64]:
    """(N, K): each logit less the largest, ascending; the last is 0."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return ordered - ordered[:, -1:]


_PAPERS: dict[Score, str] = {
    max_softmax: "Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136",
    max_logit: "Hendrycks et al., ICML 2022, arXiv:1911.11132",
    margin: "",
    entropy: "",
    energy: "Liu et al., NeurIPS 2020, arXiv:2010.03759",
    uniform_cross_entropy: "outlier exposure's score, Hendrycks et al., ICLR 2019, arXiv:1812.04606",
    generalized_entropy: "Liu, Lochman and Zach, CVPR 2023",
}
SCORES: dict[str, Score] = {score.__name__: score for score in _PAPERS}


def _method(score: Score, paper: str) -> Method:
    # The logits of an ensemble are log probabilities: their energy is always 0, and their size says only what the
    # softmax says. These two scores look at how large logits are, so they take the mean of the members' logits.
    def scored(_: object, features: Features) -> NDArray[np.float64]:
        return score(features.mean_logits if score in (energy, max_logit) else features.logits)

    title = (score.__doc__ or "").split("\n")[0].removeprefix("(N,): ").removesuffix(".")
    return Method(score.__name__, title, paper, scored)


LOGIT_METHODS = tuple(_method(score, paper) for score, paper in _PAPERS.items())
