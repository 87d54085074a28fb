"""Mahalanobis distances: Gaussians fitted to features, and the axes along which features vary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardy.ood.method import Arrays, Doubles, Method

EXACT_BELOW = 1024
"""Features of more dimensions are reduced to their principal axes by a randomized singular value decomposition."""

WIDE_AXES = 256

# Directions in which the features hardly vary would give infinite distances.
_RIDGE, _LEAST_VARIANCE = 1e-6, 1e-12


def principal_axes(centered: NDArray, count: int) -> Doubles:
    """float64 (at most count, D): orthonormal directions of the largest mean square of (N, D), largest first.

    Exact up to ``EXACT_BELOW`` dimensions; beyond that randomized (Halko, Martinsson and Tropp, arXiv:0909.4061).
    """
    if centered.shape[1] <= EXACT_BELOW:
        values = centered.astype(np.float64)
        return np.ascontiguousarray(np.linalg.eigh(values.T @ values)[1][:, ::-1][:, :count].T)
    from sklearn.utils.extmath import randomized_svd

    return randomized_svd(centered, n_components=min(count, len(centered)), random_state=0)[2].astype(np.float64)


def fit_gaussians(values: NDArray, labels: NDArray[np.int64]) -> Arrays:
    """One Gaussian per class with a shared covariance, and one Gaussian for all, from (N, D).

    Returns:
        ``centre`` (D,), ``axes`` (D, D') only where D is too large to be taken as it is, ``means`` (K, D'),
        ``whitening`` and ``background`` (D', D'): maps after which the shared and the common covariance are the
        identity. Classes without examples have no mean.
    """
    centre = values.mean(axis=0, dtype=np.float64)
    arrays: Arrays = {"centre": centre}
    if values.shape[1] > EXACT_BELOW:
        arrays["axes"] = principal_axes(values - centre.astype(values.dtype), WIDE_AXES).T
    reduced = _reduced(arrays, values)
    means = np.stack([reduced[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = reduced - means[np.searchsorted(np.unique(labels), labels)]
    return arrays | {"means": means, "whitening": _whitening(within), "background": _whitening(reduced)}


def mahalanobis(arrays: Arrays, values: NDArray) -> Doubles:
    """(N,): the squared distance to the nearest class mean."""
    return _squared_distances(arrays, _reduced(arrays, values)).min(axis=1)


def relative_mahalanobis(arrays: Arrays, values: NDArray) -> Doubles:
    """(N,): the squared distance to the nearest class mean, less that to the common mean in the common covariance."""
    reduced = _reduced(arrays, values)
    background = ((reduced @ arrays["background"]) ** 2).sum(axis=1)
    return _squared_distances(arrays, reduced).min(axis=1) - background


def _reduced(arrays: Arrays, values: NDArray) -> Doubles:
    centered = values.astype(np.float64) - arrays["centre"]
    return centered @ arrays["axes"] if "axes" in arrays else centered


def _squared_distances(arrays: Arrays, reduced: Doubles) -> Doubles:
    white = reduced @ arrays["whitening"]
    return np.stack([((white - mean) ** 2).sum(axis=1) for mean in arrays["means"] @ arrays["whitening"]], axis=1)


def _whitening(centered: Doubles) -> Doubles:
    covariance = centered.T @ centered / len(centered)
    scale = np.trace(covariance) / len(covariance)
    ridge = max(_RIDGE * scale, _LEAST_VARIANCE)
    values, vectors = np.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
    return vectors / np.sqrt(values)


MAHALANOBIS = Method(
    "mahalanobis",
    "distance to the nearest class mean",
    "Lee et al., NeurIPS 2018, arXiv:1807.03888",
    lambda arrays, features: mahalanobis(arrays, features.joint()[0]),
    lambda features, labels: fit_gaussians(features.joint()[0], labels),
    needs="penultimate",
    fitted_on="training images",
)
RELATIVE_MAHALANOBIS = Method(
    "relative_mahalanobis",
    "distance to the nearest class mean, less the distance to the common mean",
    "Ren et al. 2021, arXiv:2106.09022",
    lambda arrays, features: relative_mahalanobis(arrays, features.joint()[0]),
    MAHALANOBIS.fit,
    needs="penultimate",
    fitted_on="training images",
)
