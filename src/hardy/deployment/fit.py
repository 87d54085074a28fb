"""From a trained run to a bundle: fit everything that answers and abstains, and measure what is refused.

The calibrator is fitted on one half of the validation images, the prediction sets and the thresholds on the other half,
the detector on training images, and where it takes outliers, on synthetic ones as preprocessing leaves them. Refusal is
estimated on synthetic images, also of families that nothing here is fitted on; no dataset of outliers is looked at. The
test split is read only to make sure that none of its images is a validation image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hardy import __version__
from hardy.calibration import check_disjoint, fit_calibrator
from hardy.calibration.conformal import fit_conformal
from hardy.data import Dataset, load_dataset
from hardy.data.outside import outside_ones
from hardy.deployment import Bundle, BundleManifest, RefusalEstimate
from hardy.deployment.abstention import RULES, Decisions, Scored, decide, fit_thresholds
from hardy.deployment.bundle import set_streams
from hardy.deployment.manifest import Form, Model, Preprocessing, Role, Rules
from hardy.deployment.preprocessing import (
    Polarity,
    Preprocessed,
    as_seen,
    as_they_are,
    in_form,
    is_as_mnist,
    preprocess,
    preprocess_each,
)
from hardy.errors import DataError, RunError, UsageError, unknown
from hardy.metrics import wilson
from hardy.models.weights import weights_sha256
from hardy.ood import (
    COMBINATION,
    DETECTORS,
    HEADLINE,
    Detector,
    Features,
    extract,
    fit_combination,
    fit_detector,
    fit_exposed,
    usable,
)
from hardy.ood.features import concatenate as joined
from hardy.rng import Randomness
from hardy.runs import Run, load_trained, training_facts
from hardy.synthetic.glyphs import EXPOSURE_FONTS, LETTERS
from hardy.synthetic.outliers import FITTING_FAMILIES, OF_NO_CLASS, OUTLIERS, outliers_by_family
from hardy.synthetic.photos import DIGITS, Photos, blank_photos, drawn_photos, noise_photos
from hardy.validation import Images

CALIBRATOR = "temperature"
PREDICTION_SETS = "lac"
ALPHA = 0.005
TARGET_REFUSAL = 0.01

TRAINING_IMAGES = 20_000
"""How many the detector is fitted on."""

OUTLIERS_PER_FAMILY = 500
"""Training images that become outliers of each family which the detector is fitted on."""

IMAGES_PER_KIND = 500
"""Synthetic outliers of each family, and images of one color and of noise."""

PAGES_PER_KIND = 200
"""Photos of blank paper and of noise, which take the longest to preprocess."""

VARIANTS = 3
"""How often each letter and each digit is drawn in each font."""

Report = Callable[[str], None]


class Halves(NamedTuple):
    """Features and labels of the validation images, in two halves of their measuring order."""

    calibration: tuple[Features, NDArray[np.int64]]
    setting: tuple[Features, NDArray[np.int64]]


def fit_bundle(
    run: Run | str | Path,
    *,
    detector: str = HEADLINE,
    target_refusal: float = TARGET_REFUSAL,
    alpha: float | None = None,
    ood: str | Path | Sequence[str | Path] = (),
    preprocessing: Literal["", "mnist", "resize"] = "",
    data_dir: str | Path | None = None,
    report: Report = lambda _: None,
) -> Bundle:
    """Fit everything that a bundle contains to the classifier of a run.

    Args:
        run: a run that :func:`hardy.training.train` returned, or its folder.
        detector: one of :data:`hardy.ood.DETECTORS` of unfamiliar inputs; not ODIN, which needs gradients to answer. By
            default :data:`hardy.ood.HEADLINE`, which reports name too.
        target_refusal: the share of validation images that all rules together may refuse.
        alpha: the share of prediction sets that may miss the true class; by default 0.005, or where there are few
            validation images the least that they allow.
        ood: images of one's own that belong to no class: folders, files or names of datasets, which may be named as in
            ``sketches=PATH``. What is refused of them is estimated too; nothing is fitted on them.
        preprocessing: how image files become what the network sees: ``mnist`` as MNIST's digits were made, ``resize``
            by resizing and cropping; by default ``mnist`` where the validation images have that form.
        data_dir: where to look for datasets first.
        report: called with what is being done.

    Raises:
        RunError: not a trained run, one with other validation images, or one in MNIST's form of another size.
        UsageError: an unknown detector, a share outside (0, 1), or validation images that are also test images.

    Example:
        >>> from hardy.deployment.fit import fit_bundle
        >>> bundle = fit_bundle(run, alpha=0.1)
        >>> bundle.manifest.detector
        'discriminator'
    """
    path = run.path if isinstance(run, Run) else Path(run)
    possible = [name for name, it in DETECTORS.items() if not it.of_mistakes and it.needs != "gradients"]
    if detector not in possible:
        raise unknown("detector of a bundle", detector, possible)
    if not 0 < target_refusal < 1:
        raise UsageError(f"target refusal {target_refusal}; a share lies in (0, 1), for example {TARGET_REFUSAL}")
    classifier, manifest = load_trained(path)
    channels, height, width = manifest["input"]
    data = manifest["training"]["data"]
    train, validation, test = (load_dataset(f"{data}/{split}", data_dir) for split in ("train", "validation", "test"))
    if validation.sha256 != manifest["training"]["hashes"].get(validation.name):
        raise RunError(
            f"{validation.name} has changed since {path} was trained: its hash is another; use the same data"
        )
    if list(validation.images.shape[1:]) != [channels, height, width]:
        found = list(validation.images.shape[1:])
        raise RunError(f"{path} takes images of {manifest['input']}, and those of {validation.name} are {found}")
    check_disjoint(validation, test)
    if len(validation) < 4:
        raise UsageError(f"{validation.name} has {len(validation)} images; a bundle takes at least 4, and better 400")
    outside = {it.called: load_dataset(it.loaded, data_dir) for it in outside_ones(ood, validation)}
    for name, found in outside.items():
        if found.images.shape[1:] != validation.images.shape[1:]:
            raise DataError(f"{name}: images of shape {tuple(found.images.shape[1:])}, not {tuple(manifest['input'])}")
    gray = (channels, height, width) == (1, 28, 28)
    if preprocessing == "mnist" and not gray:
        raise RunError(f"{path} takes images of {manifest['input']}; those in MNIST's form are [1, 28, 28]")
    form: Form = preprocessing or (
        "mnist" if gray and is_as_mnist(validation.floats()[:, 0]).float().mean() > 0.9 else "resize"
    )
    report(f"running the classifier over {train.name} and {validation.name}")
    classifier.eval().requires_grad_(False)
    order = validation.measuring_order()
    half = len(order) // 2
    halves = Halves(*(_features(classifier, validation, part) for part in (order[:half], order[half:])))
    report("fitting the calibrator, the detector and the prediction sets")
    fitted, fitted_on = _fitted_detector(detector, classifier, train, halves, form)
    calibrator = fit_calibrator(CALIBRATOR, halves.calibration[0].logits, halves.calibration[1])
    features, labels = halves.setting
    probabilities = calibrator.probabilities(features.logits)
    streams = set_streams(len(labels))
    # Rounded up: with fewer images every set would hold every class.
    alpha = max(ALPHA, math.ceil(1e4 / (len(labels) + 1)) / 1e4) if alpha is None else alpha
    conformal = fit_conformal(PREDICTION_SETS, probabilities, labels, alpha, streams)
    if conformal.always:
        raise UsageError(
            f"alpha {alpha}: {len(labels)} validation images are too few, every prediction set would hold every class; "
            f"use an alpha of at least {1 / (len(labels) + 1):.4f}"
        )

    def scored(found: Features, shown: Preprocessed) -> Scored:
        own = calibrator.probabilities(found.logits)
        unclear = shown.several.numpy() | (conformal.sets(own, set_streams(len(own))).sum(axis=1) != 1)
        return Scored(own.max(axis=1), unclear, fitted.scores(found))

    held = validation.floats(order[half:])
    shown = in_form(held) if form == "mnist" else as_they_are(held)
    inside = scored(features, shown)
    reference = np.sort(inside.ood_score)
    few = order[: IMAGES_PER_KIND // 2]
    outliers = _outliers(validation.floats(few), Randomness(1, few), form).values()
    thresholds = fit_thresholds(inside, target_refusal, [scored(extract(classifier, it.images), it) for it in outliers])
    decisions = decide(
        probabilities,
        conformal.sets(probabilities, streams),
        inside.ood_score,
        shown.foreground.numpy(),
        shown.several.numpy(),
        thresholds=thresholds,
        reference=reference,
    )
    bundle_manifest = BundleManifest(
        name=manifest["training"]["recipe"]["name"],
        hardy=__version__,
        model=Model(**manifest["model"]),
        input=(channels, height, width),
        classes=tuple(manifest["classes"]),
        weights_sha256=weights_sha256(classifier),
        training=training_facts(manifest)
        | {key: manifest["training"]["environment"][key] for key in ("git_commit", "git_dirty")},
        preprocessing=Preprocessing(form=form),
        calibrator=CALIBRATOR,
        detector=detector,
        prediction_sets=PREDICTION_SETS,
        alpha=alpha,
        fitted_on={
            "calibrator": f"{validation.name}, {half:,} images",
            "prediction sets and thresholds": f"{validation.name}, the other {len(labels):,} images",
            "detector": fitted_on,
        },
        data={train.name: train.sha256, validation.name: validation.sha256},
        rules=Rules(
            max_ood_score=thresholds.max_ood_score,
            min_confidence=thresholds.min_confidence,
            target_refusal=target_refusal,
            fitted_on=f"{validation.name}, {len(labels):,} images",
            validation_refusal={"all": _share(~decisions.answered)}
            | {rule: _share(decisions.fired[:, place]) for place, rule in enumerate(RULES)},
        ),
        refusal_estimates=(),
    )
    bundle = Bundle(bundle_manifest, classifier, calibrator, fitted, conformal, reference)
    report("measuring what it refuses of synthetic images")
    like = f"{'digits' if form == 'mnist' else 'images'} like the validation images"
    estimates = [_estimate(like, ~decisions.answered, role="answer"), *estimate_refusal(bundle, validation)]
    for name, found in outside.items():
        refused = ~bundle.answer(as_seen(found.floats(), form)).answered
        estimates.append(_estimate(name, refused, role="held out"))
    return replace(bundle, manifest=bundle_manifest.model_copy(update={"refusal_estimates": tuple(estimates)}))


def estimate_refusal(bundle: Bundle, validation: Dataset) -> list[RefusalEstimate]:
    """The share refused of synthetic outliers, from the image to the answer; where images take MNIST's form also of
    photos of letters, digits and blank paper, else of images of one color, and of noise."""
    images = validation.floats(validation.measuring_order()[:IMAGES_PER_KIND])
    streams = Randomness(0, torch.arange(len(images)), ("promises",))
    form = bundle.manifest.preprocessing.form
    estimates = []
    for family, outliers in OUTLIERS.items():
        if form == "resize" and family not in OF_NO_CLASS:
            continue
        synthetic = outliers.function(images, streams.fold(family))
        refused = ~bundle.answer(as_seen(synthetic, form)).answered
        role = "held out" if outliers.held_out else "fitted"
        estimates.append(_estimate(f"synthetic outliers: {outliers.description}", refused, role=role))
    if form == "resize":
        color = streams.fold("color").uniform(images.shape[1], 1, 1).expand_as(images)
        noise = streams.fold("noise").uniform(*images.shape[1:])
        for kind, made in (("images of one color", color), ("images of noise", noise)):
            estimates.append(_estimate(kind, ~bundle.answer(as_they_are(made)).answered, role="held out"))
        return estimates
    photos: dict[str, tuple[Role, Photos]] = {
        "photos of printed letters A to J": ("held out", drawn_photos(LETTERS, EXPOSURE_FONTS, VARIANTS, seed=0)),
        "photos of blank paper": ("held out", blank_photos(PAGES_PER_KIND, seed=0)),
        "images of noise": ("held out", noise_photos(PAGES_PER_KIND, seed=0)),
    }
    if bundle.manifest.classes == tuple(DIGITS):
        photos["photos of printed digits"] = ("answer", drawn_photos(DIGITS, EXPOSURE_FONTS, VARIANTS, seed=0))
    for kind, (role, taken) in photos.items():
        fonts = taken.fonts if any(taken.fonts) else ()
        estimates.append(_estimate(kind, ~answer_photos(bundle, taken).answered, fonts, role=role))
    return estimates


def _fitted_detector(
    name: str, classifier: torch.nn.Module, train: Dataset, halves: Halves, form: Form
) -> tuple[Detector, str]:
    """A detector, and in words what it is fitted on."""
    method = DETECTORS[name]
    if method.fitted_on == "nothing":
        return fit_detector(name, *halves.calibration), "nothing, it is a function of logits"
    order = train.measuring_order()
    training, labels = _features(classifier, train, order[:TRAINING_IMAGES])
    words = f"{train.name}, {len(labels):,} images"
    if method.of_training:
        return fit_detector(name, training, labels), words
    # Other images than those that stand for the inside, where there are enough.
    rest = order[-OUTLIERS_PER_FAMILY:]
    images, streams = train.floats(rest), Randomness(0, rest, ("bundle outliers",))
    shown = [extract(classifier, it.images) for it in _outliers(images, streams, form).values()]
    words += f", and synthetic outliers of {len(shown)} families"
    if name == COMBINATION:
        parts = [fit_detector(each, training, labels) for each in usable(training)]
        return fit_combination(parts, halves.calibration[0], joined(shown)), words
    if form == "resize":
        return fit_exposed(training, shown), words
    handed_in = _handed_in(train.floats(order[:OUTLIERS_PER_FAMILY]), train.classes == tuple(DIGITS))
    inside = joined([training, *(extract(classifier, it) for it in handed_in)])
    raw = outliers_by_family(images, streams.fold("raw")).values()
    return fit_exposed(inside, [*shown, *(extract(classifier, it) for it in raw)]), words


def _outliers(images: Images, streams: Randomness, form: Form) -> dict[str, Preprocessed]:
    """What the network sees of synthetic outliers, per family, but of those without foreground, which are refused."""
    found = {}
    families = [name for name in FITTING_FAMILIES if form == "mnist" or name in OF_NO_CLASS]
    for name, made in outliers_by_family(images, streams, families).items():
        shown = as_seen(made, form)
        if shown.foreground.any():
            found[name] = Preprocessed(*(part[shown.foreground] for part in shown))
    return found


def _handed_in(images: Images, digits: bool) -> list[Images]:
    """Images of the classes as they come from files: enlarged, small, and of digits printed ones too."""
    large = F.pad(F.interpolate(images, scale_factor=2, mode="bilinear"), (12, 12, 12, 12))
    small = F.interpolate(images[:, :, 4:24, 4:24], size=(12, 12), mode="area")
    found = [preprocess(large[:, 0]).images, preprocess(1 - small[:, 0]).images]
    if digits:
        found.append(_photographed(drawn_photos(DIGITS, EXPOSURE_FONTS, VARIANTS, seed=1)).images)
    return found


def answer_photos(bundle: Bundle, photos: Photos) -> Decisions:
    """What a bundle answers for some photos, each judged by itself, as ``hardy predict`` does."""
    return bundle.answer(_photographed(photos, bundle.manifest.preprocessing.polarity))


def _photographed(photos: Photos, polarity: Polarity = "auto") -> Preprocessed:
    return preprocess_each([torch.from_numpy(photo).float() / 255 for photo in photos.pictures], polarity)


def _features(
    classifier: torch.nn.Module, dataset: Dataset, indices: torch.Tensor
) -> tuple[Features, NDArray[np.int64]]:
    return extract(classifier, dataset.floats(indices)), dataset.labels[indices].numpy()


def _estimate(kind: str, refused: NDArray[np.bool_], groups: Sequence[str] = (), *, role: Role) -> RefusalEstimate:
    """The share refused, with a 95 % prediction interval for a new measurement of as many images.

    Its variance is twice that of the share. Where images come in groups (fonts) whose shares differ, a new measurement
    has other groups: the interval is then Student's over the groups' shares, if that is wider.
    """
    rate, n = _share(refused), len(refused)
    interval = wilson(round(refused.sum() / 2), max(n // 2, 1))
    low, high = min(interval.low, rate), max(interval.high, rate)
    if groups:
        from scipy.stats import t

        names = np.array(groups)
        shares = np.array([refused[names == name].mean() for name in dict.fromkeys(groups)])
        half = float(t.ppf(0.975, len(shares) - 1)) * shares.std(ddof=1) * math.sqrt(2 / len(shares))
        low, high = min(low, rate - half), max(high, rate + half)
    return RefusalEstimate(kind=kind, rate=rate, low=max(0.0, float(low)), high=min(1.0, float(high)), n=n, role=role)


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean())
