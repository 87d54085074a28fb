"""Connected components of masks: which of them are the object, which belong to the surroundings, and how many objects.

Components touch by sides or corners. All images of a stack are labeled at once, and each is judged by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Of the largest component's area: what smaller ones are specks.
SPECK = 0.12
# Likewise: what is smaller is noise.
GRAIN = 0.02
# Of the border of an image: a component that covers more is a frame.
FRAME = 0.45
# Of an image's shorter side to its longer: an image as narrow as this is cropped to a 1.
NARROW = 0.5
# Of the width and the height of an image, and of its own box: a frame reaches over so much of the one, and fills less
# of the other.
FRAMED, HOLLOW = 0.8, 0.25
# Its spread across over its spread along: below this, a component is a straight line.
STRAIGHT = 0.25
# Of the height, or width, of everything: two components that are both so long and lie apart are two objects.
APART = 0.5


class Components(NamedTuple):
    """C components of N masks.

    Attributes:
        labels: int (N, H, W), from 1 to C, each component in one image; 0 where the mask is False.
        image: int (C,), which image each is in.
        area: int (C,), in pixels.
        box: int (C, 4): first row, end row, first column, end column.
    """

    labels: NDArray[np.int32]
    image: NDArray[np.int64]
    area: NDArray[np.int64]
    box: NDArray[np.int64]


def components(masks: NDArray[np.bool_]) -> Components:
    """The components of masks, bool (N, H, W)."""
    from scipy import ndimage

    within = np.zeros((3, 3, 3), np.int8)
    within[1] = 1
    labels = np.zeros(masks.shape, np.int32)
    count = int(ndimage.label(masks, within, output=labels))  # type: ignore[arg-type]
    # Of several values that one place is given, the last is kept: so many times faster than ndimage.find_objects.
    image, box = np.zeros(count, np.int64), np.zeros((count, 4), np.int64)
    for axis, across in ((0, labels), (2, labels.swapaxes(1, 2))):
        number, place, _ = np.nonzero(across)
        component = across[across > 0] - 1
        image[component] = number
        box[component, axis + 1] = place + 1
        box[component[::-1], axis] = place[::-1]
    return Components(labels, image, np.bincount(labels.ravel(), minlength=count + 1)[1:], box)


def sizable(found: Components, count: int, share: float = SPECK) -> NDArray[np.bool_]:
    """bool (C,): which have this share of the area of the largest of their image, of ``count`` images."""
    largest = np.zeros(count, np.int64)
    np.maximum.at(largest, found.image, found.area)
    return found.area >= np.maximum(share * largest[found.image], 2)


def surroundings(found: Components) -> NDArray[np.bool_]:
    """bool (C,): which are no object but a frame, the edge of a table, the corner of a page, or a line across it.

    What covers a corner of the image goes on outside, and so does a straight line from one side to another. What
    touches all four sides is an image cropped to its foreground, unless it runs along most of the border. Where
    something stands free of the border, whatever touches it is surroundings.
    """
    height, width = found.labels.shape[1:]
    large = sizable(found, len(found.labels))
    edges = (found.labels[:, 0], found.labels[:, -1], found.labels[:, :, 0], found.labels[:, :, -1])
    contact = np.stack([_counts(found, edge) for edge in edges], axis=1)
    sides = (contact > 0).sum(axis=1)
    corner = _counts(found, found.labels[:, :: max(1, height - 1), :: max(1, width - 1)]) > 0
    line = (sides == 2) | (sides == 3)
    line &= large
    line[line] = [_is_straight(found, int(number)) for number in np.flatnonzero(line)]
    # An upright 1 that is cut out runs along most of the border as well.
    broad = min(height, width) > NARROW * max(height, width)
    rim = (sides == 4) & (contact.sum(axis=1) > FRAME * 2 * (height + width)) & broad
    tall, wide = found.box[:, 1] - found.box[:, 0], found.box[:, 3] - found.box[:, 2]
    inset = (tall > FRAMED * height) & (wide > FRAMED * width) & (found.area < HOLLOW * tall * wide)
    inset[inset] = [_holds(found, int(number)) for number in np.flatnonzero(inset)]
    beside = ((sides < 4) & corner) | line | rim | inset
    inner = np.bincount(found.image[large & (sides == 0)], minlength=len(found.labels))
    return beside | ((sides > 0) & (inner[found.image] > 0))


def _counts(found: Components, labels: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.bincount(labels.ravel(), minlength=len(found.area) + 1)[1:]


def several(found: Components, count: int) -> NDArray[np.bool_]:
    """bool (count,): which images show more than one object.

    Three components or more that are no specks; or two that lie beside or above each other, both long: a stroke of a
    digit that is detached from its rest overlaps it in one direction, or is short.
    """
    kept = np.flatnonzero(sizable(found, count))
    image, box = found.image[kept], found.box[kept]
    number = np.bincount(image, minlength=count)
    result = number >= 3
    order = np.argsort(image, kind="stable")
    first = np.searchsorted(image[order], np.flatnonzero(number == 2))
    one, other = box[order[first]], box[order[first + 1]]
    apart = np.zeros(len(first), bool)
    for low, high, across, end in ((0, 1, 2, 3), (2, 3, 0, 1)):
        length = np.maximum(one[:, high], other[:, high]) - np.minimum(one[:, low], other[:, low])
        shorter = np.minimum(one[:, high] - one[:, low], other[:, high] - other[:, low])
        gap = np.maximum(one[:, across], other[:, across]) - np.minimum(one[:, end], other[:, end])
        apart |= (gap >= 0) & (shorter >= APART * length)
    result[image[order[first]]] = apart
    return result


def _holds(found: Components, number: int) -> bool:
    """Whether a component's box has another one in it that is no mere speck; the outline of a large digit has none."""
    first, end = np.searchsorted(found.image, [found.image[number], found.image[number] + 1])
    inside = (np.array([1, -1, 1, -1]) * (found.box[first:end] - found.box[number]) > 0).all(axis=1)
    return bool((found.area[first:end][inside] > SPECK * found.area[number]).any())


def _is_straight(found: Components, number: int) -> bool:
    top, bottom, left, right = found.box[number]
    places = np.argwhere(found.labels[found.image[number], top:bottom, left:right] == number + 1).astype(np.float64)
    spread = np.linalg.eigvalsh(np.cov(places.T, bias=True) + 1e-9 * np.eye(2))
    return bool(spread[0] < (STRAIGHT**2) * spread[1])
