"""ViM: how much of the features lies outside the directions in which training features vary, as one more logit.

Of an ensemble there are two forms: the members taken together as one wide network, and the mean of the members' own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.logit_scores import energy
from hardy.ood.mahalanobis import EXACT_BELOW, WIDE_AXES, principal_axes
from hardy.ood.method import Arrays, Doubles, Method

_LEAST_RESIDUAL = 1e-6


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:  # noqa: ARG001
    """``origin`` (D,), ``axes`` (D', D), ``alpha`` (), and the head.

    The origin is where the head answers 0; half of the dimensions are principal, as in the paper for narrow features.
    """
    values, head = features.joint()
    weight, bias = head.weight.astype(np.float64), head.bias.astype(np.float64)
    origin = -np.linalg.pinv(weight) @ bias
    dimensions = values.shape[1]
    count = dimensions // 2 if dimensions <= EXACT_BELOW else WIDE_AXES
    arrays = {"origin": origin, "axes": principal_axes(values - origin.astype(np.float32), count)}
    logits = values @ weight.T + bias
    # Features that lie in their principal axes leave nothing but rounding.
    least = _LEAST_RESIDUAL * np.linalg.norm(values - origin, axis=1).mean()
    return arrays | {
        "alpha": np.array(logits.max(axis=1).mean() / max(_residual(arrays, values).mean(), least)),
        "weight": weight,
        "bias": bias,
    }


def _score(arrays: Arrays, features: Features) -> Doubles:
    """The virtual logit, alpha times what the principal axes leave of the features, less the energy of the others.

    It orders inputs as the virtual logit's probability does.
    """
    values = features.joint()[0]
    logits = values @ arrays["weight"].T + arrays["bias"]
    return arrays["alpha"] * _residual(arrays, values) + energy(logits)


def _residual(arrays: Arrays, values: NDArray) -> Doubles:
    centered = values - arrays["origin"]
    return np.linalg.norm(centered - (centered @ arrays["axes"].T) @ arrays["axes"], axis=1)


def _fit_each(features: Features, labels: NDArray[np.int64]) -> Arrays:
    return {
        f"{number}.{key}": array
        for number in range(len(features.members))
        for key, array in _fit(features.of_member(number), labels).items()
    }


def _score_each(arrays: Arrays, features: Features) -> Doubles:
    parts = [
        {key.removeprefix(f"{number}."): array for key, array in arrays.items() if key.startswith(f"{number}.")}
        for number in range(len(features.members))
    ]
    return np.stack([_score(part, features.of_member(number)) for number, part in enumerate(parts)]).mean(axis=0)


_PAPER = "Wang et al., CVPR 2022, arXiv:2203.10807"
VIM = Method("vim", "virtual-logit matching", _PAPER, _score, _fit, needs="penultimate", fitted_on="training images")
VIM_PER_MEMBER = Method(
    "vim_per_member",
    "virtual-logit matching of each member, averaged",
    _PAPER,
    _score_each,
    _fit_each,
    needs="members",
    fitted_on="training images",
)
