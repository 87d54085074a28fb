"""ODIN: a temperature, and a small step that makes the answer more confident (Liang, Li and Srikant, ICLR 2018).

Such a step helps images of the training distribution more than others. It needs the classifier and its gradients, so it
is no function of features and has its own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.attacks.attack import value_and_gradient
from hardy.metrics import auroc
from hardy.models import predict_logits
from hardy.ood.logit_scores import max_softmax
from hardy.ood.method import Arrays, Doubles, Method
from hardy.validation import Images, Labels, Logits


class OdinSetting(NamedTuple):
    """``temperature``, which divides the logits, and ``eps``, the length of the step in linf, in pixels of [0, 1]."""

    temperature: float
    eps: float


TEMPERATURES = (0.33, 1.0, 10.0, 1000.0)
EPS = (0.0, 0.03, 0.1, 0.2)
GRID = tuple(OdinSetting(temperature, eps) for temperature in TEMPERATURES for eps in EPS)


def log_odds(logits: Logits, labels: Labels) -> Tensor:
    """(N,): the log of the odds of these classes. It keeps its gradient where the probability rounds to 1."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return logits.gather(1, labels[:, None]).squeeze(1) - others.logsumexp(1)


def odin_perturb(classifier: nn.Module, images: Images, setting: OdinSetting) -> Images:
    """The images after a step of ``eps`` along the sign of the gradient of the top class's log odds.

    float32 (N, C, H, W), clipped to [0, 1]. The odds rise with the probability that the paper climbs.
    """
    return images if setting.eps == 0.0 else _moved(images, _uphill(classifier, images, setting.temperature), setting)


def _uphill(classifier: nn.Module, images: Images, temperature: float) -> Images:
    """The sign of that gradient, which is the same for every ``eps``."""
    with torch.no_grad():
        top = classifier(images).argmax(1)
    _, gradient = value_and_gradient(
        classifier, images, top, lambda logits, labels: log_odds(logits / temperature, labels)
    )
    return gradient.sign()


def _moved(images: Images, uphill: Images, setting: OdinSetting) -> Images:
    return (images + setting.eps * uphill).clamp(0.0, 1.0)


def odin_scores(
    classifier: nn.Module, images: Images, setting: OdinSetting, batch_size: int = 500
) -> NDArray[np.float64]:
    """float64 (N,): max softmax at the temperature, of the images after the step; higher is more suspicious."""
    return odin_grid_scores(classifier, images, [setting], batch_size)[setting]


def odin_grid_scores(
    classifier: nn.Module, images: Images, grid: Sequence[OdinSetting] = GRID, batch_size: int = 500
) -> dict[OdinSetting, NDArray[np.float64]]:
    """:func:`odin_scores` per setting, with one gradient per temperature and one answer to images that stay."""
    batches = images.split(batch_size)
    uphill = {
        temperature: [_uphill(classifier, batch, temperature) for batch in batches]
        for temperature in dict.fromkeys(it.temperature for it in grid if it.eps)
    }

    def logits(setting: OdinSetting) -> NDArray[np.float64]:
        moved = images
        if setting.eps:
            directions = uphill[setting.temperature]
            moved = torch.cat([_moved(*pair, setting) for pair in zip(batches, directions, strict=True)])
        return predict_logits(classifier, moved, batch_size).double().cpu().numpy()

    still = logits(OdinSetting(1.0, 0.0)) if any(not it.eps for it in grid) else None
    return {it: max_softmax((logits(it) if it.eps or still is None else still) / it.temperature) for it in grid}


def choose_odin(
    classifier: nn.Module,
    validation: Images,
    outliers: Images,
    grid: Sequence[OdinSetting] = GRID,
    batch_size: int = 500,
) -> OdinSetting:
    """The setting of the grid with the largest AUROC of outliers against validation images; the first of equals.

    Args:
        classifier: in evaluation mode.
        validation: images that the classifier was not trained on and is not measured on.
        outliers: synthetic outliers; never images of a dataset that detection is measured on.
        grid: what to choose from.
        batch_size: images at once.
    """

    inside, outside = (odin_grid_scores(classifier, images, grid, batch_size) for images in (validation, outliers))
    return max(grid, key=lambda setting: auroc(inside[setting], outside[setting]))


def _score(arrays: Arrays, classifier: nn.Module, images: Images, batch_size: int) -> Doubles:
    return odin_scores(classifier, images, OdinSetting(**{key: float(it) for key, it in arrays.items()}), batch_size)


ODIN = Method(
    "odin",
    "max softmax at a temperature, after a step towards the top class",
    "Liang, Li and Srikant, ICLR 2018, arXiv:1706.02690",
    _score,
    needs="gradients",
    fitted_on="validation images and synthetic outliers",
)
