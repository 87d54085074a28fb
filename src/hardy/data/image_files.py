"""Image files, which are not trusted. Sizes are checked before anything is decoded."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardy.data.npy import read_parts
from hardy.errors import DataError, explain_missing_packages

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

MAX_PIXELS = 1 << 26
"""Of one image: more than the camera of a phone takes. A small file can hold an image that fills the memory."""

MAX_PIXELS_OF_MANY = 1 << 24
"""Of each image of a folder that is read as a dataset."""

MAX_BYTES = 1 << 28
"""Of one image file."""

MAX_IMAGES = 100_000
"""Of one NPY or NPZ file, if nothing else is said: each of them gets an answer of its own."""

BYTES_AT_ONCE = 1 << 20
"""Of an NPY or NPZ file, so that one of any size takes as much memory."""

ARRAYS = (".npy", ".npz")
"""How the names of files end that hold arrays of images."""

MAX_SIDE = 512
"""A larger image is made smaller as it is read; a digit in it can still be found."""

MAX_RATIO = 64
"""Of the long side to the short one; nothing of the short side would be left once the image is made smaller."""

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
}
"""The formats that are read, by the names that Pillow and people have for them, and how their files' names end."""

ENDINGS = frozenset(ending for endings in FORMATS.values() for ending in endings)
KNOWN = f"{', '.join(FORMATS)}"

_CHANNELS = {"1": 1, "L": 1, "RGB": 3, "P": 3}


class GrayImage(NamedTuple):
    """One image of a file.

    Attributes:
        name: the file, followed by a position if the file is an array of several images.
        gray: float32 (H, W) in [0, 1], 0 is black. What is transparent is put on white, or on black if nothing would
            be visible on white.
    """

    name: str
    gray: NDArray[np.float32]


def read_gray_images(path: Path, most: int = MAX_IMAGES) -> Iterator[GrayImage]:
    """Read the images of one file as gray values, one after another.

    A file of one of the :data:`FORMATS` holds one, of any mode and depth; it is turned as its camera says. An ``.npy``
    file, or the array ``images`` or only array of an ``.npz`` file, holds (H, W), or several: (N, H, W), (N, C, H, W)
    or (N, H, W, C) with C 1 or 3; uint8, uint16, bool, or floating point in [0, 1].

    Args:
        path: the file.
        most: how many images it may hold.

    Raises:
        DataError: no such file, of no known format, broken, animated, empty, or too large.
    """
    check_file(path)
    if path.suffix.lower() not in ARRAYS:
        yield GrayImage(str(path), _decode(path, MAX_PIXELS, _gray))
        return
    for part in read_parts(path, most=most, bytes_at_once=BYTES_AT_ONCE):
        for number, gray in enumerate(_gray_stack(part.array, str(path)), part.first):
            yield GrayImage(f"{path}[{number}]" if part.total > 1 else str(path), gray)


def check_file(path: Path) -> None:
    """Raise :class:`DataError` unless there is a regular file that is not empty."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no file; name image files, or NPY files")
    if not status.st_size:
        raise DataError(f"{path} is empty, 0 bytes; save the image again")


def read_pixels(path: Path, channels: int | None = None, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read a grayscale or RGB image, 8 bits per channel, as uint8 (C, H, W).

    Args:
        path: the file; it is turned as its camera says.
        channels: 1 or 3, what the image is converted to; by default it keeps what it has.
        size: (height, width) that it is resized to, so that it covers it, and cropped to about its center.

    Raises:
        DataError: no such file, of no known format, broken, animated, too large, or of another mode.
    """
    return _decode(path, MAX_PIXELS_OF_MANY, partial(_pixels, channels=channels, size=size))


def channels_of(path: Path) -> int:
    """1 or 3: how many channels :func:`read_pixels` gives, as the file's header says.

    Raises:
        DataError: as there.
    """
    return _decode(path, MAX_PIXELS_OF_MANY, _channels)


def write_images(folder: Path, names: list[str], images: NDArray[np.float32], *, first: int = 0) -> list[Path]:
    """Write images, float32 (N, H, W) or (N, C, H, W) in [0, 1], as 8-bit PNG files, named after ``names`` and
    numbered from ``first`` on.

    Raises:
        DataError: the folder cannot be written to.
    """
    from PIL import Image

    written = []
    levels = np.rint(images * 255).astype(np.uint8)
    if levels.ndim == 4:
        levels = levels[:, 0] if levels.shape[1] == 1 else levels.transpose(0, 2, 3, 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, level) in enumerate(zip(names, levels, strict=True), first):
            path = folder / f"{number:05d}-{_as_file_name(name)}.png"
            Image.fromarray(level).save(path)
            written.append(path)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return written


def _as_file_name(name: str) -> str:
    last = Path(name).name
    return "".join(letter if letter.isalnum() else "-" for letter in last)[:80].strip("-")


def _decode(path: Path, max_pixels: int, decode: Callable[[Path, Image.Image], T]) -> T:
    with explain_missing_packages():
        from PIL import Image

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read: make the image smaller")
        with warnings.catch_warnings():
            # Pillow warns of damage that it reads past, and of sizes near its own limit; ours is checked here.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=tuple(FORMATS)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise DataError(
                        f"{path} is {width}x{height}; at most {max_pixels:,} pixels are read: make it smaller"
                    )
                return decode(path, image)
    except Image.DecompressionBombError:
        raise DataError(f"{path} has far more than {max_pixels:,} pixels, so it is not read; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path} is no image of a known format ({KNOWN}); save it as one") from None
    except DataError:
        raise
    # Pillow answers damage with nearly any kind of error: SyntaxError is a broken PNG, struct.error broken EXIF.
    except Exception as error:
        raise DataError(f"{path} cannot be read, so it is truncated or damaged ({error}); save it again") from error


def _channels(path: Path, image: Image.Image) -> int:
    if image.mode not in _CHANNELS or "transparency" in image.info:
        mode = f"{image.mode}, with transparency" if image.mode in _CHANNELS else image.mode
        raise DataError(
            f"{path} is of mode {mode}; images are grayscale or RGB, 8 bits, without transparency: save it as one"
        )
    if image.format == "GIF" and image.mode == "P":
        # A GIF has no gray mode, but may have a palette of grays.
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        return 1 if (palette == palette[:, :1]).all() else 3
    return _CHANNELS[image.mode]


def _pixels(path: Path, image: Image.Image, channels: int | None, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    _check_one_frame(path, image)
    found = _channels(path, image)
    channels = channels or found
    image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    converted = np.asarray(image)
    return converted[None] if converted.ndim == 2 else converted.transpose(2, 0, 1)


def _check_one_frame(path: Path, image: Image.Image) -> None:
    # A JPEG of several frames comes from a phone: the first is the photo.
    frames = getattr(image, "n_frames", 1)
    if image.format not in ("JPEG", "MPO") and frames > 1:
        raise DataError(
            f"{path} is animated or has pages, {frames} frames; save the one that is meant as an image of its own"
        )


def _gray(path: Path, image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image, ImageOps

    width, height = image.size
    if max(width, height) > MAX_RATIO * min(width, height):
        raise DataError(f"{path} is a strip of {width}x{height}; cut the digit out of it")
    _check_one_frame(path, image)
    # Lets a JPEG decoder skip what would be thrown away.
    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Pillow would cut 16 bits off at 255.
        return _small(Image.fromarray(np.asarray(image, np.float32) / 65535))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return _small(image.convert("L")) / np.float32(255)


def _on_white(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image

    def over(shade: int) -> NDArray[np.float32]:
        background = Image.new("RGBA", image.size, (shade, shade, shade, 255))
        return _small(Image.alpha_composite(background, image).convert("L")) / np.float32(255)

    white = over(255)
    return white if np.ptp(white) > 0.05 else over(0)


def _small(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image

    longest = max(image.size)
    if longest > MAX_SIDE:
        width, height = (max(1, round(side * MAX_SIDE / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _gray_stack(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """float32 (N, H, W)."""
    shape = array.shape
    if array.ndim == 4 and shape[1] in (1, 3):
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
