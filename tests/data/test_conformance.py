"""What every registered dataset has to keep, a user's own included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hardy.data import DATASETS, available, load_dataset, register
from hardy.data.entry import DatasetEntry
from hardy.errors import DataError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def clean_registry() -> Iterator[None]:
    before = set(DATASETS)
    yield
    for name in set(DATASETS) - before:
        DATASETS.remove(name)


@pytest.mark.parametrize("entry", DATASETS.values(), ids=DATASETS)
def test_a_dataset_names_its_license_and_its_authors(entry: DatasetEntry) -> None:
    assert DATASETS[entry.name] is entry
    assert entry.title
    assert entry.license
    assert entry.citation.endswith(".")
    assert any(character.isdigit() for character in entry.citation), "a citation names the year"
    assert len(set(entry.classes)) == len(entry.classes) >= 2
    assert all(size is not None and size > 0 for size in entry.sizes.values())
    assert all(bool(split.load) != bool(split.files) for split in entry.splits.values())
    assert bool(entry.packages) != bool(entry.files)
    assert all(mirror.startswith(("https://", "http://")) for mirror in entry.mirrors)
    assert not entry.files or len(entry.mirrors) >= 2
    hashes = [file.sha256 or file.gz_sha256 for file in entry.files]
    hashes += [entry.archive.sha256] if entry.archive else []
    assert all(len(bytes.fromhex(each)) == 32 for each in hashes if each)
    assert entry.archive or all(hashes), "what is downloaded is verified, by itself or as an archive"


def test_a_users_dataset_is_loaded_by_its_name(clean_registry: None) -> None:
    calls: list[str] = []

    @register("mine/train", license="my own")
    def training() -> tuple[np.ndarray, np.ndarray]:
        calls.append("train")
        return IMAGES, LABELS

    @register("mine/test")
    def testing() -> DataLoader:
        return DataLoader(TensorDataset(torch.from_numpy(IMAGES[:8, None]), torch.from_numpy(LABELS[:8])))

    assert calls == []
    assert DATASETS["mine"].sizes == {"train": None, "validation": None, "test": None}
    train, validation, test = (load_dataset(f"mine/{split}") for split in ("train", "validation", "test"))
    assert calls == ["train"]
    assert (len(train), len(validation), len(test)) == (36, 4, 8)
    assert train.name == "mine/train"
    assert train.classes == ("0", "1", "2", "3")
    both = torch.cat([train.images, validation.images]).flatten(1).numpy()
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(IMAGES.reshape(40, -1), axis=0))
    assert available()["mine/test"] is None
    assert "mine/train" not in available()


def test_a_validation_split_of_its_own_leaves_the_training_split_whole(clean_registry: None) -> None:
    register("own/train")(lambda: (IMAGES, LABELS, "abcd"))
    register("own/validation")(lambda: (IMAGES[:3], LABELS[:3], "abcd"))
    assert len(load_dataset("own/train")) == 40
    assert len(load_dataset("own/validation")) == 3
    assert load_dataset("own/validation").classes == ("a", "b", "c", "d")


def test_outliers_of_the_users_are_measured_on(clean_registry: None) -> None:
    register("strange/test", role="out-of-distribution")(lambda: (IMAGES, LABELS))
    assert available(role="out-of-distribution")["strange/test"] is None
    assert "strange/test" not in available(role="shift")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist/test", "there is a dataset 'mnist/test' already; choose another name"),
        ("mnist/mine", "there is a dataset 'mnist' already"),
        ("mine", "'mine' names no split; register a split as dataset/split, for example mine/test"),
        ("/test", "names no split"),
    ],
)
def test_a_name_that_is_taken_or_no_split_is_refused(clean_registry: None, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        register(name)(lambda: (IMAGES, LABELS))


def test_what_a_users_function_returns_is_checked(clean_registry: None) -> None:
    register("bad/test")(lambda: (IMAGES.astype(np.float32), LABELS))
    with pytest.raises(DataError, match=r"bad/test, images: values from 0 to 255; .* lie in \[0, 1\]"):
        load_dataset("bad/test")
    register("worse/test")(lambda: None)
    with pytest.raises(DataError, match="worse/test is NoneType; pass a DataLoader"):
        load_dataset("worse/test")
