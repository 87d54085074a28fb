"""Several evaluations into one folder at once: one wins, the others are refused, and the figures are the winner's own.

    python benchmarks/many_writers.py [--rounds 50]

Each round starts two, three or ten processes at the same moment, each with a seed of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from small import SMALL, write_small_data

from hardy.errors import RunError
from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.scorecard import Scorecard
from hardy.training import train

WRITERS = (2, 3, 10)


def measured(run: Path, data: str, out: Path, seed: int) -> Scorecard:
    chosen = ["accuracy", "conformal"]
    return evaluate(run, data, out=out, seed=seed, properties=chosen, budget="quick", device="cpu", progress=False)


def write_in_turn(run: Path, data: str, connection: Connection) -> None:
    """A process that is sent a folder and a seed, evaluates, and answers with what it was refused for, if it was."""
    torch.set_num_threads(1)
    connection.send("ready")
    while True:
        try:
            out, seed = connection.recv()
        except EOFError:
            return
        try:
            measured(run, data, out, seed)
            connection.send("")
        except RunError as error:
            connection.send(str(error))


def started(run: Path, data: str) -> list[Connection]:
    """A connection to each of as many processes as there are writers at most."""
    # Forked, the threads of polars would be missing.
    context = multiprocessing.get_context("spawn")
    connections = []
    for _ in range(max(WRITERS)):
        ours, theirs = context.Pipe()
        context.Process(target=write_in_turn, args=(run, data, theirs), daemon=True).start()
        connections.append(ours)
    for connection in connections:
        connection.recv()
    return connections


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=50)
    rounds = options.parse_args().rounds
    torch.set_num_threads(1)
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_small_data(folder / "data.npz")
        run = folder / "run"
        train(SMALL, run, data=data, progress=False)
        alone = {
            seed: measured(run, data, folder / "alone" / str(seed), seed).estimates
            for seed in range(1, max(WRITERS) + 1)
        }
        writers = started(run, data)
        for number in range(rounds):
            out, count = folder / "rounds" / str(number), WRITERS[number % len(WRITERS)]
            for seed, connection in enumerate(writers[:count], 1):
                connection.send((out, seed))
            answers = {seed: connection.recv() for seed, connection in enumerate(writers[:count], 1)}
            won = [seed for seed, refused in answers.items() if not refused]
            card = Scorecard.read(out / "scorecard.json")
            if len(won) != 1 or card.seed != won[0] or card.estimates != alone[won[0]]:
                faults.append(f"round {number}: {json.dumps(answers)}, scorecard of seed {card.seed}")
            if (out / ".lock").exists():
                faults.append(f"round {number}: the lock was left behind")
            print(f"round {number}, {count} writers: {len(faults)} faults so far", flush=True)
    print(*faults, sep="\n")
    print(f"{rounds} rounds of {', '.join(map(str, WRITERS))} writers: {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
