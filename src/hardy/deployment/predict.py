"""From picture files to answers. A file that cannot be read takes no other one down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hardy.data.image_files import read_pictures, write_pictures
from hardy.deployment import Bundle
from hardy.deployment.abstention import RULES, Decisions
from hardy.deployment.preprocessing import Polarity, Prepared, prepare
from hardy.errors import DataError, unknown


@dataclass(frozen=True)
class Answer:
    """What is said of one picture.

    Attributes:
        image: the file, and the position in it where it holds several.
        answer: the class; None where it abstains, or where there is an error.
        best: the likeliest class, also where it abstains.
        confidence: its calibrated probability.
        prediction_set: the classes that one of them is true of, as often as the bundle says.
        suspicion: higher is more suspicious.
        suspicion_percentile: how much of the validation images is less suspicious, 0 to 100.
        rules: the names of the rules that say to abstain.
        saved: where the network's input was saved, if it was.
        error: why there is no answer; then all else is empty.
    """

    image: str
    answer: str | None = None
    best: str | None = None
    confidence: float = 0.0
    prediction_set: tuple[str, ...] = ()
    suspicion: float = 0.0
    suspicion_percentile: float = 0.0
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
            "suspicion": self.suspicion,
            "suspicion_percentile": self.suspicion_percentile,
        }
        return values | ({"saved": self.saved} if self.saved else {})


class _Stack(NamedTuple):
    """Pictures of one size, and where they stand among all."""

    places: list[int]
    grey: list[NDArray[np.float32]]


def predict_files(
    bundle: Bundle, paths: Sequence[Path], *, polarity: str = "", save_input: Path | None = None
) -> list[Answer]:
    """One answer a picture, in the order of the files; for a file that cannot be read, one that holds the error.

    Args:
        bundle: who answers.
        paths: PNG, JPEG and NPY files.
        polarity: of the ink, ``auto``, ``dark`` or ``light``; by default as the bundle says.
        save_input: a folder to save the network's 28x28 images in, as PNG.

    Raises:
        UsageError: an unknown polarity.
        DataError: ``save_input`` cannot be written to.
    """
    if polarity and polarity not in get_args(Polarity):
        raise unknown("polarity", polarity, get_args(Polarity))
    names: list[str] = []
    errors: dict[int, str] = {}
    stacks: dict[tuple[int, ...], _Stack] = {}
    for path in paths:
        try:
            pictures = read_pictures(path)
        except DataError as error:
            errors[len(names)] = str(error)
            names.append(str(path))
            continue
        for picture in pictures:
            stack = stacks.setdefault(picture.grey.shape, _Stack([], []))
            stack.places.append(len(names))
            stack.grey.append(picture.grey)
            names.append(picture.name)
    answers = [Answer(name, error=errors.get(place)) for place, name in enumerate(names)]
    if stacks:
        places = [place for stack in stacks.values() for place in stack.places]
        prepared = _prepared(stacks, polarity or bundle.facts.preprocessing.polarity)  # type: ignore[arg-type]
        saved = _save(save_input, [names[place] for place in places], prepared) if save_input else [None] * len(places)
        decisions = bundle.answer(prepared)
        for row, place in enumerate(places):
            answers[place] = _answer(names[place], bundle.facts.classes, decisions, row, saved[row])
    return answers


def _prepared(stacks: dict[tuple[int, ...], _Stack], polarity: Polarity) -> Prepared:
    each = [prepare(torch.from_numpy(np.stack(stack.grey)), polarity) for stack in stacks.values()]
    return Prepared(torch.cat([one.images for one in each]), torch.cat([one.ink for one in each]))


def _save(folder: Path, names: list[str], prepared: Prepared) -> list[str | None]:
    return [str(path) for path in write_pictures(folder, names, prepared.images[:, 0].numpy())]


def _answer(name: str, classes: Sequence[str], decisions: Decisions, row: int, saved: str | None) -> Answer:
    best = classes[int(decisions.best[row])]
    rules = tuple(decisions.reasons(row))
    return Answer(
        image=name,
        answer=None if rules else best,
        best=best,
        confidence=float(decisions.confidence[row]),
        prediction_set=tuple(classes[int(place)] for place in np.flatnonzero(decisions.sets[row])),
        suspicion=float(decisions.suspicion[row]),
        suspicion_percentile=float(decisions.percentile[row]),
        rules=rules,
        saved=saved,
    )
