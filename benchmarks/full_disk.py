"""A disk that fills up at any moment: an error that says so, nothing half written, and the same records on resumption.

    python benchmarks/full_disk.py [--moments 20] [--seed 0]

From a write on that is drawn at random, every write of the process puts down half of its bytes and then fails as a full
disk does. Then there is room again, and the command is called once more, with --resume where it knows that. What it
wrote must be what an undisturbed call writes.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small import SMALL, SMALL_DIGITS, measure_little, write_digits, write_small_data

from hardy.cli.main import main as hardy
from hardy.training import train

# What differs between two calls without a fault: times, and the hash of what holds a time.
IGNORED = {"seconds_since_last_resume", "environment"}


def call(arguments: list[str], fails_from: int | None) -> tuple[int, str, int]:
    """Call hardy in a process of its own: its status, what it said, and how often it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        writes = _count_writes(fails_from)
        sys.argv = ["hardy", *arguments]
        status = 0
        try:
            hardy()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            os.write(2, f"Traceback {error!r}".encode())
            status = 3
        os.write(2, f"\nWRITES {writes()}".encode())
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    said, _, count = said.rpartition("\nWRITES ")
    return os.waitstatus_to_exitcode(status), said, int(count or 0)


def _count_writes(fails_from: int | None) -> Callable[[], int]:
    """Let each write of a whole file fail from number ``fails_from`` on."""
    count = 0

    def failing(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Path, content: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if fails_from is not None and count >= fails_from:
                write(path, content[: len(content) // 2], **options)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, content, **options)

        return wrapped

    for name in ("write_bytes", "write_text"):
        setattr(Path, name, failing(getattr(Path, name)))
    return lambda: count


def content(out: Path) -> dict[str, Any]:
    """What a folder or a file holds, without times."""
    files = [out] if out.is_file() else sorted(it for it in out.rglob("*") if it.is_file())
    found: dict[str, Any] = {}
    for file in files:
        name = file.relative_to(out.parent).as_posix()
        if file.name == "run.json":
            found[name] = _without_times(json.loads(file.read_text()))
        elif file.suffix in (".parquet", ".safetensors") or file.name == "study.json":
            found[name] = file.read_bytes()
        elif file.name == "scorecard.json":
            found[name] = json.loads(file.read_text())["estimates"]
        else:
            found[name] = None
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in IGNORED}
    return value


def commands(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Each command, and what is added when it is called again."""
    keys = ("epochs", "batch_size", "model_arguments")
    settings = [part for key in keys for part in ("--set", f"{key}={json.dumps(SMALL.to_dict()[key])}")]
    data = write_small_data(folder / "data.npz")
    run, digits = str(folder / "run"), folder / "digits"
    train(SMALL, run, data=data, progress=False)
    train(SMALL_DIGITS, digits, data=write_digits(folder / "digits.npz"), progress=False)
    measure_little()
    resume = ["--resume"]
    return {
        "train": (["train", "fast", "--data", data, *settings], resume),
        "evaluate": (["evaluate", run, "--data", data, "--property", "accuracy", "--property", "conformal"], resume),
        "attack": (["attack", run, "--data", data, "--attack", "pgd", "--eps", "0.1", "--limit", "20"], []),
        "bundle": (["bundle", str(digits), "--detector", "energy", "--alpha", "0.1"], []),
        "study": (
            [
                "study",
                "augmentation",
                "--model",
                "fast",
                "--seeds",
                "1",
                "--budget",
                "quick",
                "--limit",
                "160",
                "--only",
                "rotate",
            ],
            resume,
        ),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--moments", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(asked.seed)
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        calls = commands(folder)
        whole: dict[str, tuple[dict[str, Any], int]] = {}
        for number in range(asked.moments):
            name = list(calls)[number % len(calls)]
            arguments, again = calls[name]
            ending = ".safetensors" if name == "attack" else ""
            if name not in whole:
                undisturbed = folder / "undisturbed" / f"{name}{ending}"
                undisturbed.parent.mkdir(exist_ok=True)
                status, said, writes = call([*arguments, "--out", str(undisturbed)], None)
                if status:
                    sys.exit(f"{name} fails undisturbed: {said}")
                whole[name] = (content(undisturbed), writes)
            wanted, writes = whole[name]
            out = folder / str(number) / f"{name}{ending}"
            at = rng.randint(1, writes)
            status, said, _ = call([*arguments, "--out", str(out)], at)
            if status != 1 or "No space left on device" not in said or "Traceback" in said:
                faults.append(f"{name}, write {at} of {writes}: status {status}: {said[-500:]}")
            left = [it.name for it in (folder / str(number)).rglob(".*") if it.name.endswith(".part")]
            if left:
                faults.append(f"{name}, write {at} of {writes}: left {left}")
            status, said, _ = call([*arguments, "--out", str(out), *(again if out.exists() else [])], None)
            found = content(out) if out.exists() else {}
            if status or found != wanted:
                different = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
                faults.append(f"{name}, write {at} of {writes}, resumed: {status}, {different} differ: {said[-300:]}")
            print(f"{name}, write {at} of {writes}: {len(faults)} faults so far", flush=True)
    print(*faults, sep="\n")
    print(f"{asked.moments} moments: {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
