"""The reader for IDX files, the format of MNIST: plain, or compressed with gzip or xz.

A header is four bytes (0, 0, the type of an element, the number of dimensions) and one big-endian 32-bit length per
dimension; the elements follow in C order.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import DataError

LIMIT = 1 << 30
"""Bytes; the largest known file, of EMNIST's 814,255 images, has 0.6 of this."""

_UNSIGNED_BYTE = 0x08


class Idx(NamedTuple):
    """What an IDX file holds.

    Attributes:
        array: uint8, of the shape that the header declares; read-only.
        sha256: of the plain content, header included, whatever it was compressed with.
    """

    array: NDArray[np.uint8]
    sha256: str


def read_idx(source: Path | bytes, dimensions: int) -> Idx:
    """Read an IDX file of unsigned bytes; the first bytes tell the compression, not the name.

    At most one byte more than the header declares is decompressed, and the header may declare at most :data:`LIMIT`.

    Raises:
        DataError: no such file; no IDX file; elements that are not unsigned bytes; another number of dimensions; no
            examples; too large; truncated, altered, or longer than its header says.
    """
    where = "the IDX file" if isinstance(source, bytes) else str(source)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            stream = _decompressed(file)
            header = stream.read(4 + 4 * dimensions)
            shape = _declared_shape(header, dimensions, where)
            declared = math.prod(shape)
            content = stream.read(declared + 1)
    except FileNotFoundError:
        raise DataError(f"no file {where}") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{where} cannot be read, so it is truncated or altered: {error}") from error
    if len(content) < declared:
        raise DataError(f"{where} is truncated: its header declares {declared:,} elements, and {len(content):,} follow")
    if len(content) > declared:
        raise DataError(f"{where} is altered: more follows than the {declared:,} elements that its header declares")
    digest = hashlib.sha256(header)
    digest.update(content)
    return Idx(np.frombuffer(content, np.uint8).reshape(shape), digest.hexdigest())


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip files do."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _decompressed(file: BinaryIO) -> BinaryIO:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
    if start == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(file, "rb")  # type: ignore[return-value]
    return file


def _declared_shape(header: bytes, dimensions: int, where: str) -> tuple[int, ...]:
    if len(header) < 4 or header[:2] != b"\0\0":
        raise DataError(f"{where} is no IDX file: it begins with {header[:4].hex() or 'nothing'}, and not with 0000")
    if header[2] != _UNSIGNED_BYTE:
        raise DataError(f"{where} holds elements of IDX type 0x{header[2]:02x}; images and labels are 0x08, bytes")
    if header[3] != dimensions:
        raise DataError(
            f"{where} has {header[3]} dimensions and not {dimensions} (images have 3, labels have 1): "
            "is it the other file of the pair?"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{where} is truncated: it ends within its header")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    declared = math.prod(shape)
    if declared == 0:
        raise DataError(f"{where} is empty: its header declares the shape {shape}")
    if declared > LIMIT:
        raise DataError(f"{where} declares {declared:,} bytes; at most {LIMIT:,} are read")
    return shape
