"""What a bundle makes of pictures that people might hand in: digits that it should answer, and what it should refuse.

    python benchmarks/pages.py BUNDLE [--each 150] [--json PATH]

The digits are those of mnist/test. The pictures are drawn with Pillow, from other random numbers and by other code than
hardy's own outliers. They are not blind: preprocessing was looked at with such pictures, of validation digits,
while it was written, and the bundle's default score was chosen after the discriminator's answers to them were known.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hardy.data import load_dataset
from hardy.deployment import Bundle, load_bundle
from hardy.deployment.preprocessing import concatenate, preprocess

Picture = NDArray[np.uint8]


def paper(side: int, rng: np.random.Generator, *, noise: float = 0.02) -> NDArray[np.float64]:
    """Light paper, lit from one side."""
    y, x = np.mgrid[0 : 1 : 1j * side, 0 : 1 : 1j * side]
    slope = rng.uniform(-0.12, 0.12, 2)
    return rng.uniform(0.75, 0.97) + slope[0] * (y - 0.5) + slope[1] * (x - 0.5) + rng.normal(0, noise, (side, side))


def photographed(ink: NDArray[np.float64], rng: np.random.Generator, *, light: NDArray | float = 1.0) -> Picture:
    return to_bytes(paper(len(ink), rng) * light * (1 - 0.85 * ink))


def to_bytes(values: NDArray) -> Picture:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def enlarged(digit: Picture, side: int) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255


def cropped_to_ink(digit: Picture, rng: np.random.Generator) -> Picture:
    """Black on white, without any margin, at one to six times the size."""
    rows, columns = (np.flatnonzero((digit > 60).any(axis)) for axis in (1, 0))
    cut = Image.fromarray(255 - digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    times = int(rng.integers(1, 7))
    return np.asarray(cut.resize((cut.width * times, cut.height * times), Image.Resampling.BICUBIC))


def framed(digit: Picture, rng: np.random.Generator) -> Picture:
    """Within the border of a canvas."""
    side = int(rng.integers(100, 240))
    page = np.zeros((side, side))
    inner = side * 2 // 3
    page[(side - inner) // 2 :][:inner, (side - inner) // 2 :][:, :inner] = enlarged(digit, inner)
    inset, wide = int(rng.integers(0, side // 20)), int(rng.integers(1, 4))
    for row in range(inset, inset + wide):
        page[row, inset : side - inset] = page[side - 1 - row, inset : side - inset] = 1
        page[inset : side - inset, row] = page[inset : side - inset, side - 1 - row] = 1
    return to_bytes(1 - page)


def fine_under_a_shadow(digit: Picture, rng: np.random.Generator) -> Picture:
    """A fine pen on paper over which the hard edge of a shadow falls."""
    side = int(rng.integers(160, 300))
    bold = Image.fromarray(to_bytes(enlarged(digit, side * 3 // 5)))
    thin = np.asarray(bold.filter(ImageFilter.MinFilter(2 * (side // 45) + 1)), np.float64) / 255
    page = np.zeros((side, side))
    top, left = rng.integers(side // 10, side * 3 // 10, 2)
    page[top : top + len(thin), left : left + len(thin)] = thin
    y, x = np.mgrid[-1 : 1 : 1j * side, -1 : 1 : 1j * side]
    turn = rng.uniform(0, 2 * np.pi)
    shadow = 1 - rng.uniform(0.15, 0.4) * (np.cos(turn) * x + np.sin(turn) * y > rng.uniform(-0.4, 0.4))
    return photographed(page, rng, light=shadow)


def two_digits(digit: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Side by side."""
    side, inner = 180, int(rng.integers(70, 88))
    page = np.zeros((side, side))
    for number, each in enumerate((digit, other)):
        page[40 : 40 + inner, 4 + number * 86 :][:, :inner] = enlarged(each, inner)
    return photographed(page, rng)


def blank_page(rng: np.random.Generator) -> Picture:
    return to_bytes(paper(int(rng.integers(60, 260)), rng, noise=float(rng.uniform(0, 0.05))))


def table_edge(rng: np.random.Generator) -> Picture:
    """Empty paper that ends somewhere on a darker or lighter table: soft or sharp, on one side or a corner."""
    side = int(rng.integers(90, 260))
    y, x = np.mgrid[-1 : 1 : 1j * side, -1 : 1 : 1j * side]
    turn, where = rng.choice((0, np.pi / 2, np.pi, -np.pi / 2)) + rng.normal(0, 0.06), rng.uniform(0.3, 0.95)
    away = np.cos(turn) * x + np.sin(turn) * y - where
    if rng.random() < 0.3:
        away = np.maximum(away, -np.sin(turn) * x + np.cos(turn) * y - rng.uniform(0.3, 0.95))
    table = np.clip(away * side / rng.uniform(2, 12) + 0.5, 0, 1)
    wood = rng.uniform(0.1, 0.6) + rng.normal(0, 0.03, (side, 1)) * rng.uniform(0, 1)
    return to_bytes(paper(side, rng) * (1 - table) + wood * table)


def _drawn(rng: np.random.Generator, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Picture:
    side = int(rng.integers(90, 200))
    large = Image.new("L", (4 * side, 4 * side))
    draw(ImageDraw.Draw(large), 4 * side)
    ink = np.asarray(large.resize((side, side), Image.Resampling.BOX), np.float64) / 255
    return photographed(ink, rng) if rng.random() < 0.5 else to_bytes(1 - ink)


def _box(rng: np.random.Generator, side: int, low: float, high: float) -> tuple[float, float, float, float]:
    wide, tall = rng.uniform(low, high, 2) * side
    left, top = rng.uniform(0.06 * side, 0.94 * side - wide), rng.uniform(0.06 * side, 0.94 * side - tall)
    return left, top, left + wide, top + tall


def disc(rng: np.random.Generator) -> Picture:
    size = rng.uniform(0.15, 0.7)

    def draw(on: ImageDraw.ImageDraw, side: int) -> None:
        left, top = rng.uniform(0.06 * side, (0.94 - size) * side, 2)
        on.ellipse((left, top, left + size * side, top + size * side), fill=255)

    return _drawn(rng, draw)


def ellipse(rng: np.random.Generator) -> Picture:
    return _drawn(rng, lambda on, side: on.ellipse(_box(rng, side, 0.12, 0.7), fill=255))


def dot(rng: np.random.Generator) -> Picture:
    return _drawn(rng, lambda on, side: on.ellipse(_box(rng, side, 0.03, 0.12), fill=255))


def blot(rng: np.random.Generator) -> Picture:
    def draw(on: ImageDraw.ImageDraw, side: int) -> None:
        x, y = rng.uniform(0.35 * side, 0.65 * side, 2)
        for _ in range(int(rng.integers(5, 14))):
            reach = rng.uniform(0.04, 0.14) * side
            dx, dy = rng.normal(0, 0.08 * side, 2)
            on.ellipse((x + dx - reach, y + dy - reach, x + dx + reach, y + dy + reach), fill=255)

    return _drawn(rng, draw)


def polygon(rng: np.random.Generator) -> Picture:
    def draw(on: ImageDraw.ImageDraw, side: int) -> None:
        corners = int(rng.integers(3, 9))
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, corners))
            if rng.random() < 0.5
            else np.arange(corners) * 2 * np.pi / corners
        )
        reach = rng.uniform(0.12, 0.4) * side * (1 if rng.random() < 0.5 else rng.uniform(0.5, 1, corners))
        turn = rng.uniform(0, 2 * np.pi)
        on.polygon(
            list(zip(side / 2 + reach * np.cos(angles + turn), side / 2 + reach * np.sin(angles + turn), strict=True)),
            fill=255,
        )

    return _drawn(rng, draw)


def scribble(rng: np.random.Generator) -> Picture:
    def draw(on: ImageDraw.ImageDraw, side: int) -> None:
        steps = np.cumsum(rng.normal(0, 1, (int(rng.integers(6, 30)), 2)), axis=0)
        steps = (steps - steps.min(0)) / np.ptp(steps, axis=0)
        places = [tuple(place) for place in side * (0.12 + 0.76 * steps)]
        on.line(places, fill=255, width=int(side * rng.uniform(0.02, 0.05)), joint="curve")

    return _drawn(rng, draw)


FILLED: dict[str, Callable[[np.random.Generator], Picture]] = {
    "discs": disc, "ellipses": ellipse, "dots": dot, "blots": blot, "polygons": polygon,
}  # fmt: skip
"""Filled shapes, by name."""


def mirrored(digit: Picture) -> Picture:
    """Of a digit that is another one, or none, in a mirror."""
    return np.ascontiguousarray(digit[:, ::-1])


def spliced(digit: Picture, other: Picture) -> Picture:
    """The upper half of one digit on the lower half of another."""
    return np.concatenate([digit[:14], other[14:]])


def ask(
    bundle: Bundle, name: str, pictures: list[Picture], labels: NDArray[np.int64] | None = None
) -> dict[str, float]:
    """What share is answered, and of digits how many are answered right and wrong."""
    seen = concatenate([preprocess(torch.tensor(it, dtype=torch.float32)[None] / 255) for it in pictures])
    decisions = bundle.answer(seen)
    found = {"n": len(pictures), "answered": float(decisions.answered.mean())}
    text = f"{name:28s} answered {found['answered']:6.1%} of {len(pictures)}"
    if labels is not None:
        right = decisions.answered & (decisions.best == labels)
        found |= {"right": float(right.mean()), "wrong": int(decisions.answered.sum() - right.sum())}
        text += f"; right {found['right']:.1%} of all, {found['wrong']} wrong"
    print(text, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--each", type=int, default=150, help="pictures of each kind")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    bundle, each, rng = load_bundle(arguments.bundle), arguments.each, np.random.default_rng(0)
    test = load_dataset("mnist/test")
    chosen = test.measuring_order()[: 2 * each]
    digits, labels = test.images[chosen, 0].numpy(), test.labels[chosen].numpy()
    first, second = digits[:each], digits[each:]
    found: dict[str, dict[str, float]] = {}
    for name, draw in {
        "digits cropped to the ink": cropped_to_ink,
        "digits in a frame": framed,
        "fine pen under a shadow": fine_under_a_shadow,
    }.items():
        found[name] = ask(bundle, name, [draw(digit, rng) for digit in first], labels[:each])
    for name, drawn in {
        **FILLED,
        "blank pages": blank_page,
        "pages on a table": table_edge,
        "scribbles": scribble,
    }.items():
        found[name] = ask(bundle, name, [drawn(rng) for _ in range(each)])
    pairs = list(zip(first, second, strict=True))
    found["two digits"] = ask(bundle, "two digits", [two_digits(*pair, rng) for pair in pairs])
    found["spliced digits"] = ask(bundle, "spliced digits", [spliced(*pair) for pair in pairs])
    # 0, 1 and 8 look much the same in a mirror.
    changed = first[~np.isin(labels[:each], (0, 1, 8))]
    found["mirrored digits"] = ask(bundle, "mirrored digits", [mirrored(digit) for digit in changed])
    filled = float(np.mean([found[name]["answered"] for name in FILLED]))
    print(f"filled shapes and blots together: answered {filled:.1%}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
