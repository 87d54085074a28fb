"""Image files as a network of one's own images sees them: resized and cropped as its training images were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from hardy.data.arrays import as_channels, check_image_array, resized
from hardy.data.image_files import read_pixels
from hardy.data.npy import read_npy
from hardy.errors import DataError
from hardy.validation import Images


class NamedImages(NamedTuple):
    """Images of one file.

    Attributes:
        names: the file, followed by a position if it is an array of several images.
        images: float32 (N, C, H, W) in [0, 1].
    """

    names: list[str]
    images: Images


def read_resized(path: Path, shape: Sequence[int]) -> NamedImages:
    """Read the images of a file as float32 of ``shape``, (C, H, W): they cover it and are cropped about their center.

    An ``.npy`` file holds (H, W), (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3, uint8 or floating point in
    [0, 1].

    Raises:
        DataError: no such file, of no known format, broken, animated, too large, or of another mode or type.
    """
    channels, height, width = shape
    if not path.is_file():
        raise DataError(f"{path} is no file; name image files, or NPY files")
    if path.suffix.lower() != ".npy":
        pixels = torch.from_numpy(read_pixels(path, channels, (height, width)).copy())
        return NamedImages([str(path)], pixels[None].float() / 255)
    array = read_npy(path)
    found = torch.from_numpy(check_image_array(array[None] if array.ndim == 2 else array, str(path)))
    found = found.float() / 255 if found.dtype == torch.uint8 else found
    images = resized(as_channels(found, channels), (height, width))
    return NamedImages([str(path)] if len(images) == 1 else [f"{path}[{row}]" for row in range(len(images))], images)
