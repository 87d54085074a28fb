"""What a detection method is, and the registry that holds every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hardy.ood.features import Features

Arrays: TypeAlias = dict[str, NDArray]
Doubles: TypeAlias = NDArray[np.float64]
Fit: TypeAlias = Callable[[Features, NDArray[np.int64]], Arrays]

Need = Literal["logits", "penultimate", "layers", "members", "gradients"]
FittedOn = Literal[
    "nothing",
    "training images",
    "validation images",
    "validation images and synthetic outliers",
    "training images and synthetic outliers",
]

NEEDS: dict[Need, str] = {
    "logits": "the logits alone",
    "penultimate": "a linear last layer",
    "layers": "convolutions",
    "members": "an ensemble",
    "gradients": "gradients of the classifier",
}


@dataclass(frozen=True)
class Method:
    """A way to score inputs.

    Attributes:
        name: what it is called in figures.
        title: what it computes, in one line.
        paper: who proposed it, where; "" if nobody in particular.
        score: from the fitted arrays and features to float64 (N,), higher is more suspicious. With gradients needed it
            is given the arrays, the classifier, images and a batch size instead.
        fit: from features and labels of images, int64 (N,), to the arrays that ``score`` takes; None where nothing is
            fitted, or where fitting takes more than labeled images.
        needs: what of the classifier it looks at.
        fitted_on: which images it is fitted on.
        of_mistakes: whether it is made to find mistakes rather than unfamiliar inputs.
    """

    name: str
    title: str
    paper: str
    score: Callable[..., Doubles]
    fit: Fit | None = None
    needs: Need = "logits"
    fitted_on: FittedOn = "nothing"
    of_mistakes: bool = False

    @property
    def of_training(self) -> bool:
        """Whether it takes no images but training images to fit."""
        return self.fitted_on in ("nothing", "training images")

    @property
    def description(self) -> str:
        paper = f" ({self.paper})" if self.paper else ""
        return f"{self.title}{paper}; needs {NEEDS[self.needs]}; fitted on {self.fitted_on}"
