"""Bundles, in memory and on disk. A bundle is loaded only if every byte is as it was written; no code of it is run.

``SHA256SUMS`` lists every other file of the folder, in the format of sha256sum. Each file is read once: the bytes that
are hashed are the bytes that are used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from hardy.calibration import Calibrator, restore_calibrator
from hardy.calibration.conformal import Conformal, restore_conformal
from hardy.data.image_files import MAX_IMAGES
from hardy.deployment.abstention import Decisions, Thresholds, decide
from hardy.deployment.manifest import BundleManifest
from hardy.deployment.predict import Answer, predict_files, predict_resized
from hardy.deployment.preprocessing import Preprocessed, as_they_are
from hardy.errors import BundleError, DataError, HardyError, UsageError
from hardy.files import failed_write
from hardy.models.weights import lay_out
from hardy.ood import Detector, Features, extract, restore_detector
from hardy.rng import Randomness
from hardy.runs import MANIFEST

BUNDLE = "bundle.json"
WEIGHTS = "weights.safetensors"
FITTED = "fitted.safetensors"
CARD = "README.md"
SCORECARD = "scorecard.json"
SUMS = "SHA256SUMS"

REQUIRED = {BUNDLE, WEIGHTS, FITTED, CARD}
MAX_BYTES = 1 << 32
"""Of all files together."""
MAX_LOGIT = 1e5
MAX_WEIGHT = 1e6
MAX_FITTED = 1e12
"""Beyond these, in size, numbers are no network's or fit's but damage or somebody's trick."""

AnyPath: TypeAlias = str | Path
Paths: TypeAlias = list[str] | list[Path] | tuple[AnyPath, ...]

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A classifier with everything that it takes to answer or to abstain.

    Attributes:
        manifest: the content of ``bundle.json``.
        classifier: in evaluation mode.
        calibrator: from logits to probabilities.
        detector: from features to OOD scores.
        conformal: from probabilities to prediction sets.
        reference: float64 (R,), ascending, the OOD scores of validation images.
    """

    manifest: BundleManifest
    classifier: nn.Module
    calibrator: Calibrator
    detector: Detector
    conformal: Conformal
    reference: NDArray[np.float64]

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.manifest.rules.max_ood_score, self.manifest.rules.min_confidence)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that its answers follow from."""
        return hashlib.sha256(self.manifest.to_json().encode() + safetensors.numpy.save(_packed(self))).hexdigest()

    @overload
    def predict(self, images: Paths, *, polarity: str = ..., save_input: AnyPath | None = ...) -> list[Answer]: ...
    @overload
    def predict(self, images: AnyPath, *, polarity: str = ..., save_input: AnyPath | None = ...) -> Answer: ...
    def predict(self, images: AnyPath | Paths, *, polarity: str = "", save_input: AnyPath | None = None) -> Any:
        """Answer or abstain for image files: PNG, JPEG, BMP, GIF, TIFF, WebP, NPY or NPZ.

        Args:
            images: the path of a file with one image; or several paths, whose NPY and NPZ files may hold several
                images.
            polarity: whether the foreground is ``dark`` or ``light``; ``auto`` decides for each image; by default as
                the manifest says.
            save_input: a folder to save the images that the network sees in, as PNG.

        Returns:
            For one path its answer. For several, one answer per image, in order; for a file that cannot be read, one
            that holds the error.

        Raises:
            UsageError: an unknown polarity, or one for images that are only resized and cropped.
            DataError: the one file cannot be read or holds several images; or ``save_input`` cannot be written to.

        Example:
            >>> answer = bundle.predict("digit.png")
            >>> answer.best, answer.answer in (answer.best, None)
            ('7', True)
        """
        if not isinstance(images, str | Path):
            return list(self.predictions(images, polarity=polarity, save_input=save_input))
        answers = list(islice(self.predictions([images], polarity=polarity, save_input=save_input), 2))
        if len(answers) > 1:
            raise DataError(f"{images} holds several images; pass a list of paths to get a list of answers")
        if answers[0].error:
            raise DataError(answers[0].error)
        return answers[0]

    def predictions(
        self,
        images: Sequence[AnyPath],
        *,
        polarity: str = "",
        save_input: AnyPath | None = None,
        limit: int = MAX_IMAGES,
    ) -> Iterator[Answer]:
        """:meth:`predict` for several files, one answer after another, so that files of any size take little memory.

        Args:
            images: several paths.
            polarity: as for :meth:`predict`.
            save_input: as for :meth:`predict`.
            limit: how many images one NPY or NPZ file may hold.
        """
        preprocessing, classes = self.manifest.preprocessing, self.manifest.classes
        if preprocessing.form == "resize":
            if polarity:
                raise UsageError("polarity is for bundles of digits; this one takes images with their background")
            return predict_resized(images, self.answer, classes, self.manifest.input, save_input, limit)
        return predict_files(images, self.answer, classes, polarity or preprocessing.polarity, save_input, limit)

    def answer(self, preprocessed: Preprocessed, batch_size: int = 500) -> Decisions:
        """Answer or abstain for each image by itself."""
        return self.decide(preprocessed, extract(self.classifier, preprocessed.images, batch_size))

    def decide(self, preprocessed: Preprocessed, features: Features) -> Decisions:
        """The same, from the features of these images."""
        probabilities = self.calibrator.probabilities(features.logits)
        return decide(
            probabilities,
            self.conformal.sets(probabilities, set_streams(len(probabilities))),
            self.detector.scores(features),
            preprocessed.foreground.numpy(),
            preprocessed.several.numpy(),
            thresholds=self.thresholds,
            reference=self.reference,
        )


def set_streams(count: int) -> Randomness:
    """The streams that prediction sets break ties with: an image always gets the same set, at any position."""
    return Randomness(0, torch.zeros(count, dtype=torch.int64), ("prediction sets",))


def write_bundle(out: str | Path, bundle: Bundle, card: str, scorecard: Path | None = None) -> None:
    """Write a bundle to a folder that is missing or empty, in one step.

    Args:
        out: the folder.
        bundle: what is written.
        card: the text of its ``README.md``.
        scorecard: a file to copy into the bundle.

    Raises:
        BundleError: the folder holds something.
        UsageError: it cannot be written.
        HardyError: the disk is full.
    """
    out = Path(out)
    check_free(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in bundle.classifier.state_dict().items()}
        (temporary / WEIGHTS).write_bytes(safetensors.torch.save(weights))
        (temporary / FITTED).write_bytes(safetensors.numpy.save(_packed(bundle)))
        (temporary / BUNDLE).write_text(bundle.manifest.to_json(), encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        if scorecard is not None:
            shutil.copyfile(scorecard, temporary / SCORECARD)
        names = sorted(file.name for file in temporary.iterdir())
        lines = (f"{hashlib.sha256((temporary / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
        (temporary / SUMS).write_text("".join(lines), encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        raise failed_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path) -> None:
    """Raise :class:`BundleError` unless ``out`` is missing or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} exists and is not empty; choose another --out")


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check it, hashes first.

    Raises:
        BundleError: no bundle; a file is missing, altered, not listed or not a regular file; a listed path leaves the
            folder; another schema; or its parts do not fit each other.

    Example:
        >>> from hardy.deployment import load_bundle, write_bundle
        >>> write_bundle("my-bundle", bundle, card="# My bundle")
        >>> load_bundle("my-bundle").manifest.classes[:3]
        ('0', '1', '2')
    """
    path = Path(path)
    files = _checked_files(path)
    manifest = BundleManifest.parse(files[BUNDLE], str(path / BUNDLE))
    unknown = files.keys() - REQUIRED - {SCORECARD}
    if unknown:
        raise BundleError(f"{path} holds {', '.join(sorted(unknown))}, which does not belong in a bundle")
    try:
        arrays, state = safetensors.numpy.load(files[FITTED]), safetensors.torch.load(files[WEIGHTS])
        _check_numbers({name: value.numpy() for name, value in state.items()}, MAX_WEIGHT)
        _check_numbers(arrays, MAX_FITTED)
        classifier = _classifier(manifest, state)
        bundle = Bundle(
            manifest,
            classifier,
            restore_calibrator(manifest.calibrator, _part(arrays, "calibrator")),
            restore_detector(manifest.detector, _part(arrays, "detector")),
            restore_conformal(manifest.prediction_sets, _part(arrays, "conformal")),
            _reference(arrays),
        )
        _check_answers(bundle)
    except SafetensorError as error:
        raise BundleError(f"{path}: its arrays cannot be read: {error}") from None
    except (HardyError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # The hashes are right, so the bundle was written with parts that do not fit.
        raise BundleError(f"{path}: its parts do not fit each other: {error}") from error
    return bundle


def _checked_files(path: Path) -> dict[str, bytes]:
    if not path.is_dir():
        raise BundleError(f"{path} is no folder; a bundle is a folder that 'hardy bundle' writes")
    if (path / MANIFEST).is_file():
        raise BundleError(f"{path} is a run; make a bundle of it first: hardy bundle {path} --out FOLDER")
    sums = path / SUMS
    if not sums.is_file() or sums.is_symlink() or sums.stat().st_size > 1 << 16:
        raise BundleError(f"{path} is no bundle: it has no {SUMS}")
    wanted = _listed(sums)
    there = {file.name for file in path.iterdir()} - {SUMS}
    for name in sorted(wanted.keys() - there):
        raise BundleError(f"{path} lacks {name}, which {SUMS} lists; copy the bundle again")
    for name in sorted(there - wanted.keys()):
        raise BundleError(f"{path} holds {name}, which {SUMS} does not list; remove it, or copy the bundle again")
    for name in sorted(REQUIRED - wanted.keys()):
        raise BundleError(f"{path} is not a complete bundle: it has no {name}")
    files: dict[str, bytes] = {}
    for name, digest in wanted.items():
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file} is a link or a folder; a bundle holds regular files")
        if file.stat().st_size + sum(map(len, files.values())) > MAX_BYTES:
            raise BundleError(f"{path} holds more than {MAX_BYTES:,} bytes")
        files[name] = file.read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise BundleError(f"{file} was altered: its SHA-256 is not the one in {SUMS}; copy the bundle again")
    return files


def _listed(sums: Path) -> dict[str, str]:
    try:
        text = sums.read_bytes().decode("ascii")
    except UnicodeDecodeError:
        raise BundleError(f"{sums} was altered: it is not plain text; copy the bundle again") from None
    *lines, rest = text.split("\n")
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            raise BundleError(f"{sums}, line {number}, is no SHA-256 with a file's name; copy the bundle again")
        digest, name = match.groups()
        if not _NAME.fullmatch(name):
            raise BundleError(f"{sums}, line {number}: '{name}' leaves the folder, or is no plain file name")
        if name in listed:
            raise BundleError(f"{sums} lists {name} twice")
        listed[name] = digest
    if rest or not listed:
        raise BundleError(f"{sums} was cut off; copy the bundle again")
    return listed


def _packed(bundle: Bundle) -> dict[str, NDArray]:
    parts = {
        "calibrator": bundle.calibrator.arrays,
        "detector": bundle.detector.arrays,
        "conformal": bundle.conformal.arrays,
        "ood_score": {"reference": bundle.reference},
    }
    return {
        f"{part}/{name}": np.array(array, order="C") for part, arrays in parts.items() for name, array in arrays.items()
    }


def _part(arrays: Mapping[str, NDArray], name: str) -> dict[str, NDArray]:
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


def _reference(arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
    reference = arrays["ood_score/reference"]
    if reference.ndim != 1 or not len(reference) or reference.dtype != np.float64 or (np.diff(reference) < 0).any():
        raise BundleError("ood_score/reference must be float64, one dimension, ascending")
    return reference


def _check_numbers(arrays: Mapping[str, NDArray], limit: float) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"array '{name}' is not of finite numbers")
        largest = float(np.abs(array.astype(np.float64)).max(initial=0.0))
        if largest > limit:
            raise BundleError(f"array '{name}' has values up to {largest:.3g}; at most {limit:g} is plausible")


def _classifier(manifest: BundleManifest, state: Mapping[str, Tensor]) -> nn.Module:
    classifier = lay_out(manifest.model.name, manifest.model.arguments)
    classifier.load_state_dict(state, strict=True, assign=True)
    return classifier.eval().requires_grad_(False)


def _check_answers(bundle: Bundle) -> None:
    images = torch.zeros(1, *bundle.manifest.input)
    decisions = bundle.answer(as_they_are(images))
    with torch.no_grad():
        largest = float(bundle.classifier(images).abs().max())
    if not largest < MAX_LOGIT:
        raise BundleError(f"logits up to {largest:.3g}; a classifier's are below {MAX_LOGIT:g}")
    if decisions.sets.shape != (1, len(bundle.manifest.classes)):
        raise BundleError(f"{len(bundle.manifest.classes)} class names for {decisions.sets.shape[1]} classes")
