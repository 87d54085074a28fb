from __future__ import annotations

import hashlib
import heapq
import lzma
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.datasets import load_digits

from hardy.data import DATASETS, available, load_dataset, split_hashes
from hardy.data.registry import CORRUPTIONS
from hardy.data.splits import divide, indices_sha256
from hardy.errors import DataError, UsageError
from hardy.synthetic.glyphs import centered_by_mass, letter_glyphs

# SHA-256 of the plain IDX files, as the field knows them.
MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION = DATASETS["fashion-mnist"].folders[0]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HARDY_DATA", raising=False)


# The registry


def test_the_parts_of_a_training_split_are_counted():
    assert DATASETS["mnist"].sizes == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert set(DATASETS["mnist-c"].sizes) == {"identity", *CORRUPTIONS}
    assert len(CORRUPTIONS) == 15


# MNIST


@pytest.mark.parametrize("name", MNIST)
def test_embedded_mnist_is_mnist(name: str):
    path = DATASETS["mnist"].folders[0] / f"{name}.xz"
    assert hashlib.sha256(lzma.decompress(path.read_bytes())).hexdigest() == MNIST[name]
    assert MNIST[name] in {file.sha256 for file in DATASETS["mnist"].files if file.name == name}


def test_mnist_has_its_known_counts_and_mean():
    test = load_dataset("mnist/test")
    assert test.images.shape == (10_000, 1, 28, 28)
    assert test.images.dtype == torch.uint8
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    parts = [load_dataset("mnist/train"), load_dataset("mnist/validation")]
    assert [len(part) for part in parts] == [55_000, 5_000]
    counts = sum(part.labels.bincount() for part in parts)
    assert isinstance(counts, torch.Tensor)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # The mean of the 60,000 training images, with which the field normalises.
    mean = sum(float(part.images.sum(dtype=torch.int64)) for part in parts) / (60_000 * 784 * 255)
    assert mean == pytest.approx(0.1307, abs=5e-5)


def test_each_training_image_is_in_one_part_with_its_label():
    raw = lzma.decompress((DATASETS["mnist"].folders[0] / "train-images-idx3-ubyte.xz").read_bytes())[16:]
    labels = lzma.decompress((DATASETS["mnist"].folders[0] / "train-labels-idx1-ubyte.xz").read_bytes())[8:]
    parts = divide(60_000)
    for name, places in (("train", parts.train), ("validation", parts.validation)):
        part = load_dataset(f"mnist/{name}")
        for row in (0, 1, 2_500, 4_999):
            place = int(places[row])
            assert bytes(part.images[row].flatten().tolist()) == raw[784 * place : 784 * (place + 1)]
            assert int(part.labels[row]) == labels[place]


# Splits


@pytest.mark.parametrize(("published", "validation"), [(60_000, 5_000), (49_990, 4_999), (105, 10), (9, 1), (2, 1)])
def test_a_division_is_disjoint_complete_and_of_the_right_size(published: int, validation: int):
    parts = divide(published)
    assert len(parts.validation) == validation
    assert sorted(parts.train.tolist() + parts.validation.tolist()) == list(range(published))
    assert parts.train.tolist() == sorted(parts.train.tolist())


def test_the_division_is_the_formula_of_its_docstring():
    smallest = heapq.nsmallest(70, range(700), key=lambda place: hashlib.sha256(str(place).encode()).hexdigest())
    assert divide(700).validation.tolist() == sorted(smallest)


def test_the_division_of_mnist_is_fixed():
    """Worked out without Python: perl's Digest::SHA over 0 to 59999, sorted as text, cut at 5,000, packed as q<."""
    assert split_hashes(60_000) == {
        "train": "ee1ecefa019c26c3f8e81c8bd6fb2fef900839521d12bcb4625bc94892b9cf9e",
        "validation": "6d44d9cb4d282f265905bc01a95e08644c9ee03a88b8d7285c2e03e5ee11ba51",
    }


def test_the_hash_of_positions_is_over_64_bit_integers():
    assert indices_sha256(torch.tensor([3, 258])) == hashlib.sha256(struct.pack("<qq", 3, 258)).hexdigest()


def test_a_single_image_cannot_be_divided():
    with pytest.raises(DataError, match="1 images"):
        divide(1)


# Other published sets


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian_is_the_published_one():
    test = load_dataset("fashion-mnist/test")
    assert test.labels.bincount().tolist() == [1000] * 10
    assert available()["fashion-mnist/test"] is None


def test_emnist_is_turned_upright_and_counted_from_zero(tmp_path: Path):
    stored = np.random.default_rng(3).integers(0, 256, (20_800, 28, 28), dtype=np.uint8)
    labels = np.arange(20_800) % 26 + 1
    prefix = tmp_path / "emnist-letters-test"
    header = b"\0\0\x08\x03" + struct.pack(">III", *stored.shape)
    Path(f"{prefix}-images-idx3-ubyte").write_bytes(header + stored.tobytes())
    header = b"\0\0\x08\x01" + struct.pack(">I", len(labels))
    Path(f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    dataset = load_dataset("emnist-letters/test", tmp_path)
    assert int(dataset.images[5, 0, 3, 20]) == stored[5, 20, 3]
    np.testing.assert_array_equal(dataset.images[:, 0].numpy(), stored.transpose(0, 2, 1))
    assert dataset.labels[:27].tolist() == [*range(26), 0]
    assert [dataset.classes[label] for label in dataset.labels[:3]] == ["A", "B", "C"]


def put_mnist_c(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "test_images.npy", images.numpy().transpose(0, 2, 3, 1))
    np.save(folder / "test_labels.npy", labels.numpy())


@pytest.mark.parametrize("named", ["", "mnist-c", "mnist-c/mnist_c", "unpacked/mnist_c/fog"])
def test_mnist_c_is_found_in_any_folder_on_the_way_to_its_files(named: str, tmp_path: Path):
    test = load_dataset("mnist/test")
    whole = tmp_path / {"": "mnist-c", "unpacked/mnist_c/fog": "unpacked"}.get(named, named.partition("/")[0])
    put_mnist_c(whole / "mnist_c" / "fog", 255 - test.images, test.labels)
    assert torch.equal(load_dataset("mnist-c/fog", tmp_path / named).images, 255 - test.images)
    # The folder of one corruption must not pass for another's.
    with pytest.raises(DataError, match="not at hand"):
        load_dataset("mnist-c/rotate", tmp_path / named)


def test_the_families_of_mnist_c_show_the_same_digits_in_the_same_order(tmp_path: Path):
    test = load_dataset("mnist/test")
    for family in ("fog", "stripe"):
        put_mnist_c(tmp_path / "mnist_c" / family, 255 - test.images, test.labels)
    orders = [load_dataset(f"mnist-c/{family}", tmp_path).measuring_order() for family in ("fog", "stripe")]
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], test.measuring_order())


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("fog", lambda images, labels: (255 - images, labels.roll(1)), "of its 10,000 labels are not those of mnist"),
        ("fog", lambda images, labels: (images, labels), "its images are those of mnist/test, unchanged"),
        ("identity", lambda images, labels: (255 - images, labels), "its images are not those of mnist/test, which"),
    ],
)
def test_what_is_not_made_of_the_test_digits_does_not_pass_for_mnist_c(
    family: str, change: Callable, message: str, tmp_path: Path
):
    test = load_dataset("mnist/test")
    put_mnist_c(tmp_path / "mnist_c" / family, *change(test.images, test.labels))
    with pytest.raises(DataError, match=message):
        load_dataset(f"mnist-c/{family}", tmp_path)


@pytest.mark.parametrize("folder", ["", "mnist-c"])
def test_mnist_c_is_read_as_published(folder: str, tmp_path: Path):
    test = load_dataset("mnist/test")
    put_mnist_c(tmp_path / folder / "mnist_c" / "fog", 255 - test.images, test.labels)
    dataset = load_dataset("mnist-c/fog", tmp_path)
    assert dataset.unverified.startswith("there is no published hash")
    assert not test.unverified
    assert torch.equal(dataset.images, 255 - test.images)
    assert torch.equal(dataset.labels, test.labels)
    with pytest.raises(DataError, match="mnist_c/rotate/test_images"):
        load_dataset("mnist-c/rotate", tmp_path)
    at_hand = [name for name, reason in available(tmp_path, "shift").items() if reason is None]
    assert at_hand == ["mnist-c/fog", "digits/test"]


def test_notmnist_that_is_something_else_is_refused(tmp_path: Path):
    (tmp_path / "notmnist").mkdir()
    for name in ("t10k-images-idx3-ubyte.xz", "t10k-labels-idx1-ubyte.xz"):
        (tmp_path / "notmnist" / name).symlink_to(DATASETS["mnist"].folders[0] / name)
    with pytest.raises(DataError, match=f"expected sha256 .*, found {MNIST['t10k-images-idx3-ubyte']}"):
        load_dataset("notmnist/test", tmp_path)


# Names


def test_a_file_that_changes_is_read_again(tmp_path: Path):
    identity = tmp_path / "mnist_c" / "identity"
    identity.mkdir(parents=True)
    test = load_dataset("mnist/test")
    np.save(identity / "test_labels.npy", test.labels.numpy())
    np.save(identity / "test_images.npy", test.images[:, 0].numpy())
    assert torch.equal(load_dataset("mnist-c/identity", tmp_path).images, test.images)
    np.save(identity / "test_images.npy", 255 - test.images[:, 0].numpy())
    with pytest.raises(DataError, match="not those of mnist/test"):
        load_dataset("mnist-c/identity", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits/test", "did you mean mnist"),
        ("mnist/tets", "unknown split of mnist 'tets'; did you mean test"),
        ("notmnist/train", "known: test"),
        ("mnist", "names no split; load one of mnist/train, mnist/validation, mnist/test"),
        ("no/such/folder", "nor is there a file or folder 'no/such/folder'"),
        ("absent.npz/validation", r"nor is there a file or folder 'absent\.npz'"),
        ("", "nor is there a file or folder ''"),
    ],
)
def test_a_wrong_name_is_answered_with_what_is_right(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_dataset(name)


def test_loading_never_uses_the_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "create_connection", None)
    with pytest.raises(DataError, match="hardy data fetch kmnist"):
        load_dataset("kmnist/test")


def test_available_names_what_is_at_hand_and_why_the_rest_is_not(tmp_path: Path):
    found = available(role="out-of-distribution")
    assert {"fashion-mnist/test", "notmnist/test", "kmnist/test", "emnist-letters/test", "glyphs/test"} == set(found)
    assert found["glyphs/test"] is None
    assert "hardy data fetch kmnist" in str(found["kmnist/test"])
    assert available()["mnist/test"] is None
    assert not [name for name in available() if name.endswith(("/train", "/validation"))]
    with pytest.raises(DataError, match="nowhere"):
        available(tmp_path / "nowhere")


def test_importing_and_loading_take_only_what_training_has():
    absent = ["sklearn", "PIL", "matplotlib", "scipy", "polars", "pydantic", "typer", "jinja2"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({absent})\n"
        "from hardy.data import load_dataset, available\n"
        "assert len(load_dataset('mnist/test')) == 10_000\n"
        "from hardy.errors import UsageError\n"
        "for name in ('digits/test', 'glyphs/test'):\n"
        "    try: load_dataset(name)\n"
        "    except UsageError as error: assert 'pip install' in str(error)\n"
        "    else: raise AssertionError(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Generated datasets


def offset_of_middle(image: np.ndarray) -> np.ndarray:
    """How far the center of mass is from the middle of the field, in pixels."""
    return np.array(ndimage.center_of_mass(image.astype(float))) - 13.5


def test_uci_digits_are_interpolated_into_the_box():
    dataset = load_dataset("digits/test")
    pixels, labels = load_digits(return_X_y=True)
    assert dataset.labels.tolist() == list(labels)
    small = torch.as_tensor(np.asarray(pixels)).reshape(-1, 1, 8, 8) * (255 / 16)
    boxes = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)[:, 0].numpy()
    for image, box in zip(dataset.images[:100, 0].numpy().astype(float), boxes, strict=False):
        places = np.lib.stride_tricks.sliding_window_view(image, (20, 20))
        assert np.abs(places - box).max(axis=(2, 3)).min() <= 0.5 + 1e-6


def test_made_images_are_centered_by_mass_in_the_box():
    for name in ("digits/test", "glyphs/test"):
        images = load_dataset(name).images[:, 0].numpy()
        offsets = np.array([offset_of_middle(image) for image in images])
        assert np.abs(offsets).max() <= 0.5 + 1e-9
        for axis in (1, 2):
            extent = images.any(axis=axis).sum(axis=1)
            assert extent.min() > 0
            assert extent.max() <= 20


def test_centring_never_cuts_ink():
    corner = np.zeros((20, 20), np.uint8)
    corner[0, 0] = 255
    field = centered_by_mass(corner)
    assert field.sum() == 255
    # As near to the middle as a 20x20 picture gets without leaving the field.
    assert field[8, 8] == 255
    assert centered_by_mass(np.zeros((20, 20), np.uint8)).sum() == 0


def test_glyphs_are_the_same_each_time_and_all_different():
    first, again = load_dataset("glyphs/test"), letter_glyphs()
    np.testing.assert_array_equal(first.images[:, 0].numpy(), again.images)
    assert len(first) == DATASETS["glyphs"].splits["test"].examples
    assert first.labels.bincount().tolist() == [198] * 10
    assert first.classes == tuple("ABCDEFGHIJ")
    assert len({image.tobytes() for image in again.images}) == len(first)
    assert len(load_dataset("digits/test")) == DATASETS["digits"].splits["test"].examples
