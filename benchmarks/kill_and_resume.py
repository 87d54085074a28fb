"""Kills training and evaluation at random moments, resumes them, and compares with a run that nobody disturbed.

    python benchmarks/kill_and_resume.py [--kills 10] [--seed 0] [--json PATH]

The commands are those of a user: 'hardy train' and 'hardy evaluate', each in its own process, on 6,000 training and
2,000 test images of MNIST; half of the kills go to each. Exit status 1 if anything differs: weights, records, figures,
or the files that are there in the end.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hardy.data import load_dataset

SETTINGS = {"batch_size": "100", "model_arguments": '{"width": 16}', "averaging": "0.98"}
PROPERTIES = ("accuracy", "adversarial", "out_of_distribution")


class Step(NamedTuple):
    """A command, without ``--resume``, and how long it takes undisturbed: to get going, and then to work."""

    name: str
    command: list[str]
    starting: float = 0.0
    working: float = 0.0


class Kill(NamedTuple):
    step: str
    after: float
    landed: bool


def write_data(folder: Path) -> Path:
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 6000), ("test", 2000)):
        dataset = load_dataset(f"mnist/{split}")
        arrays[f"{split}_images"] = dataset.images[:count, 0].numpy()
        arrays[f"{split}_labels"] = dataset.labels[:count].numpy()
    path = folder / "digits.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return path


def steps(out: Path, data: Path, epochs: int, limit: int) -> list[Step]:
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | {"epochs": str(epochs)}).items()]
    properties = [f"--property={name}" for name in PROPERTIES]
    return [
        Step("train", ["train", "compact", f"--out={out}", f"--data={data}", *settings]),
        Step("evaluate", ["evaluate", str(out), f"--data={data}", "--budget=quick", f"--limit={limit}", *properties]),
    ]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    hardy = Path(sys.executable).with_name("hardy")
    return subprocess.Popen([str(hardy), *command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(step: Step) -> float:
    """Run a command to its end; the seconds that it took."""
    started = time.perf_counter()
    process = start(step.command)
    errors = process.communicate()[1].decode()
    if process.returncode:
        raise SystemExit(f"hardy {step.name} failed with status {process.returncode}:\n{errors}")
    return time.perf_counter() - started


def undisturbed(out: Path, data: Path, epochs: int, limit: int) -> list[Step]:
    """Run all commands and say how long each took."""
    train, evaluate = steps(out, data, epochs, limit)
    seconds = finish(train)
    working = json.loads((out / "run.json").read_text())["training"]["seconds_since_last_resume"]
    starting = max(0.0, seconds - working)
    print(f"undisturbed training: {seconds:.1f} s, of which {starting:.1f} s to get going", flush=True)
    seconds = finish(evaluate)
    print(f"undisturbed evaluation: {seconds:.1f} s", flush=True)
    return [train._replace(starting=starting, working=working), evaluate._replace(starting=starting, working=seconds)]


def kill_and_resume(step: Step, kills: int, rng: random.Random) -> list[Kill]:
    """Kill a command so many times, then let it finish."""
    done = []
    for number in range(kills):
        # One kill while it gets going. The others share the work between them, so that each finds some left.
        earliest, latest = (0.0, step.starting) if not number else (step.starting, step.starting + step.working / kills)
        after = rng.uniform(earliest, latest)
        process = start(step.command)
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        done.append(Kill(step.name, round(after, 2), process.returncode == -signal.SIGKILL))
        print(f"{step.name}: killed after {after:.1f} s" if done[-1].landed else f"{step.name}: was done", flush=True)
    finish(step)
    return done


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*")}


def differences(expected: Path, found: Path) -> dict[str, list[str]]:
    """What differs between two runs, by kind; an empty list where nothing does."""
    records = sorted(path.relative_to(expected) for path in (expected / "records").glob("*.parquet"))
    # What is missing is among the files that differ.
    there = [path for path in records if (found / path).exists()]
    frames = {path: (pl.read_parquet(expected / path), pl.read_parquet(found / path)) for path in there}
    manifests = [json.loads((run / "run.json").read_text()) for run in (expected, found)]
    cards = [json.loads((run / "scorecard.json").read_text()) for run in (expected, found)]
    weights = [(run / "weights.safetensors").read_bytes() for run in (expected, found)]
    return {
        "weights": [] if weights[0] == weights[1] else ["weights.safetensors"],
        "history": [] if manifests[0]["training"]["networks"] == manifests[1]["training"]["networks"] else ["run.json"],
        "records": [str(path) for path, (before, after) in frames.items() if not before.equals(after)],
        "examples measured once": [
            str(path) for path, (_, after) in frames.items() if after["index"].n_unique() != len(after)
        ],
        "figures": [] if cards[0]["metrics"] == cards[1]["metrics"] else ["scorecard.json"],
        "files": sorted(files(expected) ^ files(found)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--epochs", type=int, default=60, help="of about a second")
    parser.add_argument("--limit", type=int, default=1000, help="examples a cell")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder))
        expected, found = Path(folder, "undisturbed"), Path(folder, "disturbed")
        timed = undisturbed(expected, data, arguments.epochs, arguments.limit)
        shares = (arguments.kills - arguments.kills // 2, arguments.kills // 2)
        kills: list[Kill] = []
        for step, plain, share in zip(
            timed, steps(found, data, arguments.epochs, arguments.limit), shares, strict=True
        ):
            kills += kill_and_resume(step._replace(command=plain.command), share, rng)
        differing = differences(expected, found)
    print(f"\n{sum(kill.landed for kill in kills)} of {len(kills)} kills landed")
    for kind, names in differing.items():
        print(f"{kind:24} {'identical' if not names else 'DIFFERENT: ' + ', '.join(names)}")
    if arguments.json:
        result: dict[str, Any] = {"kills": [kill._asdict() for kill in kills], "differences": differing}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if any(differing.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
