"""Pictures as data. A property says what to draw; only the report knows how it looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True)
class Series:
    """One line, set of steps or set of bars: ``y`` over ``x``, with an optional band from ``low`` to ``high``."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    style: Literal["line", "step", "bars", "points", "reference"] = "line"


@dataclass(frozen=True)
class LineChart:
    """Series on common axes. Axis limits of None fit the data; ``log_x`` and ``log_y`` need positive values.

    ``x_names`` says what the places 0, 1, 2, … of the x axis are called, where they are no numbers.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    x_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Histogram:
    """Distributions over common bins: ``edges`` (B+1,), and per name the share of examples in each bin (B,)."""

    title: str
    caption: str
    x_label: str
    edges: Floats
    shares: dict[str, Floats]


@dataclass(frozen=True)
class Matrix:
    """Counts, (rows, columns), with their names; shaded by the share within the row, the diagonal apart."""

    title: str
    caption: str
    row_label: str
    column_label: str
    names: tuple[str, ...]
    counts: NDArray[np.integer]


@dataclass(frozen=True)
class Picture:
    """One image of a gallery: (H, W) or (H, W, 3), in [0, 1], or in [-1, 1] where ``signed`` (a difference).

    ``classes`` names the true class and the predicted one, by which the report finds the picture.
    """

    image: Floats
    caption: str
    signed: bool = False
    classes: tuple[str, str] | None = None


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures; with ``columns`` every row has one picture per column, without they are a flow of pictures."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True)
class Table:
    """Figures in text: a header and its rows."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = field(default=())


def picture_of(image: Floats) -> Floats:
    """An image (C, H, W) as :class:`Picture` takes it: (H, W) or (H, W, 3)."""
    return image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)


def class_names(names: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """What a classifier's classes are called; those that the dataset does not name are numbered."""
    return (*names, *(f"#{number}" for number in range(len(names), classes)))


def plain(name: str) -> str:
    """A name in code as words."""
    return name.replace("_", " ")


Chart: TypeAlias = LineChart | Histogram | Matrix | Gallery | Table
