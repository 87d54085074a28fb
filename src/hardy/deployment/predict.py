"""From image files to answers. A file that cannot be read does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.data.image_files import read_gray_images, write_images
from hardy.deployment.abstention import NO_FOREGROUND, RULES, Decisions
from hardy.deployment.preprocessing import Polarity, Preprocessed, as_they_are, concatenate, preprocess
from hardy.deployment.resizing import read_resized
from hardy.errors import DataError, unknown


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


class _Stack(NamedTuple):
    """Images of one size, and their positions among all."""

    positions: list[int]
    gray: list[NDArray[np.float32]]


def predict_files(
    paths: Sequence[str | Path],
    answer: Callable[[Preprocessed], Decisions],
    classes: Sequence[str],
    polarity: str,
    save_input: str | Path | None = None,
) -> list[Answer]:
    """One answer per image, in the order of the files; for a file that cannot be read, one that holds the error.

    Args:
        paths: PNG, JPEG and NPY files.
        answer: decides on preprocessed images.
        classes: the class names.
        polarity: whether the foreground is ``dark`` or ``light``; ``auto`` decides for each image.
        save_input: a folder to save the network's 28x28 images in, as PNG.

    Raises:
        UsageError: an unknown polarity.
        DataError: ``save_input`` cannot be written to.
    """
    if polarity not in get_args(Polarity):
        raise unknown("polarity", polarity, get_args(Polarity))
    answers: list[Answer] = []
    stacks: dict[tuple[int, ...], _Stack] = {}
    for path in map(Path, paths):
        try:
            images = read_gray_images(path)
        except DataError as error:
            answers.append(Answer(str(path), error=str(error)))
            continue
        for image in images:
            stack = stacks.setdefault(image.gray.shape, _Stack([], []))
            stack.positions.append(len(answers))
            stack.gray.append(image.gray)
            answers.append(Answer(image.name))
    if stacks:
        preprocessed = concatenate(
            [preprocess(torch.from_numpy(np.stack(it.gray)), polarity) for it in stacks.values()]  # type: ignore[arg-type]
        )
        positions = [position for stack in stacks.values() for position in stack.positions]
        names = [answers[position].image for position in positions]
        saved: Sequence[Path | None] = [None] * len(names)
        if save_input:
            saved = write_images(Path(save_input), names, preprocessed.images.numpy())
        decisions = answer(preprocessed)
        for row, position in enumerate(positions):
            answers[position] = _answer(names[row], classes, decisions, row, saved[row])
    return answers


def predict_resized(
    paths: Sequence[str | Path],
    answer: Callable[[Preprocessed], Decisions],
    classes: Sequence[str],
    shape: Sequence[int],
    save_input: str | Path | None = None,
) -> list[Answer]:
    """:func:`predict_files` for a network of images of ``shape``, (C, H, W), that are only resized and cropped."""
    answers: list[Answer] = []
    for path in map(Path, paths):
        try:
            names, images = read_resized(path, shape)
        except DataError as error:
            answers.append(Answer(str(path), error=str(error)))
            continue
        saved: Sequence[Path | None] = [None] * len(names)
        if save_input:
            saved = write_images(Path(save_input), names, images.numpy(), first=len(answers))
        decisions = answer(as_they_are(images))
        answers += [_answer(name, classes, decisions, row, saved[row]) for row, name in enumerate(names)]
    return answers


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
