"""Image files as a network of one's own images sees them: resized and cropped as its training images were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hardy.data.arrays import as_channels, check_image_array, resized
from hardy.data.image_files import ARRAYS, BYTES_AT_ONCE, MAX_IMAGES, check_file, read_pixels
from hardy.data.npy import read_parts


class ResizedImage(NamedTuple):
    """One image of a file.

    Attributes:
        name: the file, followed by a position if it is an array of several images.
        pixels: float32 (C, H, W) in [0, 1].
    """

    name: str
    pixels: Tensor


def read_resized(path: Path, shape: Sequence[int], most: int = MAX_IMAGES) -> Iterator[ResizedImage]:
    """Read the images of a file as float32 of ``shape``, (C, H, W): they cover it and are cropped about their center.

    An ``.npy`` file, or the array ``images`` or only array of an ``.npz`` file, holds (H, W), (N, H, W), (N, C, H, W)
    or (N, H, W, C) with C 1 or 3, uint8 or floating point in [0, 1].

    Args:
        path: the file.
        shape: (C, H, W).
        most: how many images it may hold.

    Raises:
        DataError: no such file, of no known format, broken, animated, too large, or of another mode or type.
    """
    channels, height, width = shape
    check_file(path)
    if path.suffix.lower() not in ARRAYS:
        pixels = torch.from_numpy(read_pixels(path, channels, (height, width)).copy())
        yield ResizedImage(str(path), pixels.float() / 255)
        return
    for part in read_parts(path, most=most, bytes_at_once=BYTES_AT_ONCE):
        found = torch.from_numpy(check_image_array(part.array, str(path)))
        found = found.float() / 255 if found.dtype == torch.uint8 else found
        for number, image in enumerate(resized(as_channels(found, channels), (height, width)), part.first):
            yield ResizedImage(f"{path}[{number}]" if part.total > 1 else str(path), image)
