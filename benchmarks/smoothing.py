"""Certified accuracy in l2 by randomized smoothing, beside what is published.

    python benchmarks/smoothing.py 0.25=RUN 0.5=RUN 1.0=RUN [--images 200] [--samples 10000] [--json PATH]

Each run was trained under Gaussian noise, say by

    hardy train smoothed --out runs/smoothed-0.25 --set randomized_smoothing.deviation=0.25

Each test image is asked about one radius at a time, so that sampling stops once that is certified or out of reach. A
certificate is wrong with probability 0.1 % at most. The images are the first of the measuring order of mnist/test. The
published figures are those of all 10,000, with 100,000 samples and larger networks.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from hardy.certification import smooth
from hardy.data import load_dataset
from hardy.evaluation.subject import load_subject
from hardy.metrics import wilson
from hardy.runs import environment

# By standard deviation of the noise: the radius, and the certified accuracy that is published for it, in percent.
PUBLISHED = {0.25: {0.5: 98.2}, 0.5: {1.0: 93.3, 1.5: 82.2}, 1.0: {2.0: 45.6}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="SIGMA=RUN", help="a run, and the noise that it was trained under")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10_000, help="noisy images per image and radius, at most")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    test = load_dataset("mnist/test")
    indices = test.measuring_order()[: arguments.images]
    images, labels = test.floats(indices), test.labels[indices].numpy()
    rows = []
    print("| sigma | radius | certified | 95 % interval | published | abstained | samples per image | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.runs:
        deviation, _, run = name.partition("=")
        sigma = float(deviation)
        classifier = load_subject(run).classifier.eval()
        for radius, published in PUBLISHED[sigma].items():
            started = time.process_time()
            found = smooth(
                classifier, images, sigma=sigma, samples=arguments.samples, radius=radius, indices=indices.tolist()
            )
            seconds = time.process_time() - started
            share = found.certified_accuracy(labels, radius)
            low, high = wilson(round(share * len(images)), len(images))
            rows.append({
                "sigma": sigma, "radius": radius, "certified": share, "low": low, "high": high, "n": len(images),
                "published": published / 100, "abstained": found.abstentions, "samples": arguments.samples,
                "mean_samples": float(found.samples.mean()), "failure": found.failure, "cpu_seconds": seconds,
            })  # fmt: skip
            print(
                f"| {sigma:g} | {radius:g} | {share:.1%} | {low:.1%} to {high:.1%} | {published} % | "
                f"{found.abstentions} | {found.samples.mean():,.0f} | {seconds:.0f} |",
                flush=True,
            )
    if arguments.json:
        facts = {"rows": rows, "environment": environment("cpu", {test.name: test.sha256})}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
