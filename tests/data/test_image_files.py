"""Reading image files: every mode and depth gives the same gray values; what is broken is named with a remedy."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardy.data.image_files import BYTES_AT_ONCE, MAX_SIDE, read_gray_images, write_images
from hardy.errors import DataError

RAMP = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)


def one(path: Path) -> np.ndarray:
    (image,) = read_gray_images(path)
    assert image.name == str(path)
    assert image.gray.dtype == np.float32
    return image.gray


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def png(path: Path, width: int, height: int, body: bytes = b"") -> Path:
    """A gray PNG file with the header of any size, and any body."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_every_mode_of_png_gives_the_gray_values(tmp_path: Path, mode: str) -> None:
    wanted = RAMP if mode != "1" else np.where(RAMP > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(wanted).convert(mode)
    assert np.allclose(one(saved(tmp_path / "a.png", image)), wanted / 255, atol=1.01 / 255)


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 257
    assert np.allclose(one(saved(tmp_path / "a.png", Image.fromarray(deep))), RAMP / 255, atol=1e-4)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_mode_of_jpeg_gives_the_gray_values(tmp_path: Path, mode: str) -> None:
    smooth = np.tile(np.linspace(30, 220, 64).astype(np.uint8), (64, 1))
    image = Image.fromarray(smooth).convert("RGB").convert(mode)
    assert np.abs(one(saved(tmp_path / "a.jpg", image, quality=95)) - smooth / 255).max() < 0.03


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = one(saved(tmp_path / "a.jpg", image, exif=exif))
    assert turned.shape == (40, 20)
    assert turned[:15].mean() > 0.9
    assert turned[25:].mean() < 0.1


def test_what_is_transparent_lies_on_white_paper(tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (5, 5, 10, 10))
    gray = one(saved(tmp_path / "a.png", image))
    assert gray[7, 7] == 0
    assert gray[0, 0] == 1


def test_white_ink_on_nothing_lies_on_black(tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (5, 5, 10, 10))
    gray = one(saved(tmp_path / "a.png", image))
    assert gray[7, 7] == 1
    assert gray[0, 0] == 0


def test_a_wholly_transparent_picture_is_even(tmp_path: Path) -> None:
    assert np.ptp(one(saved(tmp_path / "a.png", Image.new("RGBA", (20, 20), (9, 99, 9, 0))))) == 0


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    image = Image.new("L", (3000, 1500))
    image.paste(255, (0, 0, 1500, 1500))
    gray = one(saved(tmp_path / "a.png", image))
    assert gray.shape == (MAX_SIDE // 2, MAX_SIDE)
    assert gray[:, : MAX_SIDE // 2 - 1].min() == 1
    assert gray[:, MAX_SIDE // 2 + 1 :].max() == 0


@pytest.mark.parametrize(
    ("array", "count"),
    [
        (RAMP, 1),
        (np.stack([RAMP, RAMP]), 2),
        (np.stack([RAMP, RAMP])[:, None], 2),
        (np.stack([RAMP, RAMP, RAMP], axis=-1)[None], 1),
        (RAMP.astype(np.uint16) * 257, 1),
        (RAMP.astype(np.float64) / 255, 1),
        (np.asfortranarray(RAMP), 1),
    ],
)
def test_arrays_of_every_kind_give_the_gray_values(tmp_path: Path, array: np.ndarray, count: int) -> None:
    np.save(tmp_path / "a.npy", array)
    images = list(read_gray_images(tmp_path / "a.npy"))
    assert len(images) == count
    for image in images:
        assert np.allclose(image.gray, RAMP / 255, atol=1e-6)
    if count == 2:
        assert [image.name for image in images] == [f"{tmp_path / 'a.npy'}[{index}]" for index in range(2)]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "has the shape"),
        (np.zeros((2, 5, 28, 28), np.uint8), "has the shape"),
        (np.zeros(28, np.uint8), "has the shape"),
        (np.full((28, 28), 255.0), r"values from 255 to 255; .* lie in \[0, 1\]"),
        (np.full((28, 28), np.nan), "values from nan"),
        (np.zeros((28, 28), np.int64), "is of int64"),
        (np.zeros((0, 28, 28), np.uint8), "is empty"),
        (np.zeros((1, 5000), np.uint8), "make them smaller"),
        (np.array([{"a": 1}], dtype=object), "runs code"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        list(read_gray_images(tmp_path / "a.npy"))
    assert "a.npy" in str(caught.value)


def _truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def _animated(path: Path) -> None:
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


BROKEN = {
    "no file": (lambda _: None, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes; save the image again"),
    "no picture": (lambda path: path.write_bytes(b"hello" * 99), "no image of a known format .*; save it as one"),
    "another format": (lambda path: Image.new("L", (9, 9)).save(path, format="PPM"), "no image of a known format"),
    "truncated": (_truncated, "truncated or damaged .*; save it again"),
    "damaged": (lambda path: png(path, 20, 20, b"no zlib stream"), "truncated or damaged .*; save it again"),
    "animated": (_animated, "animated or has pages, 3 frames; save the one that is meant"),
    "bomb": (lambda path: png(path, 30_000, 30_000), "pixels.*make it smaller"),
    "larger than Pillow's limit": (lambda path: png(path, 10_000, 9_000), "10000x9000; at most .* make it smaller"),
    "strip": (lambda path: png(path, 60_000, 1), "strip of 60000x1; cut the digit out"),
    "folder": (lambda path: path.mkdir(), "is no file"),
    "pipe": (os.mkfifo, "is no file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_named_with_a_remedy(tmp_path: Path, kind: str) -> None:
    make, message = BROKEN[kind]
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=message) as caught:
        list(read_gray_images(tmp_path / "a.png"))
    assert "a.png" in str(caught.value)


def test_saved_inputs_are_read_again_as_they_were(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.float32) / np.float32(255)
    written = write_images(tmp_path / "in", ["a.png", "../b.png", "c.npy[3]"], images)
    assert [path.parent for path in written] == [tmp_path / "in"] * 3
    assert np.allclose(np.stack([one(path) for path in written]), images, atol=1e-6)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/in.*choose another"):
        write_images(tmp_path / "file" / "in", ["a"], np.zeros((1, 28, 28), np.float32))


def sparse(path: Path, count: int) -> Path:
    """So many blank images of 28x28 in a file that takes no disk."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 784)
    return path


def test_an_array_of_more_images_than_are_asked_for_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "many.npy", 1_000_000)
    with pytest.raises(DataError, match=r"many\.npy holds 1,000,000 images; at most 100,000 .*, as --limit says"):
        next(read_gray_images(path))
    with pytest.raises(DataError, match=r"holds 3 images; at most 2 "):
        next(read_gray_images(sparse(tmp_path / "three.npy", 3), 2))


def test_an_array_of_any_size_takes_the_same_memory(tmp_path: Path) -> None:
    path = sparse(tmp_path / "many.npy", 30_000)
    tracemalloc.start()
    names = [image.name for image in islice(read_gray_images(path), 0, None, 1000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names[-1] == f"{path}[29000]"
    assert peak < 10 * BYTES_AT_ONCE < path.stat().st_size


@pytest.mark.parametrize("names", [("images", "labels"), ("anything",)])
def test_images_are_read_of_an_npz_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: dict[str, Any] = dict.fromkeys(names, np.stack([RAMP, 255 - RAMP]))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        first, second = read_gray_images(tmp_path / "a.npz")
        assert (first.name, second.name) == (f"{tmp_path / 'a.npz'}[0]", f"{tmp_path / 'a.npz'}[1]")
        assert np.allclose(second.gray, 1 - first.gray, atol=1e-6)


def test_an_npz_file_of_several_arrays_has_to_say_which_are_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=RAMP, y=RAMP)
    with pytest.raises(DataError, match=r"a\.npz holds the arrays x, y; call the images 'images'"):
        next(read_gray_images(tmp_path / "a.npz"))


def test_an_array_that_is_cut_off_is_told_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([RAMP] * 3))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"a\.npy is truncated or altered"):
        next(read_gray_images(tmp_path / "a.npy"))
