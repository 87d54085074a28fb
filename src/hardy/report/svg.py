"""Charts as SVG that takes its colours from the page.

Matplotlib draws in sentinel colours, one for each role; afterwards each becomes a CSS variable, so that one picture
serves the light and the dark page. The page says what the variables are, and sets the type.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import NamedTuple

from hardy.evaluation.charts import Histogram, LineChart, Matrix
from hardy.report.palette import GRID, INK, MUTED, TEXT, VARIABLES, Key
from hardy.report.plots import draw_histogram, draw_lines, draw_matrix

# One unit is one CSS pixel: 72 dots an inch, and a point is a 72nd of an inch.
_WIDTH, _HEIGHT, _SQUARE = 480, 320, 460
_DOTS = 72

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hardy",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 4,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


class Drawing(NamedTuple):
    """An ``<svg>`` element, and the legend to set beside it; empty where the chart needs none."""

    svg: str
    keys: tuple[Key, ...]


def draw(chart: LineChart | Histogram | Matrix, prefix: str) -> Drawing:
    """Draw a chart. The same chart and prefix give the same bytes.

    ``prefix`` goes before every id, so that pictures share a page.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    size = (_SQUARE, _SQUARE) if isinstance(chart, Matrix) else (_WIDTH, _HEIGHT)
    with matplotlib.style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # The page sets the type, and finds the glyphs that the font for measuring lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        picture = Figure(figsize=(size[0] / _DOTS, size[1] / _DOTS), dpi=_DOTS, layout="constrained")
        picture.patch.set_visible(False)
        axes = picture.add_subplot()
        match chart:
            case LineChart():
                keys = draw_lines(axes, chart)
            case Histogram():
                keys = draw_histogram(axes, chart)
            case Matrix():
                keys = draw_matrix(axes, chart)
        written = io.StringIO()
        picture.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(_themed(written.getvalue(), prefix), keys)


def _themed(svg: str, prefix: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # A style element inside the page would speak to the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    viewbox = re.search(r'viewBox="[^"]*"', svg)
    assert viewbox
    svg = re.sub(r"^<svg.*?>", f'<svg {viewbox[0]} aria-hidden="true">', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\g<1>#{prefix}", svg)
    return re.sub("|".join(VARIABLES), lambda found: f"var({VARIABLES[found[0]]})", svg)
