"""From image files to answers. A file that cannot be read does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch

from hardy.data.image_files import MAX_IMAGES, GrayImage, read_gray_images, write_images
from hardy.deployment.abstention import NO_FOREGROUND, RULES, Decisions
from hardy.deployment.preprocessing import Polarity, Preprocessed, as_they_are, preprocess_each
from hardy.deployment.resizing import ResizedImage, read_resized
from hardy.errors import DataError, unknown

AT_ONCE, VALUES_AT_ONCE = 200, 1 << 23
"""Images that are answered together at most, and their values: enough to be quick, and little memory."""


@dataclass(frozen=True)
class Answer:
    """The answer for one image.

    Attributes:
        image: the file, followed by a position if the file holds several images.
        answer: the class; None if the bundle abstains or there is an error.
        best: the most probable class, also if the bundle abstains; None where the image shows nothing.
        confidence: its calibrated probability; None where the image shows nothing, as are the scores.
        prediction_set: the classes that contain the true one with the probability that the bundle states.
        ood_score: higher is less like the training images.
        ood_score_percentile: how many of the validation images have a lower score, 0 to 100.
        rules: the names of the rules that say to abstain.
        saved: where the network's input was saved, if it was.
        error: why there is no answer; everything else is then empty.
    """

    image: str
    answer: str | None = None
    best: str | None = None
    confidence: float | None = None
    prediction_set: tuple[str, ...] = ()
    ood_score: float | None = None
    ood_score_percentile: float | None = None
    rules: tuple[str, ...] = ()
    saved: str | None = None
    error: str | None = None

    @property
    def reasons(self) -> list[str]:
        return [RULES[rule] for rule in self.rules]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        if self.error:
            return {"image": self.image, "error": self.error}
        values: dict[str, Any] = {
            "image": self.image,
            "answer": self.answer,
            "abstained": self.answer is None,
            "rules": list(self.rules),
            "best": self.best,
            "confidence": self.confidence,
            "prediction_set": list(self.prediction_set),
            "ood_score": self.ood_score,
            "ood_score_percentile": self.ood_score_percentile,
        }
        return values | ({"saved": self.saved} if self.saved else {})


T = TypeVar("T", GrayImage, ResizedImage)


def predict_files(
    paths: Sequence[str | Path],
    answer: Callable[[Preprocessed], Decisions],
    classes: Sequence[str],
    polarity: str,
    save_input: str | Path | None = None,
    limit: int = MAX_IMAGES,
) -> Iterator[Answer]:
    """One answer per image, in the order of the files; for a file that cannot be read, one that holds the error.

    A few images are in memory at a time.

    Args:
        paths: image files, NPY and NPZ files.
        answer: decides on preprocessed images.
        classes: the class names.
        polarity: whether the foreground is ``dark`` or ``light``; ``auto`` decides for each image.
        save_input: a folder to save the network's 28x28 images in, as PNG.
        limit: how many images one file may hold.

    Raises:
        UsageError: an unknown polarity.
        DataError: ``save_input`` cannot be written to.
    """
    if polarity not in get_args(Polarity):
        raise unknown("polarity", polarity, get_args(Polarity))

    def prepare(images: Sequence[GrayImage]) -> Preprocessed:
        return preprocess_each([it.gray for it in images], polarity)  # type: ignore[arg-type]

    return _answers(paths, lambda path: read_gray_images(path, limit), prepare, answer, classes, save_input)


def predict_resized(
    paths: Sequence[str | Path],
    answer: Callable[[Preprocessed], Decisions],
    classes: Sequence[str],
    shape: Sequence[int],
    save_input: str | Path | None = None,
    limit: int = MAX_IMAGES,
) -> Iterator[Answer]:
    """:func:`predict_files` for a network of images of ``shape``, (C, H, W), that are only resized and cropped."""

    def prepare(images: Sequence[ResizedImage]) -> Preprocessed:
        return as_they_are(torch.stack([it.pixels for it in images]))

    return _answers(paths, lambda path: read_resized(path, shape, limit), prepare, answer, classes, save_input)


def _answers(
    paths: Sequence[str | Path],
    read: Callable[[Path], Iterator[T]],
    prepare: Callable[[Sequence[T]], Preprocessed],
    answer: Callable[[Preprocessed], Decisions],
    classes: Sequence[str],
    save_input: str | Path | None,
) -> Iterator[Answer]:
    def found(path: Path) -> Iterator[T | Answer]:
        try:
            yield from read(path)
        except DataError as error:
            yield Answer(str(path), error=str(error))

    done = 0
    for some in _in_parts(it for path in paths for it in found(Path(path))):
        readable = [it for it in some if not isinstance(it, Answer)]
        answered: list[Answer] = []
        if readable:
            preprocessed, names = prepare(readable), [it.name for it in readable]
            saved: Sequence[Path | None] = [None] * len(names)
            if save_input:
                saved = write_images(Path(save_input), names, preprocessed.images.numpy(), first=done)
            decisions = answer(preprocessed)
            answered = [_answer(name, classes, decisions, row, saved[row]) for row, name in enumerate(names)]
        done += len(readable)
        in_turn = iter(answered)
        yield from (it if isinstance(it, Answer) else next(in_turn) for it in some)


def _in_parts(images: Iterable[T | Answer]) -> Iterator[list[T | Answer]]:
    part: list[T | Answer] = []
    values = 0
    for image in images:
        part.append(image)
        values += 0 if isinstance(image, Answer) else math.prod(image[1].shape)
        if len(part) >= AT_ONCE or values >= VALUES_AT_ONCE:
            yield part
            part, values = [], 0
    if part:
        yield part


def _answer(name: str, classes: Sequence[str], decisions: Decisions, row: int, saved: Path | None) -> Answer:
    rules, place = tuple(decisions.reasons(row)), str(saved) if saved else None
    if NO_FOREGROUND in rules:
        # What the network says of an empty image says nothing about the picture.
        return Answer(name, rules=(NO_FOREGROUND,), saved=place)
    best = classes[int(decisions.best[row])]
    return Answer(
        image=name,
        answer=None if rules else best,
        best=best,
        confidence=float(decisions.confidence[row]),
        prediction_set=tuple(classes[int(place)] for place in np.flatnonzero(decisions.sets[row])),
        ood_score=float(decisions.ood_score[row]),
        ood_score_percentile=float(decisions.percentile[row]),
        rules=rules,
        saved=place,
    )
