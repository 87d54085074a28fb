"""Pictures of colored shapes in folders, as users have them: several sizes, and files that are no images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("circle", "square", "triangle")
STRANGE = "strange"


def write_shapes(folder: Path, count: int, *, kinds: Sequence[str] = KINDS, side: int = 32, seed: int = 0) -> Path:
    """``shapes`` with so many of each kind, ``strange`` with eight scribbles, and ``unseen.npy`` with eight more."""
    rng = np.random.default_rng(seed)
    for kind in kinds:
        (folder / "shapes" / kind).mkdir(parents=True)
        for number in range(count):
            width, height = (side, side) if number % 4 else (side + 8, side)
            draw(kind, rng, width, height).save(folder / "shapes" / kind / f"{number:03d}.png")
    (folder / "shapes" / kinds[0] / "notes.txt").write_text("drawn by hand")
    (folder / STRANGE).mkdir()
    for number in range(8):
        draw(STRANGE, rng, side, side).save(folder / STRANGE / f"{number}.png")
    np.save(folder / "unseen.npy", np.stack([np.asarray(draw(STRANGE, rng, side, side)) for _ in range(8)]))
    return folder


def draw(kind: str, rng: np.random.Generator, width: int = 32, height: int = 32) -> Image.Image:
    """One shape, dark on a light ground, both of any color."""
    image = Image.new("RGB", (width, height), tuple(rng.integers(150, 256, 3).tolist()))
    pen, ink = ImageDraw.Draw(image), tuple(rng.integers(0, 110, 3).tolist())
    side = min(width, height)
    radius = rng.uniform(0.25, 0.4) * side
    x, y = (length / 2 + rng.uniform(-0.1, 0.1) * side for length in (width, height))
    match kind:
        case "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
        case "square":
            pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=ink)
        case "triangle":
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=ink)
        case _:
            for _ in range(4):
                pen.line([tuple(rng.uniform(0, side, 2)), tuple(rng.uniform(0, side, 2))], fill=ink, width=2)
    return image
