"""Randomized smoothing: certificates in l2 for any classifier, from its answers under Gaussian noise.

Cohen, Rosenfeld and Kolter, ICML 2019, arXiv:1902.02918. The classifier that is certified is the smoothed one: it
answers what the given one answers most often under noise. A certificate fails with a probability that is stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.errors import UsageError
from hardy.models import as_images, device_of
from hardy.rng import derive
from hardy.validation import Classifier, Images, frozen_evaluation

Array: TypeAlias = Tensor | NDArray[Any]

# Where sampling may stop: after these shares of the samples, each with its part of the failure probability.
_STAGES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Smoothed:
    """What the smoothed classifier answers, and how far that holds.

    Attributes:
        prediction: int64 (N,); -1 where it abstains.
        radius: float64 (N,): in l2, within which the answer stays; 0 where it abstains.
        samples: int64 (N,): how many noisy images were classified.
        failure: the probability, per image, that a certificate is wrong, over the draws of the noise.
    """

    prediction: NDArray[np.int64]
    radius: NDArray[np.float64]
    samples: NDArray[np.int64]
    failure: float

    @property
    def abstentions(self) -> int:
        """How many images get no answer."""
        return int((self.prediction < 0).sum())

    def certified_accuracy(self, labels: Array, radius: float) -> float:
        """The share of images that are answered rightly within at least this radius; an abstention is none of them."""
        right = self.prediction == np.asarray(torch.as_tensor(labels).cpu())
        return float((right & (self.radius >= radius)).mean())


def smooth(
    model: nn.Module | Classifier,
    images: Array,
    *,
    sigma: float,
    samples: int = 10_000,
    selection: int = 100,
    failure: float = 0.001,
    radius: float | None = None,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
) -> Smoothed:
    """Certify a classifier that is smoothed by Gaussian noise; only its answers are used.

    Sampling stops before ``samples`` where ``radius`` is certified, and where it, or any answer, is out of reach.

    Args:
        model: from images to logits or any scores, the largest of which is the answer. It sees noisy images, whose
            values leave [0, 1]; it should have been trained on such.
        images: float32 (N, C, H, W) in [0, 1].
        sigma: standard deviation of the noise, in units of the pixel range.
        samples: noisy images at most, from which the probability of the answer is bounded.
        selection: noisy images by which the answer is chosen before.
        failure: the probability that a certificate is wrong.
        radius: that is asked about, in l2; None asks for the largest.
        seed: of the noise. What happens to an image depends on the seed and its index alone.
        indices: of the images; by default their positions.
        batch_size: noisy images at once.

    Raises:
        ContractError: images outside the contract.
        UsageError: a setting out of range.

    Example:
        >>> import hardy, torch
        >>> answers = lambda images: torch.stack([images.mean((1, 2, 3)), 0.5 + 0 * images.mean((1, 2, 3))], 1)
        >>> found = hardy.certification.smooth(answers, torch.full((1, 1, 4, 4), 0.9), sigma=0.25, samples=1000)
        >>> found.prediction, found.radius.round(1), found.abstentions
        (array([0]), array([0.6]), 0)
    """
    if not (sigma > 0 and samples >= 1 and selection >= 1 and 0 < failure < 1):
        raise UsageError(
            f"sigma {sigma}, samples {samples}, selection {selection}, failure {failure}: sigma is above 0, there is "
            "at least one sample of each kind, and failure is a probability"
        )
    if radius is not None and radius < 0:
        raise UsageError(f"radius {radius}: it is from 0 up")
    images = as_images(images, device_of(model) if isinstance(model, nn.Module) else "cpu")
    places = np.arange(len(images)) if indices is None else np.asarray(indices)
    rows = []
    for image, place in zip(images, places, strict=True):
        sampler = _Sampler(model, image, sigma, seed, int(place), batch_size)
        if isinstance(model, nn.Module):
            with frozen_evaluation(model):
                rows.append(_certify_one(sampler, sigma, samples, selection, failure, radius))
        else:
            rows.append(_certify_one(sampler, sigma, samples, selection, failure, radius))
    prediction, found, used = zip(*rows, strict=True)
    return Smoothed(np.array(prediction), np.array(found, dtype=np.float64), np.array(used), failure)


def lower_confidence(successes: int, n: int, failure: float) -> float:
    """The one-sided Clopper-Pearson bound: the share is above it with probability at least ``1 - failure``."""
    from scipy.special import betaincinv

    return float(betaincinv(successes, n - successes + 1, failure)) if successes else 0.0


def certified_radius(successes: int, n: int, failure: float, sigma: float) -> float:
    """The l2 radius that so many answers of ``n`` certify; 0 for none."""
    return _radius(lower_confidence(successes, n, failure), sigma)


def _radius(probability: float, sigma: float) -> float:
    return sigma * NormalDist().inv_cdf(min(probability, 1 - 1e-16)) if probability > 0.5 else 0.0


class _Sampler:
    """Counts the answers to one image under noise, which is drawn from where the last call stopped."""

    def __init__(
        self, classifier: Classifier, image: Tensor, sigma: float, seed: int, place: int, batch_size: int
    ) -> None:
        self._classifier, self._image, self._sigma, self._batch_size = classifier, image, sigma, batch_size
        self._noise = np.random.Generator(np.random.Philox(key=derive(seed, "smoothing"), counter=[0, 0, 0, place]))

    def answers(self, count: int) -> NDArray[np.int64]:
        """int64 (count,)."""
        found = []
        for start in range(0, count, self._batch_size):
            shape = (min(self._batch_size, count - start), *self._image.shape)
            noise = torch.from_numpy(self._noise.standard_normal(shape, dtype=np.float32)).to(self._image.device)
            with torch.no_grad():
                noisy: Images = self._image + self._sigma * noise
                found.append(self._classifier(noisy).argmax(1).cpu().numpy())
        return np.concatenate(found)


def _certify_one(
    sampler: _Sampler, sigma: float, samples: int, selection: int, failure: float, asked: float | None
) -> tuple[int, float, int]:
    answer = int(np.bincount(sampler.answers(selection)).argmax())
    stages = sorted({max(1, int(share * samples)) for share in _STAGES})
    # Any of the stages may be the last, so each gets its part: the union bound.
    part = failure / len(stages)
    hits = done = 0
    best = 0.0
    for stage in stages:
        hits += int((sampler.answers(stage - done) == answer).sum())
        done = stage
        best = max(best, certified_radius(hits, done, part, sigma))
        # To give up early costs answers, never a certificate.
        at_most = _radius(1 - lower_confidence(done - hits, done, part), sigma)
        if at_most <= (asked or 0.0) or (asked is not None and best >= asked):
            break
    return (answer, best, selection + done) if best > 0 else (-1, 0.0, selection + done)
