"""What hardy's attacks cost by themselves.

    python benchmarks/attack_costs.py table RUN [--images 1000]
    python benchmarks/attack_costs.py aborting RUN [--images 1000] [--norm linf] [--eps 0.3]
    python benchmarks/attack_costs.py batches RUN [--images 200]

``table`` runs the study's 21 measurements and gives seconds and peak memory. ``aborting`` runs the attacks that abort
searches which cannot succeed in time, as they are and without, on images that are not of the test split. ``batches``
compares verdicts at batch sizes of 1, 64 and 1,000; Square has 300 queries there, as single images take long.
"""

from __future__ import annotations

import argparse
import math
import resource

from attacks_vs_peers import STUDY, STUDY_EPS, bench

from hardy.attacks import ATTACKS, Attack
from hardy.threats import Norm


def table(run: str, images: int, batch_size: int) -> None:
    on = bench(run, None, images)
    print(f"{run}: clean accuracy {on.robust(on.images):.2%} on {images} images of mnist/test")
    seconds = 0.0
    for name, (attack, norm, _) in STUDY.items():
        timed = on.hardy([ATTACKS[attack]], norm, STUDY_EPS, 0, batch_size)
        seconds += timed.seconds
        robust = "  ".join(f"{value:.2%}" for value in timed.robust)
        print(f"{name:8} {timed.seconds:7.1f} s  robust accuracy at {STUDY_EPS}: {robust}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"in all   {seconds:7.1f} s  peak memory of the process {peak:.2f} GiB")


def aborting(run: str, images: int, norm: Norm, eps: float, batch_size: int) -> None:
    on = bench(run, None, images, "mnist/validation")
    for name in ("apgd-t", "square"):
        usual = ATTACKS[name]
        for factor in (usual.settings["abort_factor"], math.inf):
            outcome = on.attack([usual.with_settings(abort_factor=factor)], norm, (eps,), 0, batch_size)
            fooled = int((outcome.min_norm <= eps).sum())
            print(
                f"{name:8} abort_factor {factor:4}  fooled {fooled} of {images}  {outcome.count.queries:,} queries",
                flush=True,
            )


def batches(run: str, images: int) -> None:
    on = bench(run, None, images)
    attacks: list[tuple[Attack, Norm, float]] = [
        (ATTACKS["pgd"], "linf", 0.3),
        (ATTACKS["basic-iterative"], "l2", 1.5),
        (ATTACKS["apgd-ce"], "linf", 0.3),
        (ATTACKS["deepfool"], "l2", 1.5),
        (ATTACKS["square"].with_settings(n_queries=300), "linf", 0.3),
    ]
    for attack, norm, eps in attacks:
        broken = [on.attack([attack], norm, (eps,), 0, size).min_norm <= eps for size in (1, 64, 1000)]
        same = [float((broken[0] == other).double().mean()) for other in broken[1:]]
        robust = [1.0 - float(it.double().mean()) for it in broken]
        print(
            f"{attack.name:15} {norm} {eps}  robust accuracy "
            + ", ".join(f"{value:.2%}" for value in robust)
            + "  same verdicts as one by one "
            + ", ".join(f"{value:.2%}" for value in same),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "aborting", "batches"])
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--norm", choices=["linf", "l2", "l1"], default="linf")
    parser.add_argument("--eps", type=float, default=0.3)
    given = parser.parse_args()
    if given.what == "table":
        table(given.run, given.images, given.batch_size)
    elif given.what == "batches":
        batches(given.run, given.images)
    else:
        aborting(given.run, given.images, given.norm, given.eps, given.batch_size)


if __name__ == "__main__":
    main()
