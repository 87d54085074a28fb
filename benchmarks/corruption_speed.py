"""How fast hardy corrupts images: each family at its default severity, and the mean over the 15 of MNIST-C.

    python benchmarks/corruption_speed.py [--images 2000] [--repeats 3] [--threads 2] [--json PATH]

The images are handed out in shards of 500 to as many threads as are named, each of which computes on one core: the best
of several repeats counts. Two means: of the families' rates, and all images over all seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardy.corruptions import CORRUPTIONS, PUBLISHED, corrupt_with
from hardy.data import load_dataset
from hardy.devices import describe
from hardy.rng import Randomness
from hardy.runs import environment

SHARD = 500
WANTED_MEAN, WANTED_LEAST = 20_000, 2_000


def seconds(name: str, images: Tensor, repeats: int, pool: ThreadPoolExecutor) -> float:
    """The best of the repeats, after one that loads what has to be loaded."""
    shards = [(images[part], Randomness(0, part)) for part in torch.arange(len(images)).split(SHARD)]
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        list(pool.map(lambda shard: corrupt_with(shard[0], name, None, shard[1]), shards))
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = load_dataset("mnist/test").floats(slice(0, arguments.images))
    rates: dict[str, float] = {}
    with ThreadPoolExecutor(arguments.threads) as pool:
        for name in CORRUPTIONS:
            rates[name] = len(images) / seconds(name, images, arguments.repeats, pool)
            print(f"{name:18} {rates[name]:12,.0f} images/s", flush=True)
    published = [rates[name] for name in PUBLISHED]
    mean, together = sum(published) / len(published), len(published) / sum(1 / rate for rate in published)
    print(
        f"mean rate of the {len(published)} of MNIST-C: {mean:,.0f} images/s; all of their images over all seconds: "
        f"{together:,.0f} images/s"
    )
    least = min(rates, key=rates.__getitem__)
    print(f"slowest: {least}, {rates[least]:,.0f} images/s (wanted: mean {WANTED_MEAN:,}, none below {WANTED_LEAST:,})")
    if arguments.json:
        result: dict[str, Any] = {
            "environment": environment(describe(torch.device("cpu")), {}),
            "threads": arguments.threads,
            "images_per_second": rates,
            "mean_of_rates": mean,
            "together": together,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
