"""``metadata.csv`` beside a user's images: what each image is besides its class, for example where it was taken."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from hardy.errors import DataError

NAME = "metadata.csv"
KEY = "file_name"
MAX_BYTES = 1 << 26


def read_metadata(folder: Path, files: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """By column, what the folder's ``metadata.csv`` says of each file, "" where it says nothing; {} without one.

    Its column ``file_name`` is a path relative to the folder.

    Raises:
        DataError: it cannot be read, has no such column, two columns of one name or two rows for one file, or names
            none of the files.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = list(reader.fieldnames or ())
            if names.count(KEY) != 1 or len(set(names)) != len(names):
                raise DataError(f"{path} has the columns {', '.join(names) or 'none'}; each once, and one is '{KEY}'")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    known: dict[str, dict[str, str]] = {}
    for row in rows:
        place = (row[KEY] or "").replace("\\", "/").removeprefix("./")
        if None in row or None in row.values():
            raise DataError(f"{path}: the row of '{place}' has not one value for each of the {len(names)} columns")
        if place in known:
            raise DataError(f"{path} has two rows for '{place}'; keep one")
        known[place] = row
    of_file = [file.relative_to(folder).as_posix() for file in files]
    if known and not known.keys() & set(of_file):
        raise DataError(
            f"{path} names none of the images, but for example '{next(iter(known))}'; {KEY} is a path below {folder}, "
            f"for example '{of_file[0]}'"
        )
    return {
        name: tuple(known.get(place, {}).get(name, "").strip() for place in of_file) for name in names if name != KEY
    }
