"""Text and tables in Markdown, safe to put anything in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def inline(text: str) -> str:
    """``text`` as one line that shows as itself: no markup, HTML, link or table cell begins in it."""
    text = re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", " ".join(text.split()))
    # An underscore within a word is only itself, and names read better without backslashes.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    # At the start of a line these begin a list or a heading.
    return re.sub(r"^(\d*)(?=([-=]+|#+|[+.)])(\s|$))", r"\1\\", text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table of plain text; the columns at the places ``numeric`` stand to the right."""
    right = set(numeric)
    rule = ["---:" if place in right else "---" for place in range(len(header))]
    lines = [[inline(cell) for cell in header], rule, *([inline(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(items: Iterable[str]) -> str:
    """A list of plain text."""
    return "\n".join(f"- {inline(item)}" for item in items)
