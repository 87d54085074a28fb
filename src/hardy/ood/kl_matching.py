"""KL matching: how far an answer is from what the classifier usually answers for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.logit_scores import energy
from hardy.ood.method import Arrays, Doubles, Method


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:
    """``templates``, float64 (K', K): the log of the mean probabilities of each class's images."""
    probabilities = np.exp(_log_softmax(features))
    templates = np.stack([probabilities[labels == label].mean(axis=0) for label in np.unique(labels)])
    return {"templates": np.log(np.maximum(templates, np.finfo(np.float64).tiny))}


def _score(arrays: Arrays, features: Features) -> Doubles:
    log_p = _log_softmax(features)
    p = np.exp(log_p)
    return np.stack([(p * (log_p - template)).sum(axis=1) for template in arrays["templates"]]).min(axis=0)


def _log_softmax(features: Features) -> Doubles:
    logits = features.logits.astype(np.float64)
    return logits + energy(logits)[:, None]


KL_MATCHING = Method(
    "kl_matching",
    "KL divergence to the nearest class's mean answer",
    "Hendrycks et al., ICML 2022, arXiv:1911.11132",
    _score,
    _fit,
    fitted_on="training images",
)
