"""Compares two evaluations: are their records and their estimates the same?

    python benchmarks/same_records.py BEFORE AFTER

BEFORE and AFTER are run folders, or folders that hold runs of the same names. Files and figures may have been renamed
between two versions of hardy, so measurements are paired by what they hold: the indices of their examples and the
values of their columns, whatever the columns are called. What is left over is paired by name, and what differs
is shown. Estimates are paired by property, metric, dataset and setting, then by their numbers.
Values are compared exactly.

Exit status 1 if something of BEFORE differs or is missing in AFTER; what only AFTER has is shown and is no difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

# What schema 1 of runs and scorecards called differently.
RENAMED_COLUMNS = {"norm": "min_norm"}
RENAMED_SETTINGS = {"held_out": "validation"}
NUMBERS = ("value", "low", "high", "n", "higher_is_better", "headline")

T = TypeVar("T")


class Recorded(NamedTuple):
    """One measurement: its file's name without the hash, its examples, and per column a digest of the values."""

    name: str
    examples: str
    columns: dict[str, str]

    @property
    def content(self) -> Hashable:
        return self.examples, tuple(sorted(self.columns.values()))


def measurements_of(run: Path) -> list[Recorded]:
    """All finished measurements of a run."""
    found = []
    for file in sorted((run / "records").glob("*.parquet")):
        frame = pl.read_parquet(file).sort("index")
        columns = {RENAMED_COLUMNS.get(name, name): _digest(frame[name]) for name in frame.columns if name != "index"}
        name = re.sub(r"-[0-9a-f]{10}$", "", file.stem).replace("held_out", "validation")
        found.append(Recorded(name, _digest(frame["index"]), columns))
    return found


def _digest(column: pl.Series) -> str:
    """Of the values alone: a type that holds the same values in another width gives the same."""
    values = column.to_numpy()
    if values.dtype.kind in "OUS":
        content = json.dumps(column.to_list()).encode()
    else:
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        # Of the many bit patterns of NaN, one.
        content = np.where(values != values, np.nan, values).tobytes()
    return hashlib.sha256(content).hexdigest()


def estimates_of(run: Path) -> list[dict[str, Any]]:
    """All figures of a run's scorecard, with today's names of datasets and settings."""
    path = run / "scorecard.json"
    scorecard = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"estimates": []}
    found = scorecard["estimates"] if "estimates" in scorecard else scorecard["metrics"]
    for it in found:
        it["dataset"] = _today(it["dataset"])
        it["setting"] = {RENAMED_SETTINGS.get(key, key): _today(value) for key, value in it["setting"].items()}
    return found


def _today(value: Any) -> Any:
    return value.replace("held-out", "validation") if isinstance(value, str) and "/" in value else value


def pair(before: list[T], after: list[T], key: Callable[[T], Hashable]) -> list[tuple[T, T]]:
    """What has the same key in both, each item once; paired items are taken out of both lists."""
    waiting: dict[Hashable, list[T]] = {}
    for it in after:
        waiting.setdefault(key(it), []).append(it)
    pairs = [(it, waiting[key(it)].pop(0)) for it in list(before) if waiting.get(key(it))]
    for it, other in pairs:
        before.remove(it)
        after.remove(other)
    return pairs


def compare_measurements(before: list[Recorded], after: list[Recorded]) -> Iterator[str]:
    """Prints how many are equal; yields what differs."""
    total = len(before)
    # Same name and content first, so that a measurement is paired with another's twin only if its own is gone.
    equal = pair(before, after, lambda it: (it.name, it.content)) + pair(before, after, lambda it: it.content)
    renamed = {it.name: other.name for it, other in equal if it.name != other.name}
    columns = {
        (name, next(new for new in other.columns if other.columns[new] == digest))
        for it, other in equal
        for name, digest in it.columns.items()
        if other.columns.get(name) != digest
    }
    found = []
    for it, other in _by_name(before, after):
        different = [name for name, digest in it.columns.items() if other.columns.get(name) != digest]
        if it.examples != other.examples:
            found.append(f"{it.name}: other examples")
        elif different:
            found.append(f"{it.name}: {', '.join(different)} differ")
        else:
            print(f"  {it.name}: new columns {', '.join(sorted(set(other.columns) - set(it.columns)))}")
            equal.append((it, other))
    print(f"measurements: {len(equal)} of {total} equal, {len(renamed)} under another name; {len(after)} new")
    _show("renamed", [f"{old} -> {new}" for old, new in renamed.items()])
    _show("columns renamed", [f"{old} -> {new}" for old, new in sorted(columns)])
    _show("new", [it.name for it in after])
    yield from found
    yield from (f"{it.name}: missing" for it in before)


def _by_name(before: list[Recorded], after: list[Recorded]) -> Iterator[tuple[Recorded, Recorded]]:
    yield from pair(before, after, lambda it: it.name)
    for it in list(before):
        likeness = {id(other): SequenceMatcher(None, it.name, other.name).ratio() for other in after}
        other = max(after, key=lambda other: likeness[id(other)], default=None)
        if other is not None and likeness[id(other)] > 0.8:
            before.remove(it)
            after.remove(other)
            yield it, other


def compare_estimates(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[str]:
    """Prints how many are equal; yields what differs."""

    def named(it: dict[str, Any]) -> Hashable:
        return it["property"], it["metric"], it["dataset"], json.dumps(it["setting"], sort_keys=True)

    def valued(it: dict[str, Any]) -> Hashable:
        return it["property"], it["metric"], it["dataset"], tuple(sorted(map(str, it["setting"].values())))

    def numbers(it: dict[str, Any]) -> Hashable:
        return tuple(it[name] for name in NUMBERS)

    total = len(before)
    pairs = pair(before, after, named) + pair(before, after, valued) + pair(before, after, numbers)
    equal = [(it, other) for it, other in pairs if numbers(it) == numbers(other)]
    renamed = [f"{_words(it)} -> {_words(other)}" for it, other in equal if named(it) != named(other)]
    print(f"estimates: {len(equal)} of {total} equal, {len(renamed)} under another name; {len(after)} new")
    _show("renamed", renamed)
    _show("new", [_words(it) for it in after])
    for it, other in pairs:
        changes = [f"{name} {it[name]} -> {other[name]}" for name in NUMBERS if it[name] != other[name]]
        if changes:
            yield f"{_words(it)}: {', '.join(changes)}"
    yield from (f"{_words(it)}: missing" for it in before)


def _words(it: dict[str, Any]) -> str:
    setting = ", ".join(f"{key} {value}" for key, value in it["setting"].items())
    return f"{it['property']}/{it['metric']} on {it['dataset']}" + (f" ({setting})" if setting else "")


def _show(title: str, lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {title}: {line}")


def runs_in(folder: Path) -> dict[str, Path]:
    """The run that a folder is, or those in it, by name."""
    if (folder / "run.json").exists():
        return {"": folder}
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/scorecard.json"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    before, after = runs_in(arguments.before), runs_in(arguments.after)
    if not before:
        parser.error(f"{arguments.before} holds no evaluation")
    differences = 0
    for name, run in before.items():
        if name:
            print(f"{name}:")
        if name not in after:
            found = [f"run {name}: missing"]
        else:
            other = after[name]
            found = [
                *compare_measurements(measurements_of(run), measurements_of(other)),
                *compare_estimates(estimates_of(run), estimates_of(other)),
            ]
        _show("DIFFERS", found)
        differences += len(found)
    print("all equal" if not differences else f"{differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
