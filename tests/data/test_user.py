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
from hardy.errors import DataError, UsageError

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
        ("broken.png", b"\x89PNG\r\n\x1a\n but no more", r"broken\.png is no image of a known format"),
        ("text.jpg", b"no picture", r"text\.jpg is no image of a known format"),
        ("picture.gif", b"GIF89a", r"picture\.gif is no image of a known format"),
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
    with pytest.raises(DataError, match="no image \\(PNG, JPEG"):
        load_user_dataset(tmp_path)
    (tmp_path / "a" / "deeper").mkdir()
    with pytest.raises(DataError, match="deeper is no image file"):
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
    with pytest.raises(DataError, match="the splits train, validation, test, unlabeled, and no 'dev'"):
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


# One's own folders, as they are


def test_every_format_is_read(tmp_path: Path):
    (tmp_path / "a class").mkdir()
    for number, ending in enumerate(("png", "bmp", "gif", "tif", "tiff")):
        Image.fromarray(GRAY[number]).save(tmp_path / "a class" / f"{number}.{ending}")
    np.testing.assert_array_equal(load_user_dataset(tmp_path).images[:, 0].numpy(), GRAY[:5])
    save(tmp_path / "color" / "b", *COLOR)
    Image.fromarray(COLOR[0]).save(tmp_path / "color" / "b" / "9.webp", lossless=True)
    np.testing.assert_array_equal(load_user_dataset(tmp_path / "color").images[-1].numpy(), COLOR[0].transpose(2, 0, 1))


@pytest.mark.parametrize("ending", ["gif", "tiff", "webp"])
def test_several_frames_are_refused(ending: str, tmp_path: Path):
    (tmp_path / "a").mkdir()
    frames = [Image.fromarray(picture) for picture in COLOR]
    frames[0].save(tmp_path / "a" / f"0.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"0\.{ending} is animated or has pages, 4 frames"):
        load_user_dataset(tmp_path)


def test_files_that_are_no_images_are_skipped_and_named(tmp_path: Path):
    save(tmp_path / "ein Hund ü", *GRAY)
    for name in ("Thumbs.db", "ein Hund ü/notes.txt", "ein Hund ü/.DS_Store"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "__MACOSX" / "x").mkdir(parents=True)
    dataset = load_user_dataset(tmp_path)
    assert dataset.classes == ("ein Hund ü",)
    assert dataset.skipped == (str(tmp_path / "Thumbs.db"), str(tmp_path / "ein Hund ü" / "notes.txt"))


def test_mixed_sizes_and_kinds_are_brought_to_one(tmp_path: Path):
    save(tmp_path / "a", *GRAY, np.zeros((40, 10), np.uint8))
    save(tmp_path / "b", *COLOR)
    dataset = load_user_dataset(f"{tmp_path}?resize=6x8")
    assert dataset.images.shape == (11, 3, 8, 6)
    assert load_dataset(dataset.name).sha256 == dataset.sha256
    assert load_user_dataset(f"{tmp_path}?resize=6x8&channels=1").images.shape == (11, 1, 8, 6)


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(GRAY[0]).save(tmp_path / "a" / "0.png", exif=exif)
    np.testing.assert_array_equal(load_user_dataset(tmp_path).images[0, 0].numpy(), np.rot90(GRAY[0], -1))


def test_arrays_and_files_are_resized_alike(tmp_path: Path):
    smooth = np.linspace(0, 255, 30 * 24).reshape(30, 24).astype(np.uint8)
    save(tmp_path / "files" / "a", smooth, smooth.T.copy().reshape(24, 30).T)
    path = npz(tmp_path, images=np.stack([smooth, smooth]), labels=[0, 0])
    one, other = (load_user_dataset(f"{it}?resize=10x10").images.int() for it in (tmp_path / "files", path))
    assert (one - other).abs().max() <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("resize=32", "WIDTHxHEIGHT"),
        ("resize=0x4", "WIDTHxHEIGHT"),
        ("resize=99999x2", "WIDTHxHEIGHT"),
        ("test=2", "between 0 and 1"),
        ("test=x", "between 0 and 1"),
        ("channels=2", "1 channel"),
        ("szie=3", "unknown option of"),
    ],
)
def test_wrong_options_are_named(options: str, message: str, tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    with pytest.raises(UsageError, match=message):
        load_user_dataset(f"{tmp_path}?{options}")


def test_splits_are_made_by_what_images_show(tmp_path: Path):
    many = RNG.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    save(tmp_path / "one" / "a", *many[:40], many[0])
    save(tmp_path / "one" / "b", *many[40:], many[41], many[1])
    # The same images by other names are divided in the same way.
    save(tmp_path / "two" / "a", *many[:40][::-1])
    save(tmp_path / "two" / "b", *many[40:][::-1])
    parts = {}
    for folder in ("one", "two"):
        name = user.with_splits(tmp_path / folder)
        assert name == f"{tmp_path / folder}?test=0.2"
        assert user.splits_of(name) == ("test", "validation", "train")
        for split in ("train", "validation", "test"):
            dataset = load_dataset(f"{name}/{split}")
            parts[folder, split] = {image.numpy().tobytes() for image in dataset.images}
            assert set(dataset.labels.tolist()) == {0, 1}
    sizes = [len(parts["one", split]) for split in ("train", "validation", "test")]
    assert sizes == [42, 6, 12]
    assert sum(sizes) == len(set().union(*(parts["one", split] for split in ("train", "validation", "test"))))
    assert all(parts["one", split] == parts["two", split] for split in ("train", "validation", "test"))


def test_a_share_for_validation_alone_leaves_the_rest_for_testing(tmp_path: Path):
    path = npz(tmp_path, images=GRAY, labels=LABELS)
    validation, test = (load_dataset(f"{path}?validation=0.4/{split}") for split in ("validation", "test"))
    assert (len(validation), len(test)) == (2, 4)
    with pytest.raises(DataError, match="no training split"):
        load_dataset(f"{path}?validation=0.4/train")


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_tiny_and_single_classes_are_divided_or_refused(count: int, tmp_path: Path):
    images = RNG.integers(0, 256, (count, 3, 3), dtype=np.uint8)
    path = npz(tmp_path, images=images, labels=np.arange(count))
    if count < 3:
        with pytest.raises(DataError, match=f"{count} different images cannot be divided"):
            load_dataset(f"{path}?test=0.2/test")
        return
    sizes = [len(load_dataset(f"{path}?test=0.2/{split}")) for split in ("train", "validation", "test")]
    assert sizes == {3: [1, 1, 1], 100: [70, 10, 20]}[count]


def test_a_published_validation_split_is_taken(tmp_path: Path):
    for split, pictures in (("train", GRAY[:3]), ("val", GRAY[3:5]), ("test", GRAY[5:])):
        save(tmp_path / split / "a", *pictures)
    assert [len(load_dataset(f"{tmp_path}/{split}")) for split in ("train", "validation", "test")] == [3, 2, 1]
    with pytest.raises(UsageError, match="has a test split of its own"):
        load_dataset(f"{tmp_path}?test=0.2/test")


def test_a_test_split_is_made_of_training_folders_alone(tmp_path: Path):
    save(tmp_path / "train" / "a", *GRAY)
    with pytest.raises(DataError, match=r"no test split; add one, or let it be made: '.*\?test=0\.2'"):
        load_dataset(f"{tmp_path}/test")
    name = user.with_splits(tmp_path)
    assert [len(load_dataset(f"{name}/{split}")) for split in ("train", "validation", "test")] == [4, 1, 1]


def test_images_without_labels_are_read_from_anywhere_below(tmp_path: Path):
    save(tmp_path / "strange", *GRAY[:2])
    save(tmp_path / "strange" / "more", *GRAY[2:4])
    (tmp_path / "strange" / "notes.txt").write_text("")
    np.save(tmp_path / "array.npy", COLOR)
    folder = load_dataset(f"{tmp_path / 'strange'}/unlabeled")
    assert (len(folder), folder.labels.unique().tolist(), len(folder.skipped)) == (4, [-1], 1)
    assert load_dataset(f"{tmp_path / 'array.npy'}?channels=1/unlabeled").images.shape == (4, 1, 9, 7)


def test_metadata_follows_its_images_into_the_splits(tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    rows = "".join(f"a/{number}.png,{'day' if number % 2 else 'night'}\n" for number in range(5))
    (tmp_path / "metadata.csv").write_text("file_name,light\n" + rows)
    dataset = load_user_dataset(f"{tmp_path}?validation=0.5")
    for image, light in zip(dataset.images, dataset.columns["light"], strict=True):
        number = next(number for number in range(6) if (GRAY[number] == image[0].numpy()).all())
        assert light == ("" if number == 5 else "day" if number % 2 else "night")
    assert dataset.skipped == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,light\na/0.png,day\n", "one is 'file_name'"),
        (b"file_name,x,x\na/0.png,1,2\n", "each once"),
        (b"file_name,x\na/0.png,1,2\n", "has not one value for each of the 2 columns"),
        (b"file_name,x\na/0.png,1\na/0.png,2\n", "two rows for 'a/0.png'"),
        (b"file_name,x\n0.png,1\n", "names none of the images, but for example '0.png'"),
        (b"\xff\xfe", "cannot be read as CSV"),
    ],
)
def test_what_is_wrong_with_metadata_is_named(content: bytes, message: str, tmp_path: Path):
    save(tmp_path / "a", *GRAY)
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_user_dataset(tmp_path)


def test_an_npz_bomb_is_refused_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = npz(tmp_path, images=np.zeros((6, 4000, 4000), np.uint8), labels=LABELS)
    monkeypatch.setattr("hardy.data.npy._read_array", lambda *_: pytest.fail("decompressed"))
    with pytest.raises(DataError, match="'images' declares 96,000,128 bytes in"):
        load_user_dataset(path)
