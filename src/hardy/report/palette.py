"""The roles that colours play in a picture, and the entries of its legend.

Matplotlib draws in the sentinel colours; the page knows the CSS variables, one set for light and one for dark.
"""

from __future__ import annotations

from typing import NamedTuple

COLOURS = 6
"""How many series colours the page has; further series repeat them with a dashed line."""

TEXT = 12
"""The size of type, in CSS pixels."""

INK, MUTED, GRID, ON_STRONG = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{number:02x}" for number in range(1, COLOURS + 1))
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ON_STRONG: "--on-strong",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)},
}


class Key(NamedTuple):
    """One entry of a chart's legend: ``mark`` is line, dashed, reference, area or point."""

    name: str
    variable: str
    mark: str
