"""The ways to score that need training images alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from hardy.ood import feature_scores, layer_scores
from hardy.ood.features import Features
from hardy.ood.gaussians import Arrays, Doubles
from hardy.ood.logit_scores import SCORES, energy, entropy, max_logit

Need = Literal["logits", "penultimate", "layers", "members"]


class Method(NamedTuple):
    """A way to score, as a registry holds it.

    Attributes:
        title: in words, with the paper.
        score: from the fitted arrays and features to float64 (N,).
        fit: from the features and labels of training images to arrays; None where there is nothing to fit.
        needs: what the features must hold besides logits.
    """

    title: str
    score: Callable[[Arrays, Features], Doubles]
    fit: Callable[[Features, NDArray[np.int64]], Arrays] | None = None
    needs: Need = "logits"


def _mean_logits(features: Features) -> NDArray[np.float32]:
    return np.mean([member.logits for member in features.members], axis=0)


def _fit_kl_matching(features: Features, labels: NDArray[np.int64]) -> Arrays:
    """``templates``, float64 (K', K): the log of the mean probabilities of each class's images."""
    probabilities = np.exp(log_softmax(features.logits.astype(np.float64), axis=1))
    templates = np.stack([probabilities[labels == label].mean(axis=0) for label in np.unique(labels)])
    return {"templates": np.log(np.maximum(templates, np.finfo(np.float64).tiny))}


def _score_kl_matching(arrays: Arrays, features: Features) -> Doubles:
    log_p = log_softmax(features.logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    return np.min([(p * (log_p - template)).sum(axis=1) for template in arrays["templates"]], axis=0)


def _mutual_information(_: Arrays, features: Features) -> Doubles:
    return entropy(features.logits) - np.mean([entropy(member.logits) for member in features.members], axis=0)


def _per_member(method: Method) -> Method:
    """The method fitted to each member alone; the score is the mean of theirs."""
    fit = method.fit
    assert fit is not None

    def fit_each(features: Features, labels: NDArray[np.int64]) -> Arrays:
        return {
            f"{number}.{key}": array
            for number in range(len(features.members))
            for key, array in fit(features.of_member(number), labels).items()
        }

    def score_each(arrays: Arrays, features: Features) -> Doubles:
        parts = [
            {key.removeprefix(f"{number}."): array for key, array in arrays.items() if key.startswith(f"{number}.")}
            for number in range(len(features.members))
        ]
        return np.mean([method.score(part, features.of_member(number)) for number, part in enumerate(parts)], axis=0)

    return Method(f"{method.title}; the mean over the members' own", score_each, fit_each, "members")


def _of_logits(name: str) -> Method:
    # The logits of an ensemble are log probabilities: their energy is always 0, and their size says only what the
    # softmax says. These two scores look at how large logits are, so they take the mean of the members' logits.
    logits = _mean_logits if SCORES[name] in (energy, max_logit) else lambda features: features.logits
    title = (SCORES[name].__doc__ or "").split("\n")[0].removeprefix("(N,): ")
    return Method(title, lambda _, features: SCORES[name](logits(features)))


_VIM = Method(
    "virtual-logit matching (Wang et al., CVPR 2022, arXiv:2203.10807)",
    feature_scores.score_vim,
    feature_scores.fit_vim,
    "penultimate",
)

METHODS: dict[str, Method] = {
    **{name: _of_logits(name) for name in SCORES},
    "kl_matching": Method(
        "KL divergence to the nearest class's mean answer (Hendrycks et al., ICML 2022, arXiv:1911.11132)",
        _score_kl_matching,
        _fit_kl_matching,
    ),
    "mutual_information": Method(
        "how much the members of an ensemble disagree (Lakshminarayanan et al., NeurIPS 2017, arXiv:1612.01474)",
        _mutual_information,
        needs="members",
    ),
    "react": Method(
        "energy after clipping the features (Sun, Guo and Li, NeurIPS 2021, arXiv:2111.12797)",
        feature_scores.score_react,
        feature_scores.fit_react,
        "penultimate",
    ),
    "mahalanobis": Method(
        "distance to the nearest class mean (Lee et al., NeurIPS 2018, arXiv:1807.03888)",
        feature_scores.score_mahalanobis,
        feature_scores.fit_mahalanobis,
        "penultimate",
    ),
    "relative_mahalanobis": Method(
        "the same, less the distance to the common mean (Ren et al. 2021, arXiv:2106.09022)",
        feature_scores.score_relative_mahalanobis,
        feature_scores.fit_mahalanobis,
        "penultimate",
    ),
    "nearest_neighbours": Method(
        "distance to the tenth nearest training image (Sun et al., ICML 2022, arXiv:2204.06507)",
        feature_scores.score_neighbours,
        feature_scores.fit_neighbours,
        "penultimate",
    ),
    "vim": _VIM,
    "vim_per_member": _per_member(_VIM),
    "layers": Method(
        "distances to the nearest class mean in all layers, after Lee et al. (arXiv:1807.03888)",
        layer_scores.score_layers,
        layer_scores.fit_layers,
        "layers",
    ),
}
