from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hardy.data import load_dataset, load_user_dataset, user
from hardy.errors import DataError

RNG = np.random.default_rng(2)
GRAY = RNG.integers(0, 256, (6, 9, 7), dtype=np.uint8)
GRAY[0, 0, :2] = 0, 255
COLOR = RNG.integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)


def save(folder: Path, *pictures: np.ndarray, ending: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}{ending}")


# Folders


def test_a_folder_per_class_in_the_order_of_the_names(tmp_path: Path):
    save(tmp_path / "dog", *GRAY[:2])
    save(tmp_path / "cat", *GRAY[2:])
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"")
    (tmp_path / "README.md").write_text("cats and dogs")
    dataset = load_user_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert dataset.images.dtype == torch.uint8
    np.testing.assert_array_equal(dataset.images[:, 0].numpy(), np.concatenate([GRAY[2:], GRAY[:2]]))


def test_color_has_three_channels_first(tmp_path: Path):
    save(tmp_path / "a", *COLOR)
    palette = Image.fromarray(COLOR[0] // 128 * 255).quantize(8)
    palette.save(tmp_path / "a" / "palette.png")
    images = load_user_dataset(tmp_path).images
    np.testing.assert_array_equal(images[:4].numpy(), COLOR.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(images[4].numpy(), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_jpeg_is_read(tmp_path: Path):
    save(tmp_path / "a", np.full((8, 8), 200, np.uint8), ending=".JPG")
    assert load_user_dataset(tmp_path).images.tolist() == [[[[200] * 8] * 8]]


def test_train_and_test_folders_give_three_splits(tmp_path: Path):
    many = RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    save(tmp_path / "train" / "a", *many[:12])
    save(tmp_path / "train" / "b", *many[12:])
    save(tmp_path / "test" / "b", *GRAY)
    train, validation, test = (load_dataset(f"{tmp_path}/{split}") for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (18, 2, 6)
    whole = {image.numpy().tobytes() for part in (train, validation) for image in part.images}
    assert whole == {image.tobytes() for image in many}
    assert test.classes == train.classes == ("a", "b")
    assert test.labels.tolist() == [1] * 6


def test_test_folders_alone_give_a_test_split(tmp_path: Path):
    save(tmp_path / "test" / "a", *GRAY)
    assert len(load_dataset(f"{tmp_path}/test")) == 6
    with pytest.raises(DataError, match="no training split"):
        load_dataset(f"{tmp_path}/train")


def test_the_name_loads_the_dataset_again(tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    dataset = load_dataset(str(tmp_path))
    assert dataset.name == f"{tmp_path}/test"
    assert load_dataset(dataset.name).sha256 == dataset.sha256


def test_the_first_picture_that_differs_is_named(tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    save(tmp_path / "b", GRAY[0], GRAY[0].T.copy(), GRAY[0, :2])
    with pytest.raises(DataError, match=r"b/1\.png is 9x7 grayscale, and .*a/0\.png is 7x9 grayscale"):
        load_user_dataset(tmp_path)
    save(tmp_path / "b", *COLOR)
    with pytest.raises(DataError, match=r"b/0\.png is 7x9 RGB"):
        load_user_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.png", b"\x89PNG\r\n\x1a\n but no more", r"broken\.png is no PNG or JPEG image"),
        ("text.jpg", b"no picture", r"text\.jpg is no PNG or JPEG image"),
        ("notes.txt", b"", r"notes\.txt is no PNG or JPEG"),
        ("picture.gif", b"GIF89a", r"picture\.gif is no PNG or JPEG"),
        ("gif.png", b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2L\1\0;", r"gif\.png is no PNG or JPEG image"),
    ],
)
def test_what_is_no_picture_is_named(name: str, content: bytes, message: str, tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_user_dataset(tmp_path)


def test_empty_folders_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no folders"):
        load_user_dataset(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no PNG or JPEG"):
        load_user_dataset(tmp_path)
    (tmp_path / "a" / "deeper").mkdir()
    with pytest.raises(DataError, match="deeper is no PNG"):
        load_user_dataset(tmp_path)


def test_a_class_only_in_test_is_refused(tmp_path: Path):
    save(tmp_path / "train" / "a", *GRAY)
    save(tmp_path / "test" / "b", *GRAY)
    with pytest.raises(DataError, match=f"{tmp_path}/test/b"):
        load_user_dataset(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "CMYK"])
def test_other_kinds_of_picture_are_refused(mode: str, tmp_path: Path):
    (tmp_path / "a").mkdir()
    Image.new(mode, (4, 4)).save(tmp_path / "a" / ("0.jpg" if mode == "CMYK" else "0.png"))
    with pytest.raises(DataError, match=f"of mode {mode}"):
        load_user_dataset(tmp_path)


def test_transparency_outside_the_mode_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "0.png", transparency=0)
    with pytest.raises(DataError, match="without transparency"):
        load_user_dataset(tmp_path)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header declares a size, with nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("side", [5_000, 12_000, 100_000])
def test_a_picture_bomb_is_not_decoded(side: int, tmp_path: Path):
    """Sizes below Pillow's warning, between its warning and its error, and above its error."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bomb.png").write_bytes(png_of(side, side) + struct.pack(">I", 9) + b"IDAT")
    with pytest.raises(DataError, match=r"bomb\.png .*16,777,216 pixels"):
        load_user_dataset(tmp_path)


def test_too_many_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path / "a", *GRAY)
    monkeypatch.setattr(user, "LIMIT", GRAY.nbytes - 1)
    with pytest.raises(DataError, match="6 images of 63 bytes"):
        load_user_dataset(tmp_path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_picture_is_refused_or_has_its_size(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    ending = data.draw(st.sampled_from([".png", ".jpg"]))
    folder = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    save(folder / "a", GRAY[0], ending=ending)
    path = folder / "a" / f"0{ending}"
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        dataset = load_user_dataset(folder)
    except DataError as error:
        assert path.name in str(error)  # noqa: PT017 (both outcomes are right)
        return
    assert dataset.images.ndim == 4
    assert len(dataset) == 1


# .npz files


def npz(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path / "data.npz", **arrays)  # type: ignore[arg-type]
    return path / "data.npz"


LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GRAY, GRAY[:, None]),
        (GRAY[:, None], GRAY[:, None]),
        (GRAY[..., None], GRAY[:, None]),
        (COLOR, COLOR.transpose(0, 3, 1, 2)),
        (COLOR.transpose(0, 3, 1, 2), COLOR.transpose(0, 3, 1, 2)),
        (np.asfortranarray(GRAY), GRAY[:, None]),
        (GRAY / 255, (GRAY[:, None] / 255).astype(np.float32)),
        ((GRAY / 255).astype(">f4"), (GRAY[:, None] / 255).astype(np.float32)),
        ((GRAY / 255).astype(np.float16), (GRAY[:, None] / 255).astype(np.float16).astype(np.float32)),
    ],
)
def test_the_layouts_of_an_npz(images: np.ndarray, expected: np.ndarray, tmp_path: Path):
    dataset = load_user_dataset(npz(tmp_path, images=images, labels=LABELS[: len(images)].astype(np.uint8)))
    np.testing.assert_array_equal(dataset.images.numpy(), expected)
    assert dataset.images.numpy().dtype == expected.dtype
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == LABELS[: len(images)].tolist()
    assert dataset.classes == ("0", "1", "2")


def test_classes_may_be_named(tmp_path: Path):
    dataset = load_user_dataset(npz(tmp_path, images=GRAY, labels=LABELS, classes=["x", "y", "z", "none"]))
    assert dataset.classes == ("x", "y", "z", "none")


def test_an_npz_with_train_and_test_has_three_splits(tmp_path: Path):
    many = RNG.random((40, 4, 4), dtype=np.float32)
    path = npz(tmp_path, train_images=many, train_labels=np.arange(40) % 4, test_images=many[:6], test_labels=LABELS)
    train, validation, test = (load_dataset(f"{path}/{split}") for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (36, 4, 6)
    assert test.classes == train.classes == ("0", "1", "2", "3")
    both = torch.cat([train.images, validation.images]).flatten(1).numpy()
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(many.reshape(40, -1), axis=0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GRAY}, "no array 'labels'"),
        ({"x": GRAY, "y": LABELS}, "no array 'images'; it has x, y"),
        ({"test_images": GRAY, "labels": LABELS}, "no array 'test_labels'"),
        ({"images": GRAY, "labels": LABELS[:5]}, "6 images and 5 labels"),
        ({"images": GRAY, "labels": LABELS - 1}, "labels from -1 to 1"),
        ({"images": GRAY, "labels": LABELS + 10**9}, "1000000000"),
        ({"images": GRAY, "labels": LABELS.astype(float)}, "float64"),
        ({"images": GRAY, "labels": LABELS[:, None]}, r"\(6, 1\)"),
        ({"images": GRAY, "labels": LABELS, "classes": ["a", "b"]}, "label 2; its 2 classes"),
        ({"images": GRAY, "labels": LABELS, "classes": [1, 2, 3]}, "class names are text"),
        ({"images": GRAY.astype(int), "labels": LABELS}, "int64"),
        ({"images": GRAY > 3, "labels": LABELS}, "bool"),
        ({"images": GRAY.astype(float), "labels": LABELS}, "values from 0 to 255"),
        ({"images": GRAY / 255 - 0.1, "labels": LABELS}, "values from -0.1"),
        ({"images": np.full((6, 4, 4), np.nan), "labels": LABELS}, "nan"),
        ({"images": np.full((6, 4, 4), np.inf), "labels": LABELS}, "inf"),
        ({"images": GRAY[..., None].repeat(2, 3), "labels": LABELS}, r"shape \(6, 9, 7, 2\)"),
        ({"images": GRAY[0], "labels": LABELS}, r"shape \(9, 7\)"),
        ({"images": GRAY[:0], "labels": LABELS[:0]}, "empty"),
        ({"images": np.array([None] * 6), "labels": LABELS}, "objects"),
    ],
)
def test_what_is_wrong_in_an_npz_is_named(arrays: dict[str, object], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        load_user_dataset(npz(tmp_path, **arrays))


def test_a_split_that_is_not_there_is_refused(tmp_path: Path):
    path = npz(tmp_path, images=GRAY, labels=LABELS)
    with pytest.raises(DataError, match="no training split"):
        load_user_dataset(path, "validation")
    with pytest.raises(DataError, match="the splits train, validation, test, and no 'dev'"):
        load_user_dataset(path, "dev")
    with pytest.raises(DataError, match=r"absent\.npz"):
        load_user_dataset(tmp_path / "absent.npz")


def test_what_is_no_npz_is_refused(tmp_path: Path):
    path = tmp_path / "data.npz"
    for content in (b"", b"PK\3\4", b"no zip at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz"):
            load_user_dataset(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_npz_is_refused_or_whole(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    path = npz(tmp_path_factory.getbasetemp(), images=GRAY, labels=LABELS)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        dataset = load_user_dataset(path)
    except DataError:
        return
    # The zip file holds a checksum of each array, so what still loads is what was saved.
    np.testing.assert_array_equal(dataset.images[:, 0].numpy(), GRAY)
