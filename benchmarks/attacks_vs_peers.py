"""hardy's attacks beside those of Foolbox, AutoAttack, torchattacks and ART.

The same classifier, images and machine, in one process, hardy and the peer in turn; parameters are frozen for all.

    python benchmarks/attacks_vs_peers.py foolbox RUN [--images 200] [--seeds 3] [--only L2BIA]
    python benchmarks/attacks_vs_peers.py autoattack RUN [--images 1000] [--norm linf] [--eps 0.3]
    python benchmarks/attacks_vs_peers.py torchattacks RUN
    python benchmarks/attacks_vs_peers.py art RUN
    python benchmarks/attacks_vs_peers.py scaling RUN

RUN is the folder of a trained run. Peers beside the development dependencies: 'pip install --no-deps torchattacks' and
'pip install -c constraints.txt adversarial-robustness-toolbox'. With --json PATH the figures are written as well.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hardy.attacks import ATTACKS, Attack, AttackResult, get_attacks, run_attacks
from hardy.data import load_dataset
from hardy.evaluation.subject import load_subject
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel

STUDY_EPS = (0.3, 1.5, 10.0)
# hardy's name and norm, and Foolbox's attack.
STUDY: dict[str, tuple[str, Norm, str]] = {
    "L2BIA": ("basic-iterative", "l2", "L2BasicIterativeAttack"),
    "L2AGNA": ("noise", "l2", "L2AdditiveGaussianNoiseAttack"),
    "L2DFA": ("deepfool", "l2", "L2DeepFoolAttack"),
    "L2FGA": ("fast-gradient", "l2", "L2FastGradientAttack"),
    "LinFGA": ("fast-gradient", "linf", "LinfFastGradientAttack"),
    "LinPGDA": ("pgd", "linf", "LinfPGD"),
    "SAPNA": ("salt-and-pepper", "l2", "SaltAndPepperNoiseAttack"),
}


class Timed(NamedTuple):
    seconds: float
    robust: list[float]


class Bench(NamedTuple):
    classifier: nn.Module
    images: Tensor
    labels: Tensor
    indices: Tensor

    def hardy(self, attacks: Sequence[Attack], norm: Norm, eps: tuple[float, ...], seed: int, batch_size: int) -> Timed:
        started = time.perf_counter()
        outcome = self.attack(attacks, norm, eps, seed, batch_size)
        seconds = time.perf_counter() - started
        return Timed(seconds, [float((outcome.min_norm > radius).double().mean()) for radius in eps])

    def attack(
        self, attacks: Sequence[Attack], norm: Norm, eps: tuple[float, ...], seed: int, batch_size: int
    ) -> AttackResult:
        return run_attacks(
            self.classifier,
            self.images,
            self.labels,
            attacks,
            [ThreatModel(norm, radius) for radius in eps],
            rng=Randomness(seed, self.indices, ("benchmark",)),
            batch_size=batch_size,
        )

    def robust(self, adversarial: Tensor) -> float:
        """Judged as hardy judges: float32, on the images that came back."""
        with torch.no_grad():
            return float((self.classifier(adversarial).argmax(1) == self.labels).double().mean())


def bench(run: Path, images: int, name: str = "mnist/test") -> Bench:
    classifier = load_subject(str(run)).classifier.eval().requires_grad_(False)
    dataset = load_dataset(name)
    indices = dataset.measuring_order()[:images]
    return Bench(classifier, dataset.floats(indices), dataset.labels[indices], indices)


def against_foolbox(on: Bench, seeds: int, batch_size: int, only: list[str]) -> dict[str, Any]:
    foolbox = import_module("foolbox")
    model = foolbox.PyTorchModel(on.classifier, bounds=(0, 1), device="cpu")
    rows: dict[str, list[tuple[Timed, Timed]]] = {name: [] for name in only or STUDY}
    for seed in range(seeds):
        for name in rows:
            attack, norm, peer = STUDY[name]
            torch.manual_seed(seed)
            started = time.perf_counter()
            _, _, fooled = getattr(foolbox.attacks, peer)()(model, on.images, on.labels, epsilons=list(STUDY_EPS))
            theirs = Timed(time.perf_counter() - started, (1 - fooled.double().mean(1)).tolist())
            ours = on.hardy([ATTACKS.find(attack)], norm, STUDY_EPS, seed, batch_size)
            rows[name].append((ours, theirs))
            print_row(f"seed {seed}  {name}", ours, theirs)
    print("\nmedian ratio of seconds, Foolbox to hardy; largest excess of hardy's robust accuracy, in points")
    summary = {}
    for name, pairs in rows.items():
        ratio = statistics.median(theirs.seconds / ours.seconds for ours, theirs in pairs)
        excess = max(
            100
            * (
                statistics.mean(ours.robust[measurement] for ours, _ in pairs)
                - statistics.mean(t.robust[measurement] for _, t in pairs)
            )
            for measurement in range(len(STUDY_EPS))
        )
        summary[name] = {"ratio": ratio, "excess": excess}
        print(f"  {name:8} {ratio:6.1f}x  {excess:+.2f}")
    totals = [
        sum(pairs[seed][1].seconds for pairs in rows.values()) / sum(pairs[seed][0].seconds for pairs in rows.values())
        for seed in range(seeds)
    ]
    print(f"  total    {statistics.median(totals):6.1f}x")
    return {"cells": {name: [[o._asdict(), t._asdict()] for o, t in pairs] for name, pairs in rows.items()}} | {
        "summary": summary,
        "total_ratio": statistics.median(totals),
    }


def against_autoattack(on: Bench, norm: Norm, eps: float, seed: int, batch_size: int) -> dict[str, Any]:
    import pyautoattack

    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    ours = on.hardy(get_attacks("standard", norm), norm, (eps,), seed, batch_size)
    print(f"hardy       {ours.seconds:8.1f} s  robust {ours.robust[0]:.2%}", flush=True)
    names: dict[Norm, Literal["Linf", "L2", "L1"]] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
    reference = pyautoattack.AutoAttack(on.classifier, norm=names[norm], eps=eps, seed=seed, version="standard")
    started = time.perf_counter()
    found = reference.run_standard_evaluation(on.images, on.labels, batch_size=batch_size)
    adversarial = found[0] if isinstance(found, tuple) else found
    theirs = Timed(time.perf_counter() - started, [on.robust(adversarial)])
    print(f"AutoAttack  {theirs.seconds:8.1f} s  robust {theirs.robust[0]:.2%}")
    print(f"ratio {theirs.seconds / ours.seconds:.1f}x")
    return {"hardy": ours._asdict(), "autoattack": theirs._asdict(), "ratio": theirs.seconds / ours.seconds}


def against_pgd(on: Bench, peer: Callable[[Bench], Tensor], seeds: int, batch_size: int) -> dict[str, Any]:
    """PGD, linf 0.3, 40 steps of 0.01: the one attack that every tool has."""
    pairs = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        started = time.perf_counter()
        adversarial = peer(on)
        theirs = Timed(time.perf_counter() - started, [on.robust(adversarial)])
        ours = on.hardy([ATTACKS["pgd"]], "linf", (0.3,), seed, batch_size)
        pairs.append((ours, theirs))
        print_row(f"seed {seed}  PGD-40 linf 0.3", ours, theirs)
    ratio = statistics.median(theirs.seconds / ours.seconds for ours, theirs in pairs)
    print(f"median ratio {ratio:.1f}x")
    return {"pairs": [[ours._asdict(), theirs._asdict()] for ours, theirs in pairs], "ratio": ratio}


def torchattacks_pgd(on: Bench) -> Tensor:
    return import_module("torchattacks").PGD(on.classifier, eps=0.3, alpha=0.01, steps=40)(on.images, on.labels)


def art_pgd(on: Bench) -> Tensor:
    evasion = import_module("art.attacks.evasion")
    estimators = import_module("art.estimators.classification")
    estimator = estimators.PyTorchClassifier(
        on.classifier, nn.CrossEntropyLoss(), tuple(on.images.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = evasion.ProjectedGradientDescent(
        estimator, eps=0.3, eps_step=0.01, max_iter=40, num_random_init=1, batch_size=200, verbose=False
    )
    return torch.from_numpy(attack.generate(on.images.numpy(), on.labels.numpy()))


def scaling(on: Bench) -> dict[str, Any]:
    """The share of the machine's peak that an input gradient reaches, and how PGD's cost grows."""
    peaks = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.rand(2048, 2048).to(dtype), torch.rand(2048, 2048).to(dtype)
        seconds = best_of(lambda a=a, b=b: a @ b)
        peaks[dtype] = 2 * 2048**3 / seconds
        print(f"peak, {dtype}: {peaks[dtype] / 1e9:,.0f} GFLOP/s (2048 x 2048 product)")

    from torch.utils.flop_counter import FlopCounterMode

    from hardy.attacks.attack import value_and_gradient
    from hardy.attacks.fast_model import Count, fast_model

    shares = {}
    batch, labels = on.images[:200], on.labels[:200]
    # The gradient at the input of a frozen network takes as many operations again as its forward pass.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on.classifier(batch)
    operations = 2 * counter.get_total_flops()
    for dtype in peaks:
        search = fast_model(on.classifier, batch[:8], dtype, Count(), [])
        assert search is not None
        seconds = best_of(lambda search=search: value_and_gradient(search, batch, labels))
        shares[str(dtype)] = operations / seconds / peaks[dtype]
        print(f"input gradient, {dtype}: {200 / seconds:,.0f} images/s, {shares[str(dtype)]:.0%} of that peak")

    pgd = [ATTACKS["pgd"]]
    grown: dict[str, dict[str, float]] = {"images": {}, "eps": {}, "batch": {}}
    for images in (50, 100, 200, 400):
        part = Bench(on.classifier, on.images[:images], on.labels[:images], on.indices[:images])
        grown["images"][str(images)] = part.hardy(pgd, "linf", (0.3,), 0, 200).seconds
    for eps in (0.05, 0.1, 0.2, 0.3):
        grown["eps"][str(eps)] = on.hardy(pgd, "linf", (eps,), 0, 200).seconds
    for size in (10, 50, 200, 400):
        grown["batch"][str(size)] = on.hardy(pgd, "linf", (0.1,), 0, size).seconds
    for axis, figures in grown.items():
        print(f"PGD-40 seconds over {axis}: " + ", ".join(f"{key}: {value:.2f}" for key, value in figures.items()))
    return {"share_of_peak": shares, "seconds": grown}


def best_of(work: Callable[[], Any], times: int = 7) -> float:
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def print_row(name: str, ours: Timed, theirs: Timed) -> None:
    robust = "  ".join(f"{a:.3f} / {b:.3f}" for a, b in zip(ours.robust, theirs.robust, strict=True))
    print(
        f"{name:24} hardy {ours.seconds:7.2f} s  peer {theirs.seconds:7.2f} s  {theirs.seconds / ours.seconds:6.1f}x  "
        f"robust, hardy / peer: {robust}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["foolbox", "autoattack", "torchattacks", "art", "scaling"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(STUDY), default=[], help="of the study's attacks")
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--norm", choices=["linf", "l2", "l1"], default="linf")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    on = bench(arguments.run, arguments.images)
    print(f"{arguments.run}: clean accuracy {on.robust(on.images):.2%} on {arguments.images} images of mnist/test")
    batch_size, seeds = arguments.batch_size, arguments.seeds
    match arguments.peer:
        case "foolbox":
            result = against_foolbox(on, seeds, batch_size, arguments.only)
        case "autoattack":
            result = against_autoattack(on, arguments.norm, arguments.eps, 0, batch_size)
        case "torchattacks":
            result = against_pgd(on, torchattacks_pgd, seeds, batch_size)
        case "art":
            result = against_pgd(on, art_pgd, seeds, batch_size)
        case _:
            result = scaling(on)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
