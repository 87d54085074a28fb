"""Measures every OOD score of every image; detectors are fitted once per evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hardy.attacks.attack import value_and_gradient
from hardy.attacks.objectives import Objective
from hardy.deployment.attack import ascent
from hardy.errors import ContractError
from hardy.evaluation.charts import plain
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Results, Scalar, Shard, Skipped
from hardy.ood import (
    BASELINE,
    COMBINATION,
    DETECTORS,
    HEADLINE,
    Detector,
    OdinSetting,
    choose_odin,
    extract,
    fit_combination,
    fit_detector,
    fit_exposed,
    odin_scores,
    usable,
)
from hardy.ood.features import record
from hardy.ood.odin import log_odds
from hardy.rng import Randomness
from hardy.synthetic.outliers import FITTING_FAMILIES, make_outliers, outliers_by_family
from hardy.synthetic.transforms import TRANSFORMS
from hardy.threats import ThreatModel, usual_radii
from hardy.validation import Classifier, Images, Logits

ODIN = "odin"
ODIN_IMAGES = 300
EXPOSED = 20
"""One of so many training images that detectors are fitted on becomes an outlier of each family."""
PERTURBING_STEPS, PERTURBING_STEP_SIZE = 20, 0.1
HEADLINES = (HEADLINE, BASELINE)
"""Scores of which everything is said on any budget. The first that there is is the headline."""


class Outside(NamedTuple):
    """A measurement that is to be told from that of the test images."""

    name: str
    measurement: Measurement
    setting: dict[str, str | float]


def plan(context: EvaluationContext) -> Plan:
    reasons = [f"{name}: {reason}" for name, reason in context.missing.items()]
    if not context.out_of_distribution:
        reasons.append("no out-of-distribution dataset is at hand; only what is made of the test images is measured")
    if context.train is None:
        reasons.append("there are no training images: detectors that are fitted on them are left out")
    if context.validation is None:
        reasons.append("there are no validation images: the combination of scores, and thresholds, are left out")
    if not context.gradients:
        reasons.append("ODIN and adversarially perturbed images: the classifier gives no gradients")
    elif not (context.budget.odin and context.budget.perturbed):
        reasons.append(f"ODIN and adversarially perturbed images: the {context.budget.name} budget leaves them out")
    validation = validation_measurement(context)
    measurements = [
        inside_measurement(context),
        *(it.measurement for it in outside_measurements(context)),
        *shift_measurements(context),
        *([validation] if validation else []),
    ]
    return Plan(measurements, [Skipped("out_of_distribution", reason) for reason in reasons])


def inside_measurement(context: EvaluationContext) -> Measurement:
    """The test images."""
    return detect_measurement(context, context.dataset, context.budget.in_distribution)


def validation_measurement(context: EvaluationContext) -> Measurement | None:
    """Half of the validation images, for thresholds; fitting takes of the other half."""
    if context.validation is None or context.sizes[context.validation] < 2:
        return None
    half, most = context.sizes[context.validation] // 2, context.budget.in_distribution
    return detect_measurement(context, context.validation, half if most is None else min(half, most))


def shift_measurements(context: EvaluationContext) -> list[Measurement]:
    """The same classes from elsewhere, which should not be refused."""
    return [detect_measurement(context, name, context.budget.out_of_distribution) for name in context.shift]


def outside_measurements(context: EvaluationContext) -> list[Outside]:
    """What should be refused: other datasets, what is made of test images, and adversarially perturbed images."""
    budget = context.budget
    found = [
        Outside(name, detect_measurement(context, name, budget.out_of_distribution), {})
        for name in context.out_of_distribution
    ]
    for name in TRANSFORMS:
        measurement = detect_measurement(context, context.dataset, budget.transformed, transform=name)
        found.append(Outside(plain(name), measurement, {"transform": name}))
    if budget.perturbed and context.gradients:
        eps = usual_radii(context.shape)["linf"]
        for name in context.out_of_distribution:
            measurement = detect_measurement(context, name, budget.perturbed, perturbed=eps)
            found.append(Outside(f"{name}, perturbed", measurement, {"norm": "linf", "eps": eps}))
            measurement = detect_measurement(context, name, budget.perturbed, perturbed=eps, against=HEADLINE)
            setting = {"norm": "linf", "eps": eps, "against": HEADLINE}
            found.append(Outside(f"{name}, perturbed against {plain(HEADLINE)}", measurement, setting))
    return found


def detect_measurement(
    context: EvaluationContext,
    dataset: str,
    at_most: int | None,
    *,
    transform: str = "",
    perturbed: float = 0.0,
    against: str = "",
) -> Measurement:
    """Every score on one dataset; on what a transform makes of it; or on its images adversarially perturbed, for the
    classifier to be sure, or against a score."""
    return Measurement.of(
        "detect",
        dataset,
        context.examples(dataset, at_most),
        transform=transform,
        perturbed=perturbed,
        train=context.train or "",
        validation=context.validation or "",
        training=context.budget.detector_training,
        fitting=context.budget.detector_validation,
        odin=context.budget.odin and context.validation is not None and context.gradients,
        **({"against": against} if against else {}),
    )


def scores_of(results: Results) -> list[str]:
    """The scores that the classifier allows."""
    columns = results.records[inside_measurement(results.context)].columns
    return [name for name in DETECTORS if name in columns]


def headline_score(results: Results) -> str:
    return next(name for name in HEADLINES if name in scores_of(results))


def measure_detect(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), and one float64 (N,) per score; what the classifier does not allow is left out.

    Detectors are fitted on training images, ODIN and the combination on validation images and synthetic outliers.

    Raises:
        ContractError: scores that are not finite.
    """
    setting, images = measurement.settings, shard.images
    key = ("detectors", seed, *(setting[name] for name in ("train", "validation", "training", "fitting", "odin")))
    fitted = shard.memo.get(key, lambda: _fit(classifier, shard, setting, seed, batch_size))
    if setting["transform"]:
        name = str(setting["transform"])
        images = TRANSFORMS[name](images, shard.rng(seed, "made", name))
    if setting["perturbed"]:
        eps = float(setting["perturbed"])
        against = fitted.detectors.get(str(setting.get("against", "")))
        moved = [
            perturbed(classifier, batch, eps) if against is None else unsuspicious(classifier, batch, eps, against)
            for batch in images.split(batch_size)
        ]
        images = torch.cat(moved)
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


def _fit(classifier: nn.Module, shard: Shard, setting: Mapping[str, Scalar], seed: int, batch_size: int) -> _Fitted:
    device = shard.images.device
    if setting["train"]:
        train = shard.dataset(str(setting["train"]))
        chosen = train.measuring_order()[: int(setting["training"])]
        training = extract(classifier, train.floats(chosen).to(device), batch_size)
        labels = train.labels[chosen].numpy()
        detectors = {name: fit_detector(name, training, labels) for name in usable(training)}
        # Of other training images than those that stand for the inside.
        rest = train.measuring_order()[-max(1, len(chosen) // EXPOSED) :]
        streams = Randomness(seed, rest.to(device), ("exposed",))
        families = outliers_by_family(train.floats(rest).to(device), streams)
        exposed = fit_exposed(training, [extract(classifier, it, batch_size) for it in families.values()])
    else:
        detectors = {name: Detector(name, {}) for name in DETECTORS if _needs_nothing(name)}
        exposed = None
    named = {} if exposed is None else {exposed.name: exposed}
    if not setting["validation"]:
        return _Fitted(detectors | named, None)

    validation = shard.dataset(str(setting["validation"]))
    # Measurements take the beginning of the measuring order; fitting takes its end, so that thresholds are not set on
    # images that something was fitted on.
    last = validation.measuring_order()[len(validation) // 2 :][-int(setting["fitting"]) :]
    inside = validation.floats(last).to(device)
    outside = make_outliers(inside, Randomness(seed, last.to(device), ("fitting outliers",)), FITTING_FAMILIES)
    features = [extract(classifier, images, batch_size) for images in (inside, outside)]
    detectors[COMBINATION] = fit_combination(list(detectors.values()), *features)
    odin = None
    if setting["odin"]:
        odin = choose_odin(classifier, inside[:ODIN_IMAGES], outside[:ODIN_IMAGES], batch_size=batch_size)
    return _Fitted(detectors | named, odin)


def _needs_nothing(name: str) -> bool:
    return DETECTORS[name].fitted_on == "nothing" and DETECTORS[name].needs == "logits"


def perturbed(classifier: Classifier, images: Images, eps: float, objective: Objective = log_odds) -> Images:
    """Images within linf ``eps`` of these that are answered with as much confidence as could be found.

    Steps along the sign of the gradient of the log odds of the class that was predicted, or of another objective; the
    best on the way is kept.
    """
    threat = ThreatModel("linf", eps)
    with torch.no_grad():
        top = classifier(images).argmax(1)
    current, best, kept = images, torch.full((len(images),), -torch.inf, device=images.device), images
    for _ in range(PERTURBING_STEPS + 1):
        logits, gradient = value_and_gradient(classifier, current, top, objective)
        value = objective(logits, top)
        better = value > best
        best = torch.where(better, value, best)
        kept = torch.where(better[:, None, None, None], current, kept)
        current = threat.project(current + PERTURBING_STEP_SIZE * eps * gradient.sign(), images)
    return kept


def unsuspicious(classifier: nn.Module, images: Images, eps: float, detector: Detector) -> Images:
    """Images within linf ``eps`` of these whose score by a detector is as low as could be found by its own gradient.

    From the image, and from where the classifier is surest; where no gradient leads through the score, the latter.
    """
    threat, like = ThreatModel("linf", eps), extract(classifier, images[:2])
    zeros = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def unlike(images: Images) -> Logits:
        score = detector.scores(record(classifier, images, like)).tensor.float()  # type: ignore[attr-defined]
        return torch.stack([torch.zeros_like(score), -score], dim=1)

    candidates = [images, perturbed(classifier, images, eps)]
    # A user's score may be made of what has no gradient.
    with contextlib.suppress(TypeError):
        candidates += [
            ascent(unlike, images, zeros, threat, origin=it, steps=PERTURBING_STEPS).detach() for it in candidates
        ]
    scores = np.stack([detector.scores(extract(classifier, it)) for it in candidates])
    best = torch.from_numpy(scores.argmin(axis=0)).to(images.device)
    return torch.stack(candidates)[best, torch.arange(len(images), device=images.device)]
