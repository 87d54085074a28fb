"""ReAct: the energy after activations are clipped, as unfamiliar inputs often have a few that are too large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.logit_scores import energy
from hardy.ood.method import Arrays, Doubles, Method

QUANTILE = 0.9


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:  # noqa: ARG001
    """``ceiling`` (), a quantile of all training activations, and the head."""
    values, head = features.joint()
    return {
        "ceiling": np.array(np.quantile(values, QUANTILE), np.float64),
        "weight": head.weight.astype(np.float64),
        "bias": head.bias.astype(np.float64),
    }


def _score(arrays: Arrays, features: Features) -> Doubles:
    clipped = np.minimum(features.joint()[0], arrays["ceiling"])
    return energy(clipped @ arrays["weight"].T + arrays["bias"])


REACT = Method(
    "react",
    "energy after clipping the features",
    "Sun, Guo and Li, NeurIPS 2021, arXiv:2111.12797",
    _score,
    _fit,
    needs="penultimate",
    fitted_on="training images",
)
