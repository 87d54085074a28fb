"""How good `hardy predict` is: its accuracy, what it refuses, how fast it is.

    python benchmarks/predict.py BUNDLE [--each 6] [--json PATH]

Photos are generated with fonts that the bundle's refusal estimates were not measured with. Accuracy is over the images
that are answered. A refusal rate is compared with the interval of the bundle's estimate. The cold start is the
whole command on one image, best and median of five; the 10,000 images are one NPY file, from the file to the answers,
beside the bare network on the same images in memory, best of three, in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from hardy.data import load_dataset
from hardy.deployment import Bundle, load_bundle
from hardy.deployment.abstention import Decisions
from hardy.deployment.fit import answer_photos
from hardy.deployment.preprocessing import preprocess
from hardy.devices import choose_device, describe
from hardy.metrics import wilson
from hardy.runs import environment
from hardy.synthetic.glyphs import LETTERS, TEST_FONTS
from hardy.synthetic.photos import DIGITS, blank_photos, drawn_photos, noise_photos

SEED = 1


def right_where_answered(name: str, decisions: Decisions, labels: NDArray[np.int64]) -> dict[str, Any]:
    answered, right = decisions.answered, decisions.best == labels
    share = right[answered].mean()
    low, high = wilson(int(right[answered].sum()), int(answered.sum()))
    print(
        f"{name}: answered {answered.mean():.1%} of {len(labels):,}, right {share:.2%} of these "
        f"({low:.2%} to {high:.2%}); {right.mean():.2%} of all",
        flush=True,
    )
    return {"answered": float(answered.mean()), "right": float(share), "low": low, "high": high, "n": len(labels)}


def refused(bundle: Bundle, kind: str, decisions: Decisions) -> dict[str, Any]:
    estimate = next(it for it in bundle.manifest.refusal_estimates if it.kind == kind)
    rate = float((~decisions.answered).mean())
    inside = estimate.low <= rate <= estimate.high
    print(
        f"{kind}: refused {rate:.1%} of {len(decisions.best):,}; estimated {estimate.rate:.1%} "
        f"({estimate.low:.1%} to {estimate.high:.1%}): {'inside' if inside else 'OUTSIDE'}",
        flush=True,
    )
    return {"rate": rate, "estimate": estimate.model_dump(), "inside": inside, "n": len(decisions.best)}


def accuracy(bundle: Bundle, each: int) -> dict[str, Any]:
    pages = drawn_photos(DIGITS, TEST_FONTS, each, SEED)
    drawn = answer_photos(bundle, pages)
    found = {
        "drawn": right_where_answered("photos of printed digits", drawn, np.array([int(c) for c in pages.characters]))
    }
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    tiny = bundle.answer(preprocess(torch.from_numpy(pixels.reshape(-1, 8, 8)).float() / 16))
    found["uci"] = right_where_answered("UCI digits, 8x8", tiny, labels.astype(np.int64))
    test = load_dataset("mnist/test")
    own = bundle.answer(preprocess(test.floats()[:, 0]))
    found["mnist/test"] = right_where_answered("mnist/test", own, test.labels.numpy())
    found["refused digits"] = refused(bundle, "digits like the validation images", own)
    return found


def refusals(bundle: Bundle, each: int) -> dict[str, Any]:
    kinds = {
        "photos of printed letters A to J": drawn_photos(LETTERS, TEST_FONTS, each, SEED),
        "photos of blank paper": blank_photos(500, SEED),
        "images of noise": noise_photos(500, SEED),
    }
    return {kind: refused(bundle, kind, answer_photos(bundle, pages)) for kind, pages in kinds.items()}


def cold_start(folder: Path, bundle: Path) -> dict[str, float]:
    picture = folder / "digit.png"
    Image.fromarray(load_dataset("mnist/test").images[0, 0].numpy()).save(picture)
    call = [sys.executable, "-c", "from hardy.cli.main import main; main()", "predict", str(bundle), str(picture)]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(call, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    print(f"first answer of a cold start: best {min(seconds):.2f} s, median {median(seconds):.2f} s", flush=True)
    return {"best": min(seconds), "median": median(seconds)}


def throughput(folder: Path, bundle: Bundle) -> dict[str, float]:
    images = load_dataset("mnist/test").images
    np.save(folder / "images.npy", images[:, 0].numpy())
    floats = images.float() / 255

    def bare() -> None:
        with torch.inference_mode():
            for batch in floats.split(500):
                bundle.classifier(batch)

    def whole() -> None:
        bundle.predict([folder / "images.npy"])

    def timed(work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    timed(bare)
    rounds = [(timed(bare), timed(whole)) for _ in range(3)]
    network, predicting = (min(column) for column in zip(*rounds, strict=True))
    print(
        f"10,000 images: network {network:.2f} s, predicting {predicting:.2f} s, "
        f"{network / predicting:.2f} of the network's speed",
        flush=True,
    )
    return {"network_seconds": network, "predict_seconds": predicting, "ratio": network / predicting}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--each", type=int, default=6, help="how often each character is drawn in each font")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    result: dict[str, Any] = {
        "environment": environment(describe(choose_device("cpu")), {}),
        "accuracy": accuracy(bundle, arguments.each),
        "refusals": refusals(bundle, arguments.each),
    }
    with tempfile.TemporaryDirectory() as folder:
        result["cold_start"] = cold_start(Path(folder), arguments.bundle)
        result["throughput"] = throughput(Path(folder), bundle)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
