"""Downloading datasets, on request only: resumable, from several mirrors, and checked before anything is kept."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hardy.data.entry import Archive, DataFile, DatasetEntry
from hardy.data.sources import cache_folder, candidates, read
from hardy.errors import DataError, HardyError
from hardy.files import atomic_write, sha256_of

OnProgress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes received so far, and all its bytes (None where not known)."""

TIMEOUT = 30.0
"""Seconds without an answer before the next mirror is tried."""

LIMIT = 1 << 30
"""Bytes of one download; the largest, EMNIST's archive, has half as many."""

_BLOCK = 1 << 16


def fetch(entry: DatasetEntry, progress: OnProgress, timeout: float = TIMEOUT) -> list[Path]:
    """Download a dataset's missing and damaged files into the cache; return the new files.

    Raises:
        HardyError: no mirror gave a file; the message has the reason of each. Or nothing can be written.
    """
    folder = cache_folder(entry.name)
    missing = {file: folder / _published_name(file) for file in entry.files if not _is_sound(entry, file)}
    if missing and entry.archive:
        _fetch_archive(entry, entry.archive, missing, progress, timeout)
    else:
        for file, target in missing.items():
            urls = [f"{mirror}{_published_name(file)}" for mirror in entry.mirrors]
            download(urls, target, partial(read, entry, file), progress, timeout)
    return list(missing.values())


def download(
    urls: Sequence[str],
    target: Path,
    verify: Callable[[Path], object],
    progress: OnProgress,
    timeout: float = TIMEOUT,
) -> None:
    """Download ``target`` from the first of ``urls`` whose content ``verify`` accepts; it raises DataError otherwise.

    Until then the content is in a file of the same name with the suffix ``.part``, from which an interrupted download
    resumes. Refused content is removed.

    Raises:
        HardyError: no mirror gave it; the message has the reason of each. Or nothing can be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HardyError(f"cannot make the folder {part.parent}: {error.strerror or error}") from error
    reasons = []
    for url in urls:
        try:
            _from_mirror(url, part, verify, progress, timeout)
            part.replace(target)
            return
        except (OSError, http.client.HTTPException, DataError) as error:
            reasons.append(f"{url}: {_reason(error)}")
    raise HardyError(f"could not download {target.name}; " + "; ".join(reasons))


def _from_mirror(url: str, part: Path, verify: Callable[[Path], object], progress: OnProgress, timeout: float) -> None:
    while True:
        resumed = part.exists()
        try:
            _receive(url, part, progress, timeout)
            verify(part)
            return
        except DataError:
            part.unlink()
            # The part may have been of another file, so the mirror is tried again from the first byte.
            if not resumed:
                raise


def _receive(url: str, part: Path, progress: OnProgress, timeout: float) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "hardy"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            return
        raise
    resumes = response.status == http.HTTPStatus.PARTIAL_CONTENT
    with response, part.open("ab" if resumes else "wb") as file:
        done = done if resumes else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        progress(part.stem, done, total)
        while block := response.read(_BLOCK):
            done += file.write(block)
            if done > LIMIT:
                raise DataError(f"more than {LIMIT:,} bytes arrived")
            progress(part.stem, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes; the next attempt resumes there")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _published_name(file: DataFile) -> str:
    return file.name if file.name.endswith(".npy") else f"{file.name}.gz"


def _is_sound(entry: DatasetEntry, file: DataFile) -> bool:
    for path in candidates(entry, file):
        try:
            read(entry, file, path)
        except DataError:
            continue
        return True
    return False


def _fetch_archive(
    entry: DatasetEntry, archive: Archive, targets: dict[DataFile, Path], progress: OnProgress, timeout: float
) -> None:
    path = cache_folder(entry.name) / archive.name
    download(entry.mirrors, path, partial(_verify_archive, archive), progress, timeout)
    try:
        with zipfile.ZipFile(path) as content:
            for file, target in targets.items():
                with (
                    content.open(f"{archive.folder}{_published_name(file)}") as packed,
                    atomic_write(target) as temporary,
                    temporary.open("wb") as unpacked,
                ):
                    shutil.copyfileobj(packed, unpacked)
    except (KeyError, zipfile.BadZipFile) as error:
        raise HardyError(f"{path} does not hold the files of {entry.name}: {error}") from error
    path.unlink()


def _verify_archive(archive: Archive, path: Path) -> None:
    found = sha256_of(path)
    if found != archive.sha256:
        raise DataError(f"expected sha256 {archive.sha256}, found {found}")
