from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardy.data import idx, npy
from hardy.data.idx import read_idx
from hardy.data.npy import read_npy, read_npz
from hardy.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
PLAIN = b"\0\0\x08\x03" + struct.pack(">III", 7, 5, 3) + IMAGES.tobytes()
PACKED = {"plain": PLAIN, "gz": gzip.compress(PLAIN), "xz": lzma.compress(PLAIN)}


@pytest.mark.parametrize("form", PACKED)
def test_every_form_gives_the_array_and_the_hash_of_the_plain_content(form: str, tmp_path: Path):
    path = tmp_path / "misnamed.bin"
    path.write_bytes(PACKED[form])
    for source in (PACKED[form], path):
        found = read_idx(source, dimensions=3)
        assert found.array.dtype == np.uint8
        np.testing.assert_array_equal(found.array, IMAGES)
        assert found.sha256 == hashlib.sha256(PLAIN).hexdigest()


@pytest.mark.parametrize("form", PACKED)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused(form: str, data: st.DataObject):
    length = data.draw(st.integers(0, len(PACKED[form]) - 1))
    with pytest.raises(DataError):
        read_idx(PACKED[form][:length], dimensions=3)


@pytest.mark.parametrize("form", PACKED)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_refused_or_shows_in_the_hash(form: str, data: st.DataObject):
    content = bytearray(PACKED[form])
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        found = read_idx(bytes(content), dimensions=3)
    except DataError:
        return
    same = found.array.shape == IMAGES.shape and bool((found.array == IMAGES).all())
    assert same == (found.sha256 == hashlib.sha256(PLAIN).hexdigest())


@given(content=st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(content: bytes):
    with pytest.raises(DataError):
        read_idx(b"\x01" + content, dimensions=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"\x89PNG\r\n\x1a\n", "no IDX file"),
        (b"\0\0\x0d\x03" + PLAIN[4:], "0x0d"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + b"abc", "labels"),
        (PLAIN[:10], "within its header"),
        (b"\0\0\x08\x03" + struct.pack(">III", 0, 28, 28), "empty"),
        (PLAIN + b"x", "more follows"),
        (gzip.compress(PLAIN + b"x"), "more follows"),
        (gzip.compress(PLAIN) + b"x", "altered"),
        (PLAIN[:-1], "105 elements, and 104"),
    ],
)
def test_the_message_says_what_is_wrong(content: bytes, message: str):
    with pytest.raises(DataError, match=message):
        read_idx(content, dimensions=3)


def test_a_header_that_declares_too_much_is_refused_before_reading():
    header = b"\0\0\x08\x03" + struct.pack(">III", 1 << 20, 1 << 10, 2)
    with pytest.raises(DataError, match="at most"):
        read_idx(header, dimensions=3)


def test_a_bomb_is_not_decompressed(monkeypatch: pytest.MonkeyPatch):
    read = []
    inflate = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        content = inflate(self, size)
        read.append(len(content))
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    bomb = gzip.compress(PLAIN + bytes(50_000_000))
    with pytest.raises(DataError, match="more follows"):
        read_idx(bomb, dimensions=3)
    assert sum(read) == len(PLAIN) + 1


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="absent"):
        read_idx(tmp_path / "absent", dimensions=3)
    with pytest.raises(DataError, match=str(tmp_path)):
        read_idx(tmp_path, dimensions=3)


@pytest.mark.parametrize("array", [IMAGES, np.asfortranarray(IMAGES), IMAGES.astype(">f4"), np.array(["a", "bc"])])
def test_npy_is_what_was_saved(array: np.ndarray, tmp_path: Path):
    np.save(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_npy_is_refused_or_of_the_right_size(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, IMAGES)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_npy(path)
    except DataError:
        return
    assert found.nbytes == IMAGES.nbytes


def test_npy_with_objects_a_lying_header_or_nothing_is_refused(tmp_path: Path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects"):
        read_npy(path)
    np.save(path, np.zeros((0, 28, 28)))
    with pytest.raises(DataError, match="empty"):
        read_npy(path)
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes().replace(b"(7, 5, 3)", b"(9, 5, 3)"))
    with pytest.raises(DataError, match="does not fit"):
        read_npy(path)
    path.write_bytes(path.read_bytes().replace(b"(9, 5, 3)", b"(9,1<<9)"))
    with pytest.raises(DataError, match="no NumPy array"):
        read_npy(path)
    with pytest.raises(DataError, match="absent"):
        read_npy(tmp_path / "absent.npy")


def test_npz_reads_only_what_is_named(tmp_path: Path):
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES, other=np.array([{}], dtype=object))
    assert read_npz(tmp_path / "a.npz", {"images", "labels"}).keys() == {"images"}
    with pytest.raises(DataError, match="objects"):
        read_npz(tmp_path / "a.npz", {"other"})


def test_too_large_an_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros(5000, np.uint8))
    monkeypatch.setattr(npy, "LIMIT", 4999)
    with pytest.raises(DataError, match="at most 4,999"):
        read_npz(tmp_path / "a.npz", {"images"})
    monkeypatch.setattr(idx, "LIMIT", 104)
    with pytest.raises(DataError, match="at most 104"):
        read_idx(PLAIN, dimensions=3)
