"""Bundles of one's own images: files are resized and cropped as the training images were, and the promises hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import measure_little
from helpers.shapes import STRANGE, write_shapes
from PIL import Image

from hardy.data import load_dataset
from hardy.deployment import Bundle, load_bundle, write_bundle
from hardy.deployment.fit import fit_bundle
from hardy.deployment.resizing import read_resized
from hardy.errors import UsageError
from hardy.report.bundle_card import bundle_card
from hardy.training import RECIPES, train

RECIPE = replace(RECIPES["fast"], model_arguments={"width": 4}, batch_size=16, epochs=6, learning_rate=0.03)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapes(tmp_path_factory.mktemp("bundle"), 80, side=16)
    train(RECIPE, folder / "run", data=f"{folder / 'shapes'}?resize=16x12", device="cpu", progress=False)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        made = fit_bundle(folder / "run", ood=[f"scribbles={folder / STRANGE}", str(folder / "unseen.npy")])
    write_bundle(folder / "made", made, bundle_card(made.manifest))
    return load_bundle(folder / "made")


def test_a_bundle_says_what_it_does_and_what_it_refuses(folder: Path, bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.preprocessing.form, manifest.input) == ("resize", (3, 12, 16))
    # Half of the 24 validation images set the thresholds; one in thirteen is the least that they can promise.
    assert manifest.alpha == 0.077
    kinds = {it.kind: it.n for it in manifest.refusal_estimates}
    assert (kinds["scribbles"], kinds["unseen"], kinds["images like the validation images"]) == (8, 8, 12)
    assert {"images of one color", "images of noise"} < kinds.keys()
    assert not any("photo" in kind or "digit" in kind for kind in kinds)
    card = (folder / "made" / "README.md").read_text()
    assert "cover 16x12 and cropped about their center, in RGB" in card
    assert "digit" not in card


def test_a_file_is_answered_as_the_image_of_the_dataset(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    files = sorted((folder / "shapes" / "square").glob("*.png"))[:9]
    images = load_dataset(f"{folder / 'shapes'}?resize=16x12/test").images  # all of them
    answers = bundle.predict(files, save_input=tmp_path / "seen")
    assert len(answers) == len(files)
    known = {image.numpy().tobytes() for image in images}
    for file, answer in zip(files, answers, strict=True):
        seen = next(read_resized(file, (3, 12, 16))).pixels
        assert (seen * 255).round().byte().numpy().tobytes() in known
        assert np.array_equal(np.asarray(Image.open(answer.saved or "")), (seen * 255).round().byte().permute(1, 2, 0))
    np.save(tmp_path / "same.npy", np.stack([next(read_resized(file, (3, 12, 16))).pixels.numpy() for file in files]))
    for answer, same in zip(answers, bundle.predict([tmp_path / "same.npy"]), strict=True):
        assert (answer.best, answer.rules) == (same.best, same.rules)
        assert answer.confidence == pytest.approx(same.confidence, abs=1e-5)


def test_gray_files_and_broken_ones_are_answered_beside_each_other(bundle: Bundle, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((30, 50), np.uint8)).save(tmp_path / "gray.bmp")
    (tmp_path / "broken.png").write_bytes(b"no image")
    gray, broken, absent = bundle.predict([tmp_path / name for name in ("gray.bmp", "broken.png", "absent.png")])
    assert gray.best in bundle.manifest.classes
    assert "broken.png is no image of a known format" in (broken.error or "")
    assert "absent.png: No such file" in (absent.error or "")


def test_what_is_for_digits_is_refused(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="polarity is for bundles of digits"):
        bundle.predict([folder / "shapes" / "square" / "000.png"], polarity="dark")
    with pytest.raises(UsageError, match="those in MNIST's form are"):
        fit_bundle(folder / "run", preprocessing="mnist")


def test_gray_images_of_28x28_that_are_no_digits_are_not_taken_for_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    images = rng.integers(0, 256, (240, 28, 28), dtype=np.uint8) // 4 + (labels * 150).astype(np.uint8)[:, None, None]
    np.savez(tmp_path / "plain.npz", images=images, labels=labels)
    train(RECIPE, tmp_path / "run", data=str(tmp_path / "plain.npz"), device="cpu", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        made = fit_bundle(tmp_path / "run", alpha=0.2)
    assert (made.manifest.preprocessing.form, made.manifest.input) == ("resize", (1, 28, 28))
