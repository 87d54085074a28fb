"""Picture files, which are not trusted: PNG, JPEG and NPY to grey values. Sizes are bounded before any decoding."""

from __future__ import annotations

import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.data.npy import read_npy
from hardy.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 1 << 26
"""Of one picture: more than a telephone's camera takes. A small file can hold a picture that fills the memory."""

MAX_BYTES = 1 << 28
"""Of one PNG or JPEG file."""

MAX_SIDE = 512
"""A larger picture is made so small as it is read; a digit is found in it all the same."""

MAX_RATIO = 64
"""Longer strips than that hold no digit, and making them small would leave nothing of their short side."""

_COLOURS = (3, 4)


class Picture(NamedTuple):
    """What a file holds.

    Attributes:
        name: the file, and for one of several in an array its position behind it.
        grey: float32 (H, W) in [0, 1], 0 black; what is transparent lies on white paper, or on black where nothing
            would show on white.
    """

    name: str
    grey: NDArray[np.float32]


def read_pictures(path: Path) -> list[Picture]:
    """Read the pictures of one file.

    A PNG or JPEG file holds one, of any mode and depth; JPEG is turned as its camera says. An ``.npy`` file holds
    (H, W), or several: (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3; uint8, uint16, bool, or floating point
    in [0, 1].

    Raises:
        DataError: no such file, none of the three, broken, animated, empty, or too large. The message names the file,
            and what would be right.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no file; name PNG, JPEG or NPY files")
    if not status.st_size:
        raise DataError(f"{path} is empty, 0 bytes; save the picture again")
    if path.suffix.lower() == ".npy":
        stack = _grey_stack(read_npy(path), str(path))
        if len(stack) == 1:
            return [Picture(str(path), stack[0])]
        return [Picture(f"{path}[{index}]", grey) for index, grey in enumerate(stack)]
    if status.st_size > MAX_BYTES:
        raise DataError(
            f"{path} has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read: make the picture smaller"
        )
    return [Picture(str(path), _read_picture(path))]


def write_pictures(folder: Path, names: list[str], images: NDArray[np.float32]) -> list[Path]:
    """Write images, float32 (N, H, W) in [0, 1], as 8-bit grey PNG files, numbered and named after ``names``.

    Raises:
        DataError: the folder cannot be written to.
    """
    from PIL import Image

    written = []
    levels = np.rint(images * 255).astype(np.uint8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, level) in enumerate(zip(names, levels, strict=True)):
            path = folder / f"{number:05d}-{_plain(name)}.png"
            Image.fromarray(level).save(path)
            written.append(path)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return written


def _plain(name: str) -> str:
    last = Path(name).name
    return "".join(letter if letter.isalnum() else "-" for letter in last)[:80].strip("-")


def _read_picture(path: Path) -> NDArray[np.float32]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Damage that Pillow reads past, and sizes near its own limit; ours come before decoding.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _check_header(path, image)
                return _decoded(image)
    except Image.DecompressionBombError:
        raise DataError(f"{path} has far more than {MAX_PIXELS:,} pixels, so it is not read; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path} is neither PNG, JPEG nor NPY; save it as one of them") from None
    except DataError:
        raise
    # Pillow answers damage with nearly any kind of error: SyntaxError is a broken PNG, struct.error broken EXIF.
    except Exception as error:
        raise DataError(f"{path} cannot be read, so it is truncated or damaged ({error}); save it again") from error


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path} is {width}x{height}; at most {MAX_PIXELS:,} pixels are read: make it smaller")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise DataError(f"{path} is a strip of {width}x{height}; cut the digit out of it")
    # A JPEG of several frames is a telephone's: the first is the photograph.
    frames = getattr(image, "n_frames", 1)
    if image.format == "PNG" and frames > 1:
        raise DataError(f"{path} is animated, {frames} frames; save the one that is meant as a picture of its own")


def _decoded(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image, ImageOps

    # Lets a JPEG decoder skip what would be thrown away.
    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Pillow would cut 16 bits off at 255.
        image = Image.fromarray(np.asarray(image, np.float32) / 65535)
        return _small(image)
    if image.has_transparency_data:
        return _on_paper(image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return _small(image.convert("L")) / np.float32(255)


def _on_paper(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image

    def over(shade: int) -> NDArray[np.float32]:
        paper = Image.new("RGBA", image.size, (shade, shade, shade, 255))
        return _small(Image.alpha_composite(paper, image).convert("L")) / np.float32(255)

    white = over(255)
    return white if np.ptp(white) > 0.05 else over(0)


def _small(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image

    longest = max(image.size)
    if longest > MAX_SIDE:
        width, height = (max(1, round(side * MAX_SIDE / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _grey_stack(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """float32 (N, H, W)."""
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 4 and shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))):
        raise DataError(
            f"{where} has the shape {shape}; images are (H, W), (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3"
        )
    if max(array.shape[1:3]) > MAX_SIDE * 8 or max(array.shape[1:3]) > MAX_RATIO * min(array.shape[1:3]):
        raise DataError(
            f"{where} has images of {array.shape[2]}x{array.shape[1]}; make them smaller, at most {MAX_SIDE * 8}"
        )
    if array.dtype == np.bool_ or array.dtype == np.uint8 or array.dtype == np.uint16:
        top = 1 if array.dtype == np.bool_ else np.iinfo(array.dtype).max
        floats = array.astype(np.float32) / np.float32(top)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):
            raise DataError(f"{where} has values from {low:g} to {high:g}; floating-point images lie in [0, 1]")
        floats = array.astype(np.float32)
    else:
        raise DataError(f"{where} is of {array.dtype}; images are uint8, uint16, bool, or floating point in [0, 1]")
    if floats.ndim == 4:
        floats = floats.mean(axis=3) if floats.shape[3] == 1 else floats @ np.array([0.299, 0.587, 0.114], np.float32)
    return floats
