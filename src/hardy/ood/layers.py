"""A score from all layers: whether the convolutions' statistics and the features are those of some class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features
from hardy.ood.mahalanobis import fit_gaussians, mahalanobis
from hardy.ood.method import Arrays, Doubles, Method

# A layer that says the same of all images says nothing.
_LEAST_DEVIATION = 1e-6


def _fit(features: Features, labels: NDArray[np.int64]) -> Arrays:
    """Per layer of each member one set of Gaussians, and the ``mean`` and ``deviation`` of its log distance."""
    arrays: Arrays = {}
    for name, values in _layers(features):
        fitted = fit_gaussians(values, labels)
        distances = _log_distance(fitted, values)
        fitted |= {"mean": np.array(distances.mean()), "deviation": np.array(max(distances.std(), _LEAST_DEVIATION))}
        arrays |= {f"{name}.{key}": array for key, array in fitted.items()}
    return arrays


def _score(arrays: Arrays, features: Features) -> Doubles:
    """The mean over layers of the standardized log distance."""
    parts = [_standardized(_part(arrays, name), values) for name, values in _layers(features)]
    return np.stack(parts).mean(axis=0)


def _layers(features: Features) -> Iterator[tuple[str, NDArray]]:
    for number, member in enumerate(features.members):
        for depth, values in enumerate(member.layers):
            yield f"{number}.{depth}", values
        if member.penultimate is not None:
            yield f"{number}.penultimate", member.penultimate


def _part(arrays: Arrays, name: str) -> Arrays:
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def _standardized(fitted: Arrays, values: NDArray) -> Doubles:
    return (_log_distance(fitted, values) - fitted["mean"]) / fitted["deviation"]


def _log_distance(fitted: Arrays, values: NDArray) -> Doubles:
    return np.log1p(mahalanobis(fitted, values))


LAYERS = Method(
    "layers",
    "distances to the nearest class mean in all layers",
    "after Lee et al., NeurIPS 2018, arXiv:1807.03888",
    _score,
    _fit,
    needs="layers",
    fitted_on="training images",
)
