"""Atomic writes, after which a file is either the old one or the new one whole; JSON from outside; hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hardy.errors import HardyError, UsageError

MAX_JSON = 1 << 26
"""Bytes of a JSON file that is read."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# Control characters, and those that turn the reading direction, as json.dumps escapes them.
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\(?:[bfr]|u00[0189][0-9a-f]|u007f|u202[a-e]|u206[6-9])")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it replaces ``path`` in one step, on failure it is removed.

    Raises:
        UsageError: there is no permission, or no such place.
        HardyError: the disk is full or fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise failed_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def failed_write(path: Path, error: OSError) -> HardyError:
    """What a failed write means: a full disk comes while running, anything else was a wrong place from the start."""
    full = error.errno in _FULL
    remedy = "make room, and go on with --resume where there is one" if full else "choose another place"
    text = f"cannot write {path}: {error.strerror or error}; nothing was changed; {remedy}"
    return HardyError(text) if full else UsageError(text)


def check_writable(path: Path) -> None:
    """Raise :class:`UsageError` unless a file can be written at ``path``; nothing is left there."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; choose another place")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def remove_half_written(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that killed writes of files called ``name``, a pattern, left in ``folder``."""
    for temporary in folder.glob(f".{name}.*.part"):
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content`` in one step."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` with ``text`` (UTF-8) in one step."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` with ``value`` as indented JSON in one step, if :func:`parse_json` would read it again.

    Raises:
        UsageError: control characters, as in an odd path; or the file cannot be written.
        ValueError: NaN or infinity, which JSON has not.
    """
    content = json.dumps(value, indent=1, allow_nan=False)
    _check_text(content, str(path), UsageError)
    write_text(path, content + "\n")


def read_json(path: Path, refuse: type[HardyError]) -> Any:
    """:func:`parse_json` of a file.

    Raises:
        refuse: it cannot be read, or is something else.
        FileNotFoundError: there is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise refuse(f"cannot read {path}: {error.strerror or error}") from error
    return parse_json(content, str(path), refuse)


def parse_json(content: bytes, where: str, refuse: type[HardyError]) -> Any:
    """Read JSON from outside: bounded, text without control characters, which a terminal would obey.

    Raises:
        refuse: it is something else.
    """
    if len(content) > MAX_JSON:
        raise refuse(f"{where} holds more than the {MAX_JSON:,} bytes that are read")
    try:
        value = json.loads(content.decode("utf-8"))
        _check_text(json.dumps(value), where, refuse)
    except RecursionError:
        raise refuse(f"cannot read {where}: it is nested too deeply") from None
    except ValueError as error:
        raise refuse(f"cannot read {where} as JSON: {error}") from error
    return value


def _check_text(content: str, where: str, refuse: type[HardyError]) -> None:
    if found := _CONTROL.search(content):
        raise refuse(f"{where}: text with the control character {found[0].lstrip(chr(92))}; take it out")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
