"""A bounded reader for NumPy's arrays, in ``.npy`` files and inside ``.npz`` files. It never unpickles."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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
            if member.file_size > SUSPICIOUS and member.file_size > MAX_RATIO * member.compress_size:
                raise DataError(
                    f"{path}, array '{name}' declares {member.file_size:,} bytes in {member.compress_size:,}, which no "
                    "images take; if they are meant, save them with np.savez"
                )
        declared = sum(member.file_size for member in members.values())
        if declared > LIMIT:
            raise DataError(f"{path} declares {declared:,} bytes in {', '.join(members)}; at most {LIMIT:,} are read")
        arrays = {}
        for name, member in members.items():
            with archive.open(member) as file:
                arrays[name] = _read_array(file, member.file_size, f"{path}, array '{name}'")
        return arrays


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


def _read_array(file: IO[bytes], size: int, where: str) -> NDArray[Any]:
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
    if declared > LIMIT:
        raise DataError(f"{where} declares {declared:,} bytes; at most {LIMIT:,} are read")
    if declared != size - file.tell() or min(shape, default=0) < 0:
        raise DataError(f"{where} is truncated or altered: shape {shape} of {dtype} does not fit its {size:,} bytes")
    content = file.read(declared + 1)
    if len(content) != declared:
        raise DataError(f"{where} is truncated or altered: {declared:,} bytes are declared, and {len(content):,} there")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
