"""Records on disk: whole shards only, one file per finished measurement, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hardy.errors import RunError
from hardy.evaluation.framework import Measurement
from hardy.evaluation.records import MemoryStore, RecordStore, frame, read

MEASUREMENT = Measurement.of("predict", "mnist/test", 7, bins=3)
INDICES = np.array([6, 2, 4, 0, 1, 5, 3])


def shard(*chosen: int) -> pl.DataFrame:
    indices = INDICES[list(chosen)]
    return frame(indices, indices % 3, {"logits": np.stack([indices, -indices], 1).astype(np.float32)})


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


def finished(store: RecordStore) -> RecordStore:
    for number, chosen in enumerate([(0, 1, 2), (3, 4, 5), (6,)]):
        store.write(MEASUREMENT, number, shard(*chosen))
    store.finish(MEASUREMENT, 3)
    return store


def test_shards_become_one_file_in_the_order_of_the_index(store: RecordStore) -> None:
    records = finished(store).load([MEASUREMENT])[MEASUREMENT]
    assert records["index"].to_list() == list(range(7))
    assert records["label"].to_list() == [index % 3 for index in range(7)]
    assert records["logits"].to_numpy()[:, 1].tolist() == [-index for index in range(7)]
    assert records["logits"].to_numpy().dtype == np.float32
    assert [path.name for path in store.folder.iterdir()] == [f"{MEASUREMENT.key}.parquet"]


def test_what_is_missing_is_known_at_every_point(store: RecordStore) -> None:
    assert store.missing(MEASUREMENT, 3) == [0, 1, 2]
    store.write(MEASUREMENT, 1, shard(3, 4, 5))
    assert store.missing(MEASUREMENT, 3) == [0, 2]
    store.write(MEASUREMENT, 0, shard(0, 1, 2))
    store.write(MEASUREMENT, 2, shard(6))
    assert store.missing(MEASUREMENT, 3) == []
    store.finish(MEASUREMENT, 3)
    assert store.missing(MEASUREMENT, 3) == []


def test_finishing_twice_changes_nothing(store: RecordStore) -> None:
    finished(store)
    before = (store.folder / f"{MEASUREMENT.key}.parquet").read_bytes()
    store.finish(MEASUREMENT, 3)
    assert (store.folder / f"{MEASUREMENT.key}.parquet").read_bytes() == before


def test_a_kill_between_finishing_and_tidying_leaves_nothing_doubled(store: RecordStore) -> None:
    finished(store)
    store.write(MEASUREMENT, 0, shard(0, 1, 2))
    assert store.missing(MEASUREMENT, 3) == []
    store.finish(MEASUREMENT, 3)
    assert len(store.load([MEASUREMENT])[MEASUREMENT]) == 7
    assert [path.name for path in store.folder.iterdir()] == [f"{MEASUREMENT.key}.parquet"]


def test_records_in_memory_are_those_on_disk(store: RecordStore) -> None:
    memory = MemoryStore()
    assert memory.missing(MEASUREMENT, 3) == [0, 1, 2]
    for number, chosen in [(2, (6,)), (0, (0, 1, 2)), (1, (3, 4, 5))]:
        memory.write(MEASUREMENT, number, shard(*chosen))
        assert number not in memory.missing(MEASUREMENT, 3)
    memory.finish(MEASUREMENT, 3)
    assert memory.missing(MEASUREMENT, 3) == []
    assert memory.load([MEASUREMENT])[MEASUREMENT].equals(finished(store).load([MEASUREMENT])[MEASUREMENT])


def test_a_failed_write_leaves_nothing(store: RecordStore) -> None:
    with pytest.raises(AttributeError):
        store.write(MEASUREMENT, 0, None)  # type: ignore[arg-type]
    assert store.missing(MEASUREMENT, 1) == [0]
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


def test_a_damaged_shard_is_named(store: RecordStore) -> None:
    for number in range(3):
        store.write(MEASUREMENT, number, shard(number))
    path = store.folder / MEASUREMENT.key / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"00001\.parquet cannot be read.*remove the file and use --resume"):
        store.finish(MEASUREMENT, 3)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.parquet").write_bytes(content)
    with pytest.raises(RunError, match=r"some\.parquet cannot be read"):
        read(tmp_path / "some.parquet")


def test_records_of_another_number_of_examples_are_refused(store: RecordStore) -> None:
    finished(store)
    path = store.folder / f"{MEASUREMENT.key}.parquet"
    pl.concat([shard(0, 1, 2, 3, 4, 5), shard(5)]).write_parquet(path)
    with pytest.raises(RunError, match="holds 7 rows with 6 different examples where 7 were planned"):
        store.load([MEASUREMENT])
    shard(0, 1).write_parquet(path)
    with pytest.raises(RunError, match="holds 2 rows"):
        store.load([MEASUREMENT])


def test_records_without_their_columns_are_refused(store: RecordStore) -> None:
    finished(store)
    path = store.folder / f"{MEASUREMENT.key}.parquet"
    pl.DataFrame({"something": range(7)}).write_parquet(path)
    with pytest.raises(RunError, match="with 0 different examples"):
        store.load([MEASUREMENT])


def test_measurements_that_differ_have_files_that_differ() -> None:
    measurements = [
        Measurement.of("predict", "mnist/test", 10),
        Measurement.of("predict", "mnist/test", 11),
        Measurement.of("predict", "mnist-test", 10),
        Measurement.of("attack", "mnist/test", 10),
        Measurement.of("attack", "mnist/test", 10, eps=0.3),
        Measurement.of("attack", "mnist/test", 10, eps="0.3"),
        Measurement.of("attack", "mnist/test", 10, eps=0.3, norm="l2"),
        Measurement.of("attack", "mnist/test", 10, norm="0.3", eps="l2"),
        Measurement.of("attack", "/some/very/long/path" * 20, 10),
        Measurement.of("attack", "/some/very/long/path" * 21, 10),
        Measurement.of("attack", "../../etc/passwd", 10),
    ]
    keys = [measurement.key for measurement in measurements]
    assert len({key.lower() for key in keys}) == len(keys)
    assert all(len(key) < 120 for key in keys)
    assert not any(set(key) & set("/\\: ") for key in keys)
    assert Measurement.of("attack", "mnist/test", 10, norm="l2", eps=0.3) == measurements[6]
    assert Measurement.of("attack", "mnist/test", 10, norm="l2", eps=0.3).key == measurements[6].key
