from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import lzma
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hardy.data import download as download_module
from hardy.data.download import download, fetch
from hardy.data.entry import Archive, DataFile, DatasetEntry, PublishedSplit
from hardy.data.registry import DATASETS
from hardy.data.sources import cache_folder, find, is_at_hand, read, read_split
from hardy.errors import DataError, HardyError

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)
PIXELS = b"\0\0\x08\x03" + struct.pack(">III", 6, 28, 28) + IMAGES.tobytes()
LABELS = b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes([1, 2, 3, 1, 2, 3])
GZ_PIXELS, GZ_LABELS = gzip.compress(PIXELS), gzip.compress(LABELS)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ENTRY = DatasetEntry(
    name="letters",
    title="Letters",
    role="out-of-distribution",
    splits={
        "test": PublishedSplit(6, (DataFile("t-images-idx3-ubyte", sha256(PIXELS)), DataFile("t-labels-idx1-ubyte")))
    },
    classes=("a", "b", "c"),
    license="",
    citation="",
    first_label=1,
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HARDY_DATA", raising=False)


def put(folder: Path, images: bytes = PIXELS, labels: bytes = LABELS, ending: str = "") -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"t-images-idx3-ubyte{ending}", folder / f"t-labels-idx1-ubyte{ending}")
    for path, content in zip(paths, (images, labels), strict=True):
        path.write_bytes(content)
    return paths


# Finding


def test_the_order_is_the_users_folder_the_cache_the_systems_folder(tmp_path: Path):
    entry = dataclasses.replace(ENTRY, folders=(tmp_path / "system",))
    places = [tmp_path / "system", cache_folder("letters"), tmp_path / "user" / "letters"]
    (tmp_path / "user").mkdir()
    assert not is_at_hand(entry, "test", tmp_path / "user")
    for place in places:
        paths = put(place)
        assert find(entry, "test", tmp_path / "user") == paths


def test_the_environment_names_a_folder_and_the_argument_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    named, argument = put(tmp_path / "named" / "letters"), put(tmp_path / "argument" / "letters")
    monkeypatch.setenv("HARDY_DATA", str(tmp_path / "named"))
    assert find(ENTRY, "test") == named
    assert find(ENTRY, "test", tmp_path / "argument") == argument


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_any_compression_is_found_and_verified_by_its_content(
    ending: str, pack: Callable[[bytes], bytes], tmp_path: Path
):
    put(tmp_path / "letters", pack(PIXELS), pack(LABELS), ending)
    images, labels = read_split(ENTRY, "test", find(ENTRY, "test", tmp_path))
    assert (images.verified, labels.verified) == (True, False)
    assert (images.sha256, labels.sha256) == (sha256(PIXELS), sha256(LABELS))
    np.testing.assert_array_equal(images.array, IMAGES)
    np.testing.assert_array_equal(labels.array, [0, 1, 2, 0, 1, 2])


def test_right_in_the_users_folder_a_file_counts_only_if_its_hash_is_known(tmp_path: Path):
    """Four datasets call their files the same: one's files must not pass for another's."""
    mnist = Path(*DATASETS["mnist"].folders)
    for name in ("t10k-images-idx3-ubyte.xz", "t10k-labels-idx1-ubyte.xz"):
        (tmp_path / name).symlink_to(mnist / name)
    assert find(DATASETS["mnist"], "test", tmp_path)[0].parent == tmp_path
    for other in ("notmnist", "kmnist"):
        assert not is_at_hand(DATASETS[other], "test", tmp_path)


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"t-images-idx3-ubyte.*hardy data fetch letters.*--data-dir"):
        find(ENTRY, "test")
    with pytest.raises(DataError, match="nowhere"):
        find(ENTRY, "test", tmp_path / "nowhere")


def test_a_folder_that_the_environment_names_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARDY_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="HARDY_DATA"):
        find(ENTRY, "test")


# Checking


def test_a_wrong_hash_is_refused_with_both_hashes(tmp_path: Path):
    altered = bytearray(PIXELS)
    altered[500] ^= 1
    paths = put(tmp_path / "letters", images=bytes(altered))
    with pytest.raises(DataError, match=f"{paths[0]}.*{sha256(PIXELS)}.*{sha256(bytes(altered))}"):
        read_split(ENTRY, "test", paths)


def test_where_only_the_hash_of_the_gz_is_published_that_file_is_hashed(tmp_path: Path):
    path, _ = put(tmp_path, images=GZ_PIXELS, ending=".gz")
    right = DataFile("t-images-idx3-ubyte", gz_sha256=sha256(GZ_PIXELS))
    assert read(ENTRY, right, path).verified
    with pytest.raises(DataError, match=sha256(GZ_PIXELS)):
        read(ENTRY, dataclasses.replace(right, gz_sha256=sha256(b"")), path)
    plain, _ = put(tmp_path)
    assert not read(ENTRY, right, plain).verified


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS, LABELS[:-1] + b"\4", "labels from 1 to 4"),
        (PIXELS, LABELS[:-1] + b"\0", "labels from 0 to 3"),
        (PIXELS, b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes(5), "6 labels"),
        (b"\0\0\x08\x03" + struct.pack(">III", 5, 28, 28) + bytes(5 * 784), LABELS, "6 images"),
    ],
)
def test_images_and_labels_are_those_of_the_registry(images: bytes, labels: bytes, message: str, tmp_path: Path):
    unverified = dataclasses.replace(
        ENTRY, splits={"test": PublishedSplit(6, tuple(DataFile(file.name) for file in ENTRY.files))}
    )
    with pytest.raises(DataError, match=message):
        read_split(unverified, "test", put(tmp_path, images, labels))


# Downloading


class Mirror:
    """A server on the loopback that can misbehave. ``requests`` holds the path and the range of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self.cut_after: int | None = None
        self.silent = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                mirror.requests.append((self.path, wanted))
                if mirror.silent.is_set():
                    time.sleep(0.5)
                    return
                content = mirror.files.get(self.path)
                if content is None:
                    self.send_error(500)
                    return
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and mirror.ranges else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : mirror.cut_after])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def hold_against(content: bytes) -> Callable[[Path], None]:
    def verify(path: Path) -> None:
        if path.read_bytes() != content:
            raise DataError("these are other bytes")

    return verify


def no_progress(name: str, done: int, total: int | None) -> None:
    pass


def test_fetch_goes_on_to_the_next_mirror_and_is_then_found(mirror: Mirror):
    mirror.files = {
        "/good/t-images-idx3-ubyte.gz": GZ_PIXELS,
        "/good/t-labels-idx1-ubyte.gz": GZ_LABELS,
        "/bad/t-labels-idx1-ubyte.gz": b"<html>log in first</html>",
    }
    entry = dataclasses.replace(ENTRY, mirrors=(f"{mirror.url}bad/", f"{mirror.url}good/"))
    seen = []
    files = fetch(entry, lambda *progress: seen.append(progress))
    assert files == list(find(entry, "test"))
    assert [path.read_bytes() for path in files] == [GZ_PIXELS, GZ_LABELS]
    assert ("t-images-idx3-ubyte.gz", len(GZ_PIXELS), len(GZ_PIXELS)) in seen
    assert sorted(cache_folder("letters").iterdir()) == sorted(files)

    before = len(mirror.requests)
    assert fetch(entry, no_progress) == []
    assert len(mirror.requests) == before


def test_fetch_replaces_what_is_damaged(mirror: Mirror):
    mirror.files = {"/t-images-idx3-ubyte.gz": GZ_PIXELS}
    put(cache_folder("letters"), GZ_PIXELS[:-9], GZ_LABELS, ".gz")
    (path,) = fetch(dataclasses.replace(ENTRY, mirrors=(mirror.url,)), no_progress)
    assert path.read_bytes() == GZ_PIXELS


def test_an_interrupted_download_goes_on_where_it_stopped(mirror: Mirror, tmp_path: Path):
    content = bytes(range(256)) * 400
    mirror.files, mirror.cut_after = {"/file": content}, 70_000
    target, part = tmp_path / "file", tmp_path / "file.part"
    with pytest.raises(HardyError, match="ended after 70,000 of 102,400 bytes"):
        download([f"{mirror.url}file"], target, hold_against(content), no_progress)
    assert part.stat().st_size == 70_000
    assert not target.exists()

    mirror.cut_after = None
    download([f"{mirror.url}file"], target, hold_against(content), no_progress)
    assert mirror.requests == [("/file", None), ("/file", "bytes=70000-")]
    assert target.read_bytes() == content
    assert not part.exists()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("left", [b"\0", b"of another file", b"longer than what there is" * 10])
def test_an_old_part_never_spoils_a_download(left: bytes, ranges: bool, mirror: Mirror, tmp_path: Path):
    content = bytes(100)
    mirror.files, mirror.ranges = {"/file": content}, ranges
    (tmp_path / "file.part").write_bytes(left)
    download([f"{mirror.url}file"], tmp_path / "file", hold_against(content), no_progress)
    assert (tmp_path / "file").read_bytes() == content


def test_a_part_that_is_whole_is_taken(mirror: Mirror, tmp_path: Path):
    mirror.files = {"/file": bytes(100)}
    (tmp_path / "file.part").write_bytes(bytes(100))
    download([f"{mirror.url}file"], tmp_path / "file", hold_against(bytes(100)), no_progress)
    assert mirror.requests == [("/file", "bytes=100-")]


def test_wrong_content_everywhere_leaves_nothing_and_names_both_hashes(mirror: Mirror):
    wrong = gzip.compress(PIXELS[:-1] + b"\0")
    mirror.files = {"/a/t-images-idx3-ubyte.gz": wrong, "/b/t-images-idx3-ubyte.gz": wrong}
    entry = dataclasses.replace(ENTRY, mirrors=(f"{mirror.url}a/", f"{mirror.url}b/"))
    with pytest.raises(HardyError, match=f"/a/.*{sha256(PIXELS)}.*{sha256(PIXELS[:-1] + bytes(1))}.*/b/") as caught:
        fetch(entry, no_progress)
    assert caught.value.exit_status == 1
    assert list(cache_folder("letters").iterdir()) == []


def test_without_a_network_the_error_names_every_mirror(mirror: Mirror):
    gone = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    gone.server_close()
    url = f"http://127.0.0.1:{gone.server_port}/"
    entry = dataclasses.replace(ENTRY, mirrors=(f"{url}a/", f"{url}b/", mirror.url))
    with pytest.raises(HardyError, match=r"/a/.*refused.*/b/.*refused.*HTTP status 500") as caught:
        fetch(entry, no_progress)
    assert caught.value.exit_status == 1


def test_a_silent_mirror_is_given_up(mirror: Mirror, tmp_path: Path):
    mirror.silent.set()
    with pytest.raises(HardyError, match="timed out"):
        download([f"{mirror.url}file"], tmp_path / "file", hold_against(b""), no_progress, timeout=0.1)


def test_an_endless_download_is_stopped(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download_module, "LIMIT", 1000)
    mirror.files = {"/file": bytes(1001)}
    with pytest.raises(HardyError, match="more than 1,000 bytes"):
        download([f"{mirror.url}file"], tmp_path / "file", hold_against(bytes(1001)), no_progress)
    assert list(tmp_path.glob("file*")) == []


def test_a_folder_that_cannot_be_made_is_named(mirror: Mirror, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HardyError, match="cannot make the folder"):
        download([mirror.url], tmp_path / "file" / "x", hold_against(b""), no_progress)


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def test_an_archive_is_unpacked_and_only_what_belongs_is_kept(mirror: Mirror):
    members = {"in/t-images-idx3-ubyte.gz": GZ_PIXELS, "in/t-labels-idx1-ubyte.gz": GZ_LABELS, "../evil": b""}
    content = packed(members)
    mirror.files = {"/all.zip": content}
    archive = Archive("all.zip", sha256(content), folder="in/")
    entry = dataclasses.replace(ENTRY, mirrors=(f"{mirror.url}all.zip",), archive=archive)
    files = fetch(entry, no_progress)
    assert sorted(cache_folder("letters").iterdir()) == sorted(files)
    images, _ = read_split(entry, "test", find(entry, "test"))
    np.testing.assert_array_equal(images.array, IMAGES)


def test_an_altered_or_incomplete_archive_is_refused(mirror: Mirror):
    content = packed({"t-images-idx3-ubyte.gz": GZ_PIXELS})
    mirror.files = {"/all.zip": content}
    entry = dataclasses.replace(ENTRY, mirrors=(f"{mirror.url}all.zip",), archive=Archive("all.zip", sha256(b"")))
    with pytest.raises(HardyError, match=f"{sha256(b'')}.*{sha256(content)}"):
        fetch(entry, no_progress)
    with pytest.raises(HardyError, match="t-labels-idx1-ubyte"):
        fetch(dataclasses.replace(entry, archive=Archive("all.zip", sha256(content))), no_progress)
