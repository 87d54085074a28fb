"""Scores that need the answers of an ensemble's members.

Each takes logits, float (M, N, K), and gives float64 (N,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from hardy.ood.features import Features
from hardy.ood.logit_scores import Score, entropy
from hardy.ood.method import Doubles, Method


def disagreement(member_logits: NDArray) -> NDArray[np.float64]:
    """(N,): the variance of the members' probabilities, summed over the classes."""
    return np.exp(log_softmax(member_logits.astype(np.float64), axis=2)).var(axis=0).sum(axis=1)


def mutual_information(member_logits: NDArray) -> NDArray[np.float64]:
    """(N,): the mean divergence from the members' mean answer, in nats.

    It is the entropy of the mean less the mean of the entropies; as a divergence it is never below 0.
    """
    log_p = log_softmax(member_logits.astype(np.float64), axis=2)
    mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return np.maximum((np.exp(log_p) * (log_p - mean)).sum(axis=2).mean(axis=0), 0.0)


MEMBER_SCORES: dict[str, Score] = {"disagreement": disagreement, "mutual_information": mutual_information}


def _entropy_gap(_: object, features: Features) -> Doubles:
    return entropy(features.logits) - np.stack([entropy(member.logits) for member in features.members]).mean(axis=0)


_PAPER = "Lakshminarayanan et al., NeurIPS 2017, arXiv:1612.01474"
MUTUAL_INFORMATION = Method(
    "mutual_information", "how much the members of an ensemble disagree, in nats", _PAPER, _entropy_gap, needs="members"
)
DISAGREEMENT = Method(
    "disagreement",
    "the variance of the members' probabilities, summed over the classes",
    _PAPER,
    lambda _, features: disagreement(features.member_logits),
    needs="members",
    of_mistakes=True,
)
