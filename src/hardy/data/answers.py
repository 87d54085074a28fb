"""Answers of a classifier in a file: logits or probabilities with labels, in NPZ, Parquet or CSV."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.data.arrays import MAX_CLASSES, check_labels, name_classes
from hardy.data.npy import names_in_npz, read_npz
from hardy.errors import ContractError, DataError, explain_missing_packages

if TYPE_CHECKING:
    import polars as pl

TABLES = (".parquet", ".csv")
KINDS = ("logits", "probabilities")
MAX_BYTES = 1 << 30
MAX_NUMBERS = 1 << 28
"""Of a file, and in it: a small Parquet file can hold far more than fits the memory."""

_COLUMN = re.compile(r"(logit|probability)_(.+)", re.DOTALL)
_TAKES = (
    "it takes 'label' and one column per class, 'logit_NAME' or 'probability_NAME', or in Parquet one column of lists, "
    "'logits' or 'probabilities'"
)


class Answers(NamedTuple):
    """What a classifier answered: logits float32 (N, K), int64 labels (N,), and the class names."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def holds_answers(path: Path) -> bool:
    """Whether a file is read as answers: a table, or a ``.npz`` file of logits or probabilities.

    Raises:
        DataError: no such file, or a damaged one.
    """
    if path.suffix.lower() in TABLES:
        return path.is_file()
    return path.suffix == ".npz" and path.is_file() and not set(KINDS).isdisjoint(names_in_npz(path))


def read_answers(path: Path) -> Answers:
    """Read answers. Probabilities become their logarithms.

    A ``.npz`` file has ``logits`` or ``probabilities``, (N, K), and ``labels``, whole numbers (N,); it may have
    ``classes``, the names. A table has the column ``label``, whole numbers or the names of classes, and one column for
    each class, ``logit_NAME`` or ``probability_NAME``; in Parquet ``logits`` or ``probabilities`` may be one column of
    lists, as in hardy's own records.

    Raises:
        DataError: damaged, too large, or not as above.
    """
    kind, values, labels, classes = _from_npz(path) if path.suffix == ".npz" else _from_table(path)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not 2 <= values.shape[1] <= MAX_CLASSES:
        raise DataError(f"{path}, {kind}: {values.dtype} of shape {values.shape}; they are numbers, (N, K), K from 2")
    if kind == "probabilities":
        logits = log_of_probabilities(values, f"{path}, probabilities")
    else:
        logits = values.astype(np.float32)
        if not np.isfinite(logits).all():
            raise DataError(f"{path}, logits: NaN or infinity; logits are finite")
        if _are_probabilities(logits):
            raise DataError(f"{path}, logits: they are probabilities, which sum to 1; call them probabilities")
    names = classes or tuple(map(str, range(values.shape[1])))
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: {values.shape[1]} {kind} for each image and {len(names)} class names")
    return Answers(logits, labels, name_classes(logits, labels, names, str(path)))


def log_of_probabilities(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    """The logarithm of probabilities (N, K), which is finite also for 0, as float32.

    Raises:
        ContractError: rows that are no distributions.
    """
    floats = np.asarray(values, np.float64)
    if not floats.size:
        raise ContractError(f"{where}: not probabilities, but nothing, of shape {floats.shape}")
    sums = floats.sum(axis=-1) if floats.ndim == 2 else np.array([np.nan])
    if not (np.isfinite(floats).all() and (floats >= -1e-6).all() and (np.abs(sums - 1) < 1e-2).all()):
        raise ContractError(
            f"{where}: not probabilities, which are at least 0 and sum to 1 over the classes, in rows (N, K); found "
            f"shape {floats.shape}, values from {floats.min():.4g} to {floats.max():.4g}, and sums from "
            f"{sums.min():.4g} to {sums.max():.4g}"
        )
    smallest = np.finfo(np.float32).tiny
    return np.log(np.maximum(floats / sums[:, None], smallest)).astype(np.float32)


def _are_probabilities(values: NDArray[np.float32]) -> bool:
    return bool((values >= 0).all() and (np.abs(values.sum(axis=1) - 1) < 1e-3).all())


def _from_npz(path: Path) -> tuple[str, NDArray[Any], NDArray[np.int64], tuple[str, ...]]:
    arrays = read_npz(path, {*KINDS, "labels", "classes"})
    kinds = [kind for kind in KINDS if kind in arrays]
    if len(kinds) != 1 or "labels" not in arrays:
        found = ", ".join(arrays)
        raise DataError(f"{path} has the arrays {found}; it takes labels, and either logits or probabilities")
    named = arrays.get("classes", np.array([], str))
    if named.ndim != 1 or named.dtype.kind != "U":
        raise DataError(f"{path}, array 'classes', is {named.dtype} {named.shape}; class names are text, (K,)")
    labels = check_labels(arrays["labels"], f"{path}, array 'labels'")
    return kinds[0], arrays[kinds[0]], labels, tuple(map(str, named))


def _from_table(path: Path) -> tuple[str, NDArray[Any], NDArray[np.int64], tuple[str, ...]]:
    table = _table(path)
    columns = {name: match.groups() for name in table.columns if (match := _COLUMN.fullmatch(name))}
    lists = [kind for kind in KINDS if kind in table.columns]
    if "label" not in table.columns or len({kind for kind, _ in columns.values()}) + len(lists) != 1:
        raise DataError(f"{path} has the columns {', '.join(table.columns[:20])}; {_TAKES}")
    kind = lists[0] if lists else {"logit": "logits", "probability": "probabilities"}[next(iter(columns.values()))[0]]
    classes = tuple(name for _, name in columns.values())
    wanted = table[lists] if lists else table[list(columns)]
    if any(table[name].null_count() for name in ("label", *wanted.columns)):
        raise DataError(f"{path} has empty fields; each row has a label and its {kind}")
    try:
        values = np.array(table[lists[0]].to_list(), np.float64) if lists else wanted.to_numpy().astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {kind} that are no numbers, or lists of several lengths ({error})") from error
    labels = table["label"].to_numpy()
    if labels.dtype.kind not in "iu":
        names = [str(label) for label in labels]
        strange = next((name for name in names if name not in classes), None)
        if strange is not None:
            raise DataError(f"{path}, label '{strange}' is no class; known: {', '.join(classes[:20]) or 'numbers'}")
        labels = np.array([classes.index(name) for name in names], np.int64)
    elif set(classes) >= {str(label) for label in set(labels.tolist())}:
        # Columns that are named after numbers, in whatever order.
        labels = np.array([classes.index(str(label)) for label in labels.tolist()], np.int64)
    return kind, values, check_labels(labels, f"{path}, column 'label'"), classes


def _table(path: Path) -> pl.DataFrame:
    with explain_missing_packages():
        import polars as pl

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, infer_schema_length=None)
        lazy = pl.scan_parquet(path, glob=False)
        rows, width = int(lazy.select(pl.len()).collect().item()), len(lazy.collect_schema())
        if rows * width > MAX_NUMBERS:
            raise DataError(f"{path} has {rows:,} rows of {width:,} columns; at most {MAX_NUMBERS:,} numbers are read")
        return lazy.collect()
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
