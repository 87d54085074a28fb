"""Damaged files of every format that hardy reads: each is read or refused, never a traceback, a hang or a full memory.

    python benchmarks/fuzz.py [--cases 10000] [--first 0] [--seed 0] [--only run.json] [--keep FOLDER]

Each case takes a sound file, damages it (bytes: flipped, cut, doubled, blown up; JSON: values replaced, removed,
nested), and hands it to what reads it, in a process of its own that may take --seconds of the processor and 2 GB.
What is no error of hardy's, too slow or too large is a fault; the damaged file is kept with its trace where --keep
names a folder. The exit status is 1 if there was a fault. Case number N is the same in each run with the same seed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from small import SMALL, SMALL_DIGITS, small_bundle, write_digits, write_small_data

from hardy.data import load_dataset
from hardy.data.saved import SavedSet, read_saved_set, write_saved_set
from hardy.deployment import load_bundle, write_bundle
from hardy.errors import HardyError
from hardy.evaluation.compare import compare_runs
from hardy.evaluation.evaluate import evaluate, load_results
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import load_subject
from hardy.report import print_scorecard
from hardy.report.bundle_card import bundle_card
from hardy.runs import Run
from hardy.training import train
from hardy.training.loop import Stopped

BYTES = 2 << 30
WAITING = 60
"""So many times what a case may use of the processor, it may wait."""


class Format(NamedTuple):
    """A sound file or folder, which file of it is damaged, and what reads it.

    Attributes:
        folder: copied for each case.
        file: below it.
        read: is given the damaged copy.
        mend: called after the damage, so that hashes do not give it away.
    """

    folder: Path
    file: str
    read: Callable[[Path], object]
    mend: Callable[[Path], object] = lambda _: None


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file after an accident, or an attack."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 50))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        # Headers decide most: half of all damage is done to the first bytes.
        if rng.random() < 0.5:
            at = rng.randrange(min(len(data), 256) + 1)
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + rng.choice((1, 4, 100))] = b""
        elif kind == 3:
            data[at:at] = data[at : at + 1000]
        elif kind == 4:
            data[at : at + 8] = rng.choice(
                (b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 7, (1 << 40).to_bytes(8, "little"))
            )
        elif kind == 5:
            data[at:at] = rng.randbytes(rng.choice((1, 16, 4096)))
        else:
            digits = [place for place, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
            if digits:
                data[rng.choice(digits)] = 48 + rng.randrange(10)
    return bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file after somebody has edited it."""
    if rng.random() < 0.1:
        return damaged_bytes(content, rng)
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        parent, key = _place(value, rng)
        if parent is None:
            return json.dumps(_odd(value, rng)).encode()
        if rng.random() < 0.2:
            del parent[key]
        elif isinstance(parent, dict) and rng.random() < 0.1:
            parent[f"{key}_2"] = parent[key]
        else:
            parent[key] = _odd(parent[key], rng)
        if not value:
            break
    return json.dumps(value).encode()


def _place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    parent, key = None, None
    while isinstance(value, dict | list) and value and rng.random() < 0.85:
        parent, key = value, rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = parent[key]
    return parent, key


def _odd(old: Any, rng: random.Random) -> Any:
    nested: Any = []
    for _ in range(rng.choice((5, 900))):
        nested = [nested]
    odd = [
        None,
        True,
        -1,
        0,
        1,
        9000,
        1 << 70,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "\x1b[2J",
        "../../x",
        "é" * 100_000,
    ]
    odd += [
        [],
        {},
        [old] * 3,
        {"a": old},
        nested,
        [0] * 200_000,
        {"name": old},
        str(old)[:1000],
        [{"name": "compact"}] * 200,
    ]
    # A copy, so that what was nested by an earlier step is not nested into itself.
    return json.loads(json.dumps(rng.choice(odd)))


def write_sound_files(sound: Path) -> None:
    """One of each format, small."""
    test = load_dataset("mnist/test")
    data = write_small_data(sound / "npz" / "data.npz")
    run, figures = sound / "run", ["accuracy", "calibration", "conformal"]
    train(SMALL, run, data=data, progress=False)
    evaluate(run, data, out=run, properties=figures, ood=(), limit=40, budget="quick", progress=False)
    with contextlib.suppress(Stopped):
        train(SMALL, sound / "unfinished", data=data, report=lambda *_: signal.raise_signal(signal.SIGINT))

    fitted = small_bundle(
        train(SMALL_DIGITS, sound / "digits", data=write_digits(sound / "digits.npz"), progress=False)
    )
    write_bundle(sound / "bundle", fitted, bundle_card(fitted.manifest))

    (sound / "pictures").mkdir()
    for ending in ("png", "jpg"):
        Image.fromarray(test.images[0, 0].numpy()).save(sound / "pictures" / f"digit.{ending}")
    np.save(sound / "pictures" / "digits.npy", test.images[:3, 0].numpy())
    np.savez_compressed(sound / "pictures" / "digits.npz", images=test.images[:3, 0].numpy())
    noise = torch.from_numpy(np.random.default_rng(0).random((5, 1, 28, 28), np.float32))
    saved = SavedSet(noise, test.labels[:5], torch.arange(5), {"attack": "pgd"})
    write_saved_set(sound / "saved" / "set.safetensors", saved)


def formats_of(sound: Path) -> dict[str, Format]:
    """What is read of the folder that :func:`write_sound_files` wrote."""
    run, bundle, pictures = sound / "run", sound / "bundle", sound / "pictures"
    picture, data = pictures / "digit.png", str(sound / "npz" / "data.npz")

    def weights_again(copied: Path) -> None:
        manifest = json.loads((copied / "run.json").read_text())
        manifest["weights_sha256"] = hashlib.sha256((copied / "weights.safetensors").read_bytes()).hexdigest()
        (copied / "run.json").write_text(json.dumps(manifest))

    def sums_again(copied: Path) -> None:
        names = sorted({it.name for it in copied.iterdir()} - {"SHA256SUMS"})
        lines = (f"{hashlib.sha256((copied / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
        (copied / "SHA256SUMS").write_text("".join(lines))

    def shown(copied: Path) -> None:
        print_scorecard(Scorecard.read(copied / "scorecard.json"), Console(file=io.StringIO()))

    def evaluated_again(copied: Path) -> None:
        load_subject(copied)
        load_results(Run.open(copied))
        compare_runs([copied, run])

    def resumed(copied: Path) -> None:
        train(SMALL, copied, data=data, resume=True, progress=False)

    def both_splits(copied: Path) -> None:
        for split in ("train", "test"):
            load_dataset(f"{copied / 'data.npz'}/{split}")

    records = sorted((run / "records").glob("*.parquet"))[0].relative_to(run).as_posix()
    formats = {
        "run.json": Format(run, "run.json", evaluated_again),
        "scorecard.json": Format(run, "scorecard.json", shown),
        "weights": Format(run, "weights.safetensors", load_subject, weights_again),
        "records": Format(run, records, lambda it: load_results(Run.open(it))),
        "checkpoint": Format(sound / "unfinished", "checkpoints/0.safetensors", resumed),
        "npz": Format(sound / "npz", "data.npz", both_splits),
        "saved set": Format(sound / "saved", "set.safetensors", lambda it: read_saved_set(it / "set.safetensors")),
        "bundle, SHA256SUMS": Format(bundle, "SHA256SUMS", load_bundle),
    }
    for name in ("bundle.json", "weights.safetensors", "fitted.safetensors"):
        formats[f"bundle, {name}"] = Format(bundle, name, lambda it: load_bundle(it).predict(picture), sums_again)
    loaded = load_bundle(bundle)
    for name in ("digit.png", "digit.jpg", "digits.npy", "digits.npz"):
        formats[name] = Format(pictures, name, lambda it, name=name: loaded.predict([it / name]))
    return formats


def damage(form: Format, folder: Path, rng: random.Random) -> None:
    """Damage its file in a copy of its folder."""
    target = folder / form.file
    damaged = damaged_json if target.suffix == ".json" else damaged_bytes
    target.write_bytes(damaged(target.read_bytes(), rng))


def came_of(form: Format, folder: Path) -> tuple[str, str]:
    """What came of reading a damaged folder: ``read``, ``refused``, or a fault with its trace."""
    try:
        form.mend(folder)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            form.read(folder)
    except HardyError as error:
        return ("escape sequence", str(error)) if "\x1b" in str(error) else ("refused", "")
    except BaseException:
        return "traceback", traceback.format_exc()
    return "read", ""


def read_in_turn(sound: Path, connection: Connection) -> None:
    """The process that reads: is sent a format and a folder, and answers with what came of it, and its memory."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    formats = formats_of(sound)
    connection.send("ready")
    while True:
        try:
            name, folder = connection.recv()
        except EOFError:
            return
        found = came_of(formats[name], folder)
        connection.send((*found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Reader:
    """A process that reads, and is started again where a case has ended it."""

    def __init__(self, sound: Path, seconds: float) -> None:
        self.sound, self.seconds = sound, seconds
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=read_in_turn, args=(self.sound, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def processor_seconds(self) -> float:
        """What the process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def read(self, name: str, folder: Path) -> tuple[str, str]:
        """What came of one case, and its trace where it is a fault."""
        self.connection.send((name, folder))
        came, trace, memory = "too slow", f"more than {self.seconds} s", 0
        begun, started = self.processor_seconds(), time.monotonic()
        try:
            # A machine that others use too may let it wait, but not for ever.
            while time.monotonic() - started < WAITING * self.seconds:
                if self.connection.poll(1):
                    came, trace, memory = self.connection.recv()
                    break
                if self.processor_seconds() - begun > self.seconds:
                    break
        except EOFError:
            came, trace = "died", "the process ended"
        if memory > BYTES:
            came, trace = "too large", f"{memory >> 20} MB"
        if came in ("too slow", "died", "too large"):
            self.stop()
            self.start()
        return came, trace


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of each file."""
    return {it: (it.stat().st_size, it.stat().st_mtime_ns) for it in folder.rglob("*") if it.is_file()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", type=int, default=10_000)
    options.add_argument("--first", type=int, default=0, help="the number to go on from")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=float, default=10, help="of the processor, per case")
    options.add_argument("--only", help="one format")
    options.add_argument("--keep", type=Path, help="a folder for damaged files that made faults")
    asked = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        sound, place = Path(temporary) / "sound", Path(temporary) / "place"
        write_sound_files(sound)
        formats = formats_of(sound)
        if asked.only:
            formats = {asked.only: formats[asked.only]}
        before = everything(sound)
        reader = Reader(sound, asked.seconds)
        for case in range(asked.first, asked.cases):
            name = list(formats)[case % len(formats)]
            form, rng = formats[name], random.Random(f"{asked.seed} {case}")
            shutil.copytree(form.folder, place / "case")
            damage(form, place / "case", rng)
            came, trace = reader.read(name, place / "case")
            counts[name, came] += 1
            if not trace and {it.name for it in place.iterdir()} != {"case"}:
                trace = "it wrote beside its folder"
            if trace:
                faults.append(f"case {case}, {name}: {came}\n{trace}")
                print(faults[-1], flush=True)
                if asked.keep:
                    shutil.copytree(place / "case", asked.keep / str(case), dirs_exist_ok=True)
            shutil.rmtree(place)
            if case % 500 == 499:
                print(f"{case + 1} cases, {len(faults)} faults", flush=True)
        reader.stop()
        if everything(sound) != before:
            faults.append("a sound file was changed")
    print(f"{'format':28} {'read':>7} {'refused':>8} {'faults':>7}")
    for name in formats:
        bad = sum(count for (form, came), count in counts.items() if form == name and came not in ("read", "refused"))
        print(f"{name:28} {counts[name, 'read']:7} {counts[name, 'refused']:8} {bad:7}")
    print(f"{asked.cases - asked.first} cases, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
