"""A bounded reader for NumPy's arrays, in ``.npy`` files and inside ``.npz`` files. It never unpickles."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from hardy.errors import DataError

LIMIT = 1 << 32
"""Bytes of one array, and of all that are read of one file."""

SUSPICIOUS, MAX_RATIO = 1 << 26, 200
"""An array of more bytes than the first, of which each compressed byte stands for more than so many, is a bomb."""

_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_npy(path: Path) -> NDArray[Any]:
    """Read a ``.npy`` file.

    Raises:
        DataError: no such file; no array; Python objects in it; size and header disagree; empty; too large.
    """
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size, str(path))
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_npz(path: Path, names: set[str]) -> dict[str, NDArray[Any]]:
    """Read those of the arrays ``names`` that a ``.npz`` file holds; what else it holds is not even decompressed.

    Nothing is decompressed before all that these arrays declare is known to be within bounds.

    Raises:
        DataError: no such file; no zip file; an array is damaged, holds Python objects, is empty, or is too large.
    """
    with _opened(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        members = {name: member for name, member in members.items() if name in names}
        for name, member in members.items():
            _check_member(path, name, member)
        declared = sum(member.file_size for member in members.values())
        if declared > LIMIT:
            raise DataError(f"{path} declares {declared:,} bytes in {', '.join(members)}; at most {LIMIT:,} are read")
        arrays = {}
        for name, member in members.items():
            with archive.open(member) as file:
                arrays[name] = _read_array(file, member.file_size, f"{path}, array '{name}'")
        return arrays


class Part(NamedTuple):
    """Some of the entries of an array along its first axis.

    Attributes:
        array: the entries.
        first: the number of the first of them.
        total: how many there are in all.
    """

    array: NDArray[Any]
    first: int
    total: int


def read_parts(path: Path, *, most: int, bytes_at_once: int) -> Iterator[Part]:
    """Read a ``.npy`` file, or a ``.npz`` file's array ``images`` or only array, a part at a time.

    An array of two dimensions is one entry. The memory that is taken does not depend on the size of the file.

    Args:
        path: the file.
        most: how many entries are read at most; of more, none is.
        bytes_at_once: of a part; at least one entry is read.

    Raises:
        DataError: as :func:`read_npy`; more entries; an entry, or an array in Fortran order, of more than 64 MiB.
    """
    if path.suffix.lower() != ".npz":
        try:
            with path.open("rb") as file:
                yield from _parts(file, path.stat().st_size, str(path), most, bytes_at_once)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return
    with _opened(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        name = next(iter(members)) if len(members) == 1 else "images"
        if name not in members:
            raise DataError(f"{path} holds the arrays {', '.join(sorted(members)[:9])}; call the images 'images'")
        _check_member(path, name, members[name])
        with archive.open(members[name]) as file:
            yield from _parts(file, members[name].file_size, f"{path}, array '{name}'", most, bytes_at_once)


def _parts(file: IO[bytes], size: int, where: str, most: int, bytes_at_once: int) -> Iterator[Part]:
    shape, fortran_order, dtype, declared = _read_header(file, size, where)
    shape = shape if len(shape) > 2 else (1, *shape)
    if shape[0] > most:
        raise DataError(f"{where} holds {shape[0]:,} images; at most {most:,} are read of one file, as --limit says")
    each = declared // shape[0]
    if (declared if fortran_order else each) > SUSPICIOUS:
        what = "images in Fortran order; save them in C order" if fortran_order else "an image; make it smaller"
        raise DataError(f"{where} takes more than {SUSPICIOUS:,} bytes for {what}")
    rows = shape[0] if fortran_order else max(1, bytes_at_once // each)
    for first in range(0, shape[0], rows):
        count = min(rows, shape[0] - first)
        content = _read_bytes(file, count * each, where)
        array = np.frombuffer(content, dtype).reshape((count, *shape[1:]), order="F" if fortran_order else "C")
        yield Part(array, first, shape[0])


def names_in_npz(path: Path) -> list[str]:
    """The names of the arrays in a ``.npz`` file.

    Raises:
        DataError: no such file; no zip file.
    """
    with _opened(path) as archive:
        return sorted(name.removesuffix(".npy") for name in archive.namelist())


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    # zipfile answers damage with many kinds of error; NotImplementedError is a compression it does not know, and
    # RuntimeError a password.
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as .npz, so it is truncated, altered or no .npz: {error}") from error


def _check_member(path: Path, name: str, member: zipfile.ZipInfo) -> None:
    if member.file_size > SUSPICIOUS and member.file_size > MAX_RATIO * member.compress_size:
        raise DataError(
            f"{path}, array '{name}' declares {member.file_size:,} bytes in {member.compress_size:,}, which no "
            "images take; if they are meant, save them with np.savez"
        )


def _read_array(file: IO[bytes], size: int, where: str) -> NDArray[Any]:
    shape, fortran_order, dtype, declared = _read_header(file, size, where)
    if declared > LIMIT:
        raise DataError(f"{where} declares {declared:,} bytes; at most {LIMIT:,} are read")
    return np.frombuffer(_read_bytes(file, declared, where), dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_bytes(file: IO[bytes], count: int, where: str) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise DataError(f"{where} is truncated or altered: {count:,} bytes are declared, and {len(content):,} there")
    return content


def _read_header(file: IO[bytes], size: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, type, and how many bytes that takes, which is what there is."""
    try:
        read_header = _HEADERS[npy_format.read_magic(file)]
        shape, fortran_order, dtype = read_header(file)
    # The header is a Python literal, and parsing a broken one raises nearly anything.
    except Exception as error:
        raise DataError(f"{where} is no NumPy array: {error}") from error
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which only unpickling could read, and that runs code")
    declared = math.prod(shape) * dtype.itemsize
    if declared == 0:
        raise DataError(f"{where} is empty: shape {shape} of {dtype}")
    if declared != size - file.tell() or min(shape, default=0) < 0:
        raise DataError(f"{where} is truncated or altered: shape {shape} of {dtype} does not fit its {size:,} bytes")
    return shape, fortran_order, dtype, declared
