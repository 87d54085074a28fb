"""From a trained run to a bundle: fit what answers and abstains, and measure what that promises.

The calibrator is fitted on one half of the validation images, the prediction sets and the thresholds on the other half,
the detector on training images. The promises are measured on pictures that are made for it, with fonts and families
that nothing here was fitted on and that no dataset of outliers uses; the detector that is the default was chosen on
them. The test split is read only to make sure that none of its images is among the validation ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hardy import __version__
from hardy.calibration import check_disjoint, fit_calibrator
from hardy.calibration.conformal import fit_conformal
from hardy.data import Dataset, load_dataset
from hardy.deployment import Bundle, Facts, Promise
from hardy.deployment.abstention import RULES, Decisions, decide, fit_thresholds
from hardy.deployment.bundle import set_streams
from hardy.deployment.manifest import Model, Preprocessing, Rules
from hardy.deployment.preprocessing import Prepared, prepare
from hardy.errors import RunError, UsageError, unknown
from hardy.metrics import wilson
from hardy.models.weights import weights_sha256
from hardy.ood import DETECTORS, Features, extract, fit_detector
from hardy.rng import Randomness
from hardy.runs import load_trained, training_facts
from hardy.synthetic.glyphs import EXPOSURE_FONTS, LETTERS
from hardy.synthetic.outliers import OUTLIERS
from hardy.synthetic.photos import DIGITS, Photos, blank_photos, drawn_photos, noise_photos

CALIBRATOR = "temperature"
DETECTOR = "energy"
PREDICTION_SETS = "lac"
ALPHA = 0.005
TARGET_REFUSAL = 0.01

TRAINING_IMAGES = 20_000
"""So many of them the detector sees."""

MADE = 500
"""Made outliers of each family, blank pages and pages of noise."""
VARIANTS = 6
"""How often each letter and each digit is drawn in each font."""

Report = Callable[[str], None]


class Halves(NamedTuple):
    """The validation images in two halves of their measuring order: features and labels of each."""

    calibration: tuple[Features, NDArray[np.int64]]
    setting: tuple[Features, NDArray[np.int64]]


def fit_bundle(
    run: Path,
    *,
    detector: str = DETECTOR,
    target_refusal: float = TARGET_REFUSAL,
    alpha: float = ALPHA,
    data_dir: Path | None = None,
    report: Report = lambda _: None,
) -> Bundle:
    """Fit all that a bundle holds to the classifier of a run.

    Args:
        run: a folder that ``hardy train`` wrote.
        detector: one of :data:`hardy.ood.DETECTORS` that is fitted on training images, or on nothing.
        target_refusal: the share of validation images that all rules together may refuse.
        alpha: how often a prediction set may miss the true class.
        data_dir: where to look for datasets first.
        report: called with what is being done.

    Raises:
        RunError: no trained run, one whose images are not 28x28 and grey, or one that held out other images.
        UsageError: an unknown detector, a share outside (0, 1), or validation images that the test split has too.
    """
    possible = [name for name, it in DETECTORS.items() if it.of_training]
    if detector not in possible:
        raise unknown("detector of a bundle", detector, possible)
    if not 0 < target_refusal < 1:
        raise UsageError(f"target refusal {target_refusal}; a share lies in (0, 1), for example {TARGET_REFUSAL}")
    classifier, manifest = load_trained(run)
    if tuple(manifest["input"]) != (1, 28, 28):
        raise RunError(f"{run} takes images of {manifest['input']}; pictures are prepared as 28x28 grey images alone")
    data = manifest["training"]["data"]
    train, validation, test = (load_dataset(f"{data}/{split}", data_dir) for split in ("train", "validation", "test"))
    if validation.sha256 != manifest["training"]["hashes"].get(validation.name):
        raise RunError(
            f"{validation.name} is not what {run} was held out from: its hash is another; give it the same data"
        )
    check_disjoint(validation, test)
    report(f"running the classifier over {train.name} and {validation.name}")
    classifier.eval().requires_grad_(False)
    order = validation.measuring_order()
    half = len(order) // 2
    halves = Halves(*(_features(classifier, validation, part) for part in (order[:half], order[half:])))
    fits = DETECTORS[detector].fit is not None
    training = _features(classifier, train, train.measuring_order()[: TRAINING_IMAGES if fits else 1])
    report("fitting the calibrator, the detector and the prediction sets")
    fitted = fit_detector(detector, *training)
    calibrator = fit_calibrator(CALIBRATOR, halves.calibration[0].logits, halves.calibration[1])
    features, labels = halves.setting
    probabilities = calibrator.probabilities(features.logits)
    streams = set_streams(len(labels))
    conformal = fit_conformal(PREDICTION_SETS, probabilities, labels, alpha, streams)
    if conformal.always:
        raise UsageError(
            f"alpha {alpha}: {len(labels)} validation images are too few, every prediction set would hold every class; "
            f"with so many, alpha is at least {1 / (len(labels) + 1):.4f}"
        )
    suspicion, sets = fitted.scores(features), conformal.sets(probabilities, streams)
    reference = np.sort(suspicion)
    thresholds = fit_thresholds(probabilities.max(axis=1), sets, suspicion, target_refusal)
    ink = np.ones(len(labels), dtype=bool)
    held = decide(probabilities, sets, suspicion, ink, thresholds=thresholds, reference=reference)
    facts = Facts(
        name=manifest["training"]["recipe"]["name"],
        hardy=__version__,
        model=Model(**manifest["model"]),
        input=(1, 28, 28),
        classes=tuple(manifest["classes"]),
        weights_sha256=weights_sha256(classifier),
        training=training_facts(manifest),
        preprocessing=Preprocessing(),
        calibrator=CALIBRATOR,
        detector=detector,
        prediction_sets=PREDICTION_SETS,
        alpha=alpha,
        fitted_on={
            "calibrator": f"{validation.name}, {half:,} images",
            "prediction sets and thresholds": f"{validation.name}, the other {len(labels):,} images",
            "detector": f"{train.name}, {len(training[1]):,} images" if fits else "nothing, it is a function of logits",
        },
        data={train.name: train.sha256, validation.name: validation.sha256},
        rules=Rules(
            suspicion_above=thresholds.suspicion,
            confidence_below=thresholds.confidence,
            target_refusal=target_refusal,
            set_on=f"{validation.name}, {len(labels):,} images",
            validation_refusal={"all": _share(~held.answered)}
            | {rule: _share(held.fired[:, place]) for place, rule in enumerate(RULES)},
        ),
        promises=(),
    )
    bundle = Bundle(facts, classifier, calibrator, fitted, conformal, reference)
    report("measuring what it refuses of made outliers and of drawn pages")
    promises = [_promise("digits like the validation images", ~held.answered), *measure_promises(bundle, validation)]
    return Bundle(
        facts.model_copy(update={"promises": tuple(promises)}), classifier, calibrator, fitted, conformal, reference
    )


def measure_promises(bundle: Bundle, validation: Dataset) -> list[Promise]:
    """What share of made outliers, letters, blank pages and noise is refused, from the picture to the answer."""
    images = validation.floats(validation.measuring_order()[:MADE])
    streams = Randomness(0, torch.arange(len(images)), ("promises",))
    promises = []
    for family, outliers in OUTLIERS.items():
        made = outliers.function(images, streams.fold(family))
        refused = ~bundle.answer(prepare(made[:, 0])).answered
        promises.append(_promise(f"made outliers: {outliers.description}", refused))
    letters = drawn_photos(LETTERS, EXPOSURE_FONTS, VARIANTS, seed=0)
    digits = drawn_photos(DIGITS, EXPOSURE_FONTS, VARIANTS, seed=0)
    return [
        *promises,
        _promise("printed letters A to J on paper", ~answer_pages(bundle, letters).answered, letters.fonts),
        _promise("printed digits on paper", ~answer_pages(bundle, digits).answered, digits.fonts),
        _promise("blank pages", ~answer_pages(bundle, blank_photos(MADE, seed=0)).answered),
        _promise("pages of noise", ~answer_pages(bundle, noise_photos(MADE, seed=0)).answered),
    ]


def answer_pages(bundle: Bundle, pages: Photos) -> Decisions:
    """What a bundle says of some pages, each prepared by itself as ``hardy predict`` does."""
    polarity = bundle.facts.preprocessing.polarity
    each = [prepare(torch.from_numpy(picture).float()[None] / 255, polarity) for picture in pages.pictures]
    return bundle.answer(Prepared(torch.cat([one.images for one in each]), torch.cat([one.ink for one in each])))


def _features(
    classifier: torch.nn.Module, dataset: Dataset, indices: torch.Tensor
) -> tuple[Features, NDArray[np.int64]]:
    return extract(classifier, dataset.floats(indices)), dataset.labels[indices].numpy()


def _promise(kind: str, refused: NDArray[np.bool_], groups: Sequence[str] = ()) -> Promise:
    """The share refused, and the 95 % interval for measuring as many again.

    That has twice the variance of the share itself. Where pictures come in groups, as by font, whose shares differ, a
    new measurement has other groups: the interval is then Student's over the groups' shares, where that is wider.
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
    return Promise(kind=kind, rate=rate, low=max(0.0, float(low)), high=min(1.0, float(high)), n=n)


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean())
