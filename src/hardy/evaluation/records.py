"""Records: what was measured, one row per example, in memory or in Parquet files, where a kill leaves whole shards."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hardy.errors import RunError
from hardy.evaluation.framework import Columns, Measurement
from hardy.files import write_bytes


def frame(indices: np.ndarray, labels: np.ndarray, columns: Columns) -> pl.DataFrame:
    """Columns of a shard as a frame, with ``index`` and ``label`` in front."""
    return pl.DataFrame({"index": indices, "label": labels, **columns})


def read(path: Path) -> pl.DataFrame:
    """A file of records.

    Raises:
        RunError: damaged.
    """
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"the records {path} cannot be read ({error}); remove the file and use --resume") from error


def _parquet(records: pl.DataFrame) -> bytes:
    # In memory first: what polars raises when a disk fills says neither which file nor why.
    buffer = io.BytesIO()
    records.write_parquet(buffer)
    return buffer.getvalue()


class MemoryStore:
    """Records of an evaluation that writes nothing."""

    def __init__(self) -> None:
        self._shards: dict[Measurement, dict[int, pl.DataFrame]] = {}
        self._finished: dict[Measurement, pl.DataFrame] = {}

    def missing(self, measurement: Measurement, shards: int) -> list[int]:
        """The shards that are still to be measured."""
        known = range(shards) if measurement in self._finished else self._shards.get(measurement, {})
        return [number for number in range(shards) if number not in known]

    def write(self, measurement: Measurement, number: int, records: pl.DataFrame) -> None:
        """Keep one shard."""
        self._shards.setdefault(measurement, {})[number] = records

    def finish(self, measurement: Measurement, shards: int) -> None:
        """Join a measurement's shards, sorted by ``index``."""
        parts = self._shards.pop(measurement)
        self._finished[measurement] = pl.concat([parts[number] for number in range(shards)]).sort("index")

    def load(self, measurements: Sequence[Measurement]) -> dict[Measurement, pl.DataFrame]:
        """The records of finished measurements."""
        return {measurement: self._finished[measurement] for measurement in measurements}


class RecordStore:
    """The ``records`` folder of a run: one file per measurement, and until that is finished one file per shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _measurement(self, measurement: Measurement) -> Path:
        return self.folder / f"{measurement.key}.parquet"

    def _shard(self, measurement: Measurement, number: int) -> Path:
        return self.folder / measurement.key / f"{number:05d}.parquet"

    def missing(self, measurement: Measurement, shards: int) -> list[int]:
        """The shards that are still to be measured."""
        if self._measurement(measurement).exists():
            return []
        return [number for number in range(shards) if not self._shard(measurement, number).exists()]

    def write(self, measurement: Measurement, number: int, records: pl.DataFrame) -> None:
        """Write one shard, whole or not at all."""
        write_bytes(self._shard(measurement, number), _parquet(records))

    def finish(self, measurement: Measurement, shards: int) -> None:
        """Make one file of a measurement's shards, sorted by ``index``."""
        folder = self.folder / measurement.key
        if not self._measurement(measurement).exists():
            parts = [read(self._shard(measurement, number)) for number in range(shards)]
            write_bytes(self._measurement(measurement), _parquet(pl.concat(parts).sort("index")))
        shutil.rmtree(folder, ignore_errors=True)

    def load(self, measurements: Sequence[Measurement]) -> dict[Measurement, pl.DataFrame]:
        """The records of finished measurements.

        Raises:
            RunError: a measurement is missing, damaged, or has another number of rows.
        """
        loaded = {}
        for measurement in measurements:
            path = self._measurement(measurement)
            if not path.exists():
                raise RunError(f"the records {path} are missing; go on with 'hardy evaluate … --resume'")
            records = read(path)
            different = records["index"].n_unique() if "index" in records.columns else 0
            if not len(records) == different == measurement.examples:
                raise RunError(
                    f"{path} holds {len(records)} rows with {different} different examples where "
                    f"{measurement.examples} were planned; remove the file and use --resume"
                )
            loaded[measurement] = records
        return loaded
