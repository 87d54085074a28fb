"""A small run of MNIST's digits, and a bundle of it, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from torch import Tensor, nn

from hardy.calibration import Calibrator
from hardy.calibration.conformal import fit_conformal
from hardy.data import load_dataset
from hardy.deployment import Bundle, BundleManifest, write_bundle
from hardy.deployment.bundle import set_streams
from hardy.deployment.fit import fit_bundle
from hardy.models.weights import weights_sha256
from hardy.ood import Detector, extract
from hardy.report.bundle_card import bundle_card
from hardy.training import Recipe, train


def write_small_run(folder: Path, recipe: Recipe) -> Path:
    """A run trained on 1,800 digits in a second or two; 200 others are held out."""
    training, test = (load_dataset(f"mnist/{split}") for split in ("train", "test"))
    np.savez(
        folder / "digits.npz",
        train_images=training.images[:2000, 0].numpy(),
        train_labels=training.labels[:2000].numpy(),
        test_images=test.images[:50, 0].numpy(),
        test_labels=test.labels[:50].numpy(),
    )
    train(recipe, folder / "run", data=str(folder / "digits.npz"), device="cpu")
    return folder / "run"


def small_bundle(run: Path, **settings: object) -> Bundle:
    """Its refusal is measured on few images."""
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        return fit_bundle(run, **settings)  # type: ignore[arg-type]


def bundle_of(
    classifier: nn.Module,
    detector: Detector,
    images: Tensor,
    labels: Tensor,
    *,
    max_ood_score: float,
    min_confidence: float = 0.6,
    alpha: float = 0.05,
    form: str = "resize",
) -> Bundle:
    """A bundle of any classifier, whose prediction sets are fitted on these images, with thresholds as given."""
    features = extract(classifier.eval(), images)
    answers, truth = features.logits, labels.numpy()
    calibrator = Calibrator("temperature", {"temperature": np.array([1.0]), "classes": np.array([answers.shape[1]])})
    conformal = fit_conformal("lac", calibrator(answers), truth, alpha, set_streams(len(truth)))
    rules = {"max_ood_score": max_ood_score, "min_confidence": min_confidence, "target_refusal": 0.01}
    manifest = BundleManifest.model_validate(
        {
            "schema": 3,
            "name": "made for a test",
            "hardy": "0",
            "model": {"name": "none", "arguments": {}},
            "input": tuple(images.shape[1:]),
            "classes": tuple(map(str, range(answers.shape[1]))),
            "weights_sha256": weights_sha256(classifier),
            "training": {},
            "preprocessing": {"form": form},
            "calibrator": "temperature",
            "detector": detector.name,
            "prediction_sets": "lac",
            "alpha": alpha,
            "fitted_on": {},
            "data": {},
            "rules": rules | {"fitted_on": "", "validation_refusal": {}},
            "refusal_estimates": (),
        }
    )
    return Bundle(manifest, classifier, calibrator, detector, conformal, np.sort(detector.scores(features)))


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """Let bundles measure refusal on few images."""
    patch.setattr("hardy.deployment.fit.IMAGES_PER_KIND", 10)
    patch.setattr("hardy.deployment.fit.PAGES_PER_KIND", 10)
    patch.setattr("hardy.deployment.fit.VARIANTS", 1)
    patch.setattr("hardy.deployment.fit.OUTLIERS_PER_FAMILY", 30)
    patch.setattr("hardy.ood.exposed.MOST_STEPS", 60)
    patch.setattr("hardy.deployment.fit.EXPOSURE_FONTS", ("DejaVuSansMono", "cmr10"))


def write_small_bundle(folder: Path, run: Path) -> Path:
    bundle = small_bundle(run, detector="nearest_neighbours", alpha=0.1)
    write_bundle(folder / "bundle", bundle, bundle_card(bundle.manifest))
    return folder / "bundle"


def draw_seven(path: Path, ink: str = "black") -> Path:
    """A seven of straight strokes on paper of the other color, as an image file."""
    paper = Image.new("L", (120, 120), "white" if ink == "black" else "black")
    ImageDraw.Draw(paper).line([(35, 30), (85, 30), (55, 95)], fill=ink, width=9, joint="curve")
    paper.save(path)
    return path
