"""Measures every detection score of every image; detectors are fitted once per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hardy.attacks.attack import value_and_gradient
from hardy.data import Dataset
from hardy.errors import ContractError
from hardy.evaluation.framework import Budget, Columns, EvaluationContext, Measurement, Scalar, Shard
from hardy.ood import (
    DETECTORS,
    Detector,
    OdinSetting,
    choose_odin,
    extract,
    fit_combination,
    fit_detector,
    odin_scores,
    usable,
)
from hardy.ood.detector import COMBINATION
from hardy.ood.odin import log_odds
from hardy.rng import Randomness
from hardy.synthetic.outliers import OUTLIERS, make_outliers
from hardy.synthetic.transforms import TRANSFORMS
from hardy.threats import ThreatModel
from hardy.validation import Images, frozen_evaluation

HELD_FAMILY = "strokes"
FITTING_FAMILIES = tuple(name for name in OUTLIERS if name != HELD_FAMILY)
"""What the combination and ODIN are fitted on; strokes are measured on and so held out."""

ODIN = "odin"
ODIN_IMAGES = 300
MOVING_STEPS, MOVING_STEP_SIZE = 20, 0.1


class Size(NamedTuple):
    """How many examples a budget takes; None is all."""

    training: int
    fitting: int
    inside: int | None
    outside: int | None
    made: int
    moved: int


SIZES: dict[Budget, Size] = {
    "quick": Size(training=2000, fitting=300, inside=1000, outside=300, made=100, moved=0),
    "standard": Size(training=10_000, fitting=1000, inside=2000, outside=2000, made=500, moved=100),
    "full": Size(training=10_000, fitting=1000, inside=None, outside=None, made=2000, moved=500),
}


def detect_measurement(
    context: EvaluationContext, dataset: str, at_most: int | None, *, made: str = "", moved: float = 0.0
) -> Measurement:
    """Every score on one dataset; on what is made of it; or on its images moved to be answered as surely as can be."""
    size = SIZES[context.budget]
    return Measurement.of(
        "detect",
        dataset,
        context.examples(dataset, at_most),
        made=made,
        moved=moved,
        train=context.train or "",
        validation=context.validation or "",
        training=size.training,
        fitting=size.fitting,
        odin=context.budget != "quick" and context.validation is not None,
    )


def measure_detect(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), and one float64 (N,) a score; scores that the classifier does not allow are left out.

    What is fitted is fitted on training images, and ODIN and the combination on validation images and made outliers.

    Raises:
        ContractError: scores that are not finite.
    """
    setting, images = measurement.settings, shard.images
    if setting["made"]:
        images = TRANSFORMS[str(setting["made"])](images, shard.rng(seed, "made", str(setting["made"])))
    if setting["moved"]:
        images = torch.cat([_moved(classifier, batch, float(setting["moved"])) for batch in images.split(batch_size)])
    key = ("detectors", seed, *(setting[name] for name in ("train", "validation", "training", "fitting", "odin")))
    fitted = shard.memo.get(key, lambda: _fit(classifier, shard.dataset, setting, seed, batch_size, images.device))
    features = extract(classifier, images, batch_size)
    columns: Columns = {"logits": features.logits}
    columns |= {name: detector.scores(features) for name, detector in fitted.detectors.items()}
    if fitted.odin:
        columns[ODIN] = odin_scores(classifier, images, fitted.odin, batch_size)
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ContractError(f"'{name}' is NaN or infinite on images of {measurement.dataset}; logits are finite")
    return columns


class _Fitted(NamedTuple):
    detectors: dict[str, Detector]
    odin: OdinSetting | None


def _fit(
    classifier: nn.Module,
    dataset: Callable[[str], Dataset],
    setting: Mapping[str, Scalar],
    seed: int,
    batch_size: int,
    device: torch.device,
) -> _Fitted:
    if setting["train"]:
        train = dataset(str(setting["train"]))
        chosen = train.measuring_order()[: int(setting["training"])]
        training = extract(classifier, train.floats(chosen).to(device), batch_size)
        labels = train.labels[chosen].numpy()
        detectors = {name: fit_detector(name, training, labels) for name in usable(training)}
    else:
        detectors = {name: Detector(name, {}) for name in DETECTORS if _needs_nothing(name)}
    if not setting["validation"]:
        return _Fitted(detectors, None)

    validation = dataset(str(setting["validation"]))
    # The cells take the beginning of the measuring order; fitting takes its end, so that thresholds set on a cell are
    # not set on images that something was fitted on.
    last = validation.measuring_order()[len(validation) // 2 :][-int(setting["fitting"]) :]
    inside = validation.floats(last).to(device)
    outside = make_outliers(inside, Randomness(seed, last.to(device), ("fitting outliers",)), FITTING_FAMILIES)
    features = [extract(classifier, images, batch_size) for images in (inside, outside)]
    detectors[COMBINATION] = fit_combination(list(detectors.values()), *features)
    odin = None
    if setting["odin"]:
        odin = choose_odin(classifier, inside[:ODIN_IMAGES], outside[:ODIN_IMAGES], batch_size=batch_size)
    return _Fitted(detectors, odin)


def _needs_nothing(name: str) -> bool:
    return DETECTORS[name].fitted_on == "nothing" and DETECTORS[name].needs == "logits"


def _moved(classifier: nn.Module, images: Images, eps: float) -> Images:
    """Images within linf ``eps`` of these, moved towards the largest probability of the class that they were taken for.

    Steps along the sign of the gradient of the log odds of the top class; the surest image on the way is kept.
    """
    threat = ThreatModel("linf", eps)
    with frozen_evaluation(classifier):
        with torch.no_grad():
            top = classifier(images).argmax(1)
        current, best, kept = images, torch.full((len(images),), -torch.inf, device=images.device), images
        for _ in range(MOVING_STEPS + 1):
            logits, gradient = value_and_gradient(classifier, current, top, log_odds)
            odds = log_odds(logits, top)
            better = odds > best
            best = torch.where(better, odds, best)
            kept = torch.where(better[:, None, None, None], current, kept)
            current = threat.project(current + MOVING_STEP_SIZE * eps * gradient.sign(), images)
    return kept
