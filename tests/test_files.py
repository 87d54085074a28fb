"""Writing aside: whatever happens on the way, the old file or the new one is there, and nothing else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hardy.errors import DataError, HardyError, UsageError
from hardy.files import (
    MAX_JSON,
    atomic_write,
    check_writable,
    parse_json,
    remove_half_written,
    sha256_of,
    write_json,
    write_text,
)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    write_text(path, "né")
    assert content(tmp_path) == {"file": "né"}
    assert path.read_bytes() == "né".encode()


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file", "new")
    assert content(tmp_path / "a" / "b") == {"file": "new"}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_while_writing_leaves_the_old_file_alone(tmp_path: Path, failure: type[BaseException]) -> None:
    def write_half() -> None:
        with atomic_write(tmp_path / "file") as aside:
            aside.write_text("half")
            assert content(tmp_path)["file"] == "old"
            raise failure

    write_text(tmp_path / "file", "old")
    with pytest.raises(failure):
        write_half()
    assert content(tmp_path) == {"file": "old"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_no_room_is_named_and_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(_file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HardyError, match=f"cannot write {path}: {os.strerror(number)}; nothing was changed; make room"):
        write_text(path, "new")
    assert content(tmp_path) == {"file": "old"}


def test_a_device_without_room_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match="/dev/full/file: "):
        write_text(Path("/dev/full/file"), "new")


def test_a_folder_that_cannot_be_is_a_wrong_call(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    for path in (tmp_path / "file" / "below", tmp_path / "file" / "further" / "below"):
        with pytest.raises(UsageError, match=f"cannot write {path}: "):
            write_text(path, "new")
    assert content(tmp_path) == {"file": "old"}


def test_a_folder_in_place_of_the_file_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(UsageError, match=f"cannot write {tmp_path / 'file'}: "):
        write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_kill_leaves_the_old_file_and_what_is_left_besides_can_be_removed(tmp_path: Path) -> None:
    for name in ("file", "other"):
        write_text(tmp_path / name, "old")
        program = (
            "import os, sys, pathlib; from hardy.files import atomic_write\n"
            "with atomic_write(pathlib.Path(sys.argv[1])) as aside:\n"
            "    aside.write_text('half'); os.kill(os.getpid(), 9)\n"
        )
        killed = subprocess.run([sys.executable, "-c", program, tmp_path / name], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert (tmp_path / name).read_text() == "old"
    assert len(content(tmp_path)) == 4
    remove_half_written(tmp_path, "file")
    assert len(content(tmp_path)) == 3
    remove_half_written(tmp_path)
    assert content(tmp_path) == {"file": "old", "other": "old"}


def test_json_is_written_as_it_is_read(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "é"}
    write_json(tmp_path / "file", value)
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == value
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_has_no_nan_and_no_infinity(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "file", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", value)
    assert content(tmp_path) == {"file": "1\n"}


def test_a_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_place_is_checked_before_the_work_and_nothing_is_left_there(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "file")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "file", "old")
    for path in (tmp_path / "file" / "below", tmp_path, Path("/proc/file")):
        with pytest.raises(UsageError, match=f"cannot write {path}: .*choose another place"):
            check_writable(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "as JSON"),
        (b"\xff\xfe", "as JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (MAX_JSON + 1), "holds more than"),
        (rb'{"name": "\u001b[2J"}', "control character u001b"),
        (rb'{"\u202e": 1}', "control character u202e"),
        (b'["a\\r"]', "control character r"),
    ],
)
def test_json_from_outside_is_bounded_and_holds_nothing_that_a_terminal_obeys(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_json(content, "the file", DataError)


def test_json_with_words_of_all_languages_and_backslashes_is_read() -> None:
    value = {"é 数": ["a\nb\tc", "C:\\u001b", 1.5, None]}
    assert parse_json(json.dumps(value).encode(), "the file", DataError) == value


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="control character"):
        write_json(tmp_path / "file", {"name": "\x1b[2J"})
    assert not list(tmp_path.iterdir())
