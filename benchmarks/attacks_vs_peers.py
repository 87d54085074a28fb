"""hardy's attacks beside those of Foolbox, AutoAttack, torchattacks and ART.

The same classifier, images and machine, in one process, hardy and the peer in turn; parameters are frozen for all.

    python benchmarks/attacks_vs_peers.py foolbox RUN [--images 200] [--seeds 3] [--only L2BIA]
    python benchmarks/attacks_vs_peers.py autoattack RUN [--images 1000] [--threats linf:0.3 l2:2] [--cache FOLDER]
    python benchmarks/attacks_vs_peers.py torchattacks RUN
    python benchmarks/attacks_vs_peers.py art RUN
    python benchmarks/attacks_vs_peers.py scaling RUN

RUN is the folder of a trained run, or ``module:function`` with --weights FILE. With --cache, what AutoAttack found is
kept in the folder, one batch of images after the other, and read where it is there already. Peers beside the
development dependencies: 'pip install --no-deps torchattacks' and 'pip install -c constraints.txt
adversarial-robustness-toolbox'. With --json PATH the figures are written as well.
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
from hardy.files import write_json
from hardy.models.weights import weights_sha256
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
    dataset: str

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

    def part(self, first: int, last: int) -> Bench:
        images, labels, indices = self.images[first:last], self.labels[first:last], self.indices[first:last]
        return self._replace(images=images, labels=labels, indices=indices)

    def robust(self, adversarial: Tensor) -> float:
        """Judged as hardy judges: float32, on the images that came back."""
        with torch.no_grad():
            return float((self.classifier(adversarial).argmax(1) == self.labels).double().mean())


def bench(run: str, weights: Path | None, images: int, name: str = "mnist/test") -> Bench:
    classifier = load_subject(run, weights).classifier.eval().requires_grad_(False)
    dataset = load_dataset(name)
    indices = dataset.measuring_order()[:images]
    return Bench(classifier, dataset.floats(indices), dataset.labels[indices], indices, name)


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


def against_autoattack(
    on: Bench, threats: list[ThreatModel], seed: int, batch_size: int, cache: Path | None
) -> dict[str, Any]:
    rows = {}
    for threat in threats:
        theirs = autoattack(on, threat, seed, batch_size, cache)
        started = time.perf_counter()
        found = on.attack(get_attacks("standard", threat.norm), threat.norm, (threat.eps,), seed, batch_size)
        seconds, standing = time.perf_counter() - started, (found.min_norm > threat.eps).tolist()
        only_ours = sum(a and not b for a, b in zip(theirs["standing"], standing, strict=True))
        only_theirs = sum(b and not a for a, b in zip(theirs["standing"], standing, strict=True))
        robust, their_robust = statistics.mean(standing), statistics.mean(theirs["standing"])
        ratio = theirs["seconds"] / seconds
        print(
            f"{threat.norm} {threat.eps:g}: hardy {seconds:.1f} s, AutoAttack {theirs['seconds']:.1f} s"
            f"{' (kept)' * theirs['kept']}, ratio {ratio:.1f}; robust {robust:.2%} and {their_robust:.2%}; "
            f"felled by one alone: {only_ours} and {only_theirs}",
            flush=True,
        )
        rows[f"{threat.norm}:{threat.eps:g}"] = {"seconds": seconds, "robust": robust, "autoattack": theirs}
    return rows


def autoattack(on: Bench, threat: ThreatModel, seed: int, batch_size: int, cache: Path | None) -> dict[str, Any]:
    """AutoAttack's standard version in full, batch by batch: its seconds, and which images stand."""
    whole: dict[str, Any] = {"seconds": 0.0, "standing": [], "kept": False}
    for first in range(0, len(on.images), batch_size):
        part = on.part(first, first + batch_size)
        name = f"{weights_sha256(on.classifier)[:16]}-{on.dataset.replace('/', '-')}-{first}-{first + len(part.images)}"
        file = cache and cache / f"{name}-{threat.norm}-{threat.eps:g}-{seed}.json"
        if file and file.exists():
            found, whole["kept"] = json.loads(file.read_text()), True
        else:
            found = autoattack_batch(part, threat, seed)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, found)
        whole["seconds"] += found["seconds"]
        whole["standing"] += found["standing"]
    return whole


def autoattack_batch(on: Bench, threat: ThreatModel, seed: int) -> dict[str, Any]:
    import pyautoattack

    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    names: dict[Norm, Literal["Linf", "L2", "L1"]] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
    reference = pyautoattack.AutoAttack(
        on.classifier, norm=names[threat.norm], eps=threat.eps, seed=seed, version="standard"
    )
    started = time.perf_counter()
    adversarial, _ = reference.run_standard_evaluation(on.images, on.labels, batch_size=len(on.images))
    seconds = time.perf_counter() - started
    with torch.no_grad():
        standing = on.classifier(adversarial).argmax(1) == on.labels
    return {"seconds": seconds, "standing": standing.int().tolist()}


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
    from hardy.attacks.fast_model import Count, behavior_of, fast_model

    shares = {}
    batch, labels = on.images[:200], on.labels[:200]
    # The gradient at the input of a frozen network takes as many operations again as its forward pass.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on.classifier(batch)
    operations = 2 * counter.get_total_flops()
    for dtype in peaks:
        search = fast_model(on.classifier, behavior_of(on.classifier, batch[:8]), dtype, Count(), [])
        assert search is not None
        seconds = best_of(lambda search=search: value_and_gradient(search, batch, labels))
        shares[str(dtype)] = operations / seconds / peaks[dtype]
        print(f"input gradient, {dtype}: {200 / seconds:,.0f} images/s, {shares[str(dtype)]:.0%} of that peak")

    pgd = [ATTACKS["pgd"]]
    grown: dict[str, dict[str, float]] = {"images": {}, "eps": {}, "batch": {}}
    for images in (50, 100, 200, 400):
        part = on.part(0, images)
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
    parser.add_argument("run")
    parser.add_argument("--weights", type=Path, help="safetensors, where RUN is module:function")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(STUDY), default=[], help="of the study's attacks")
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--threats", nargs="*", default=["linf:0.3"], metavar="NORM:EPS", help="beside AutoAttack")
    parser.add_argument("--cache", type=Path, help="folder where what AutoAttack found is kept")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    on = bench(arguments.run, arguments.weights, arguments.images)
    print(f"{arguments.run}: clean accuracy {on.robust(on.images):.2%} on {arguments.images} images of mnist/test")
    batch_size, seeds = arguments.batch_size, arguments.seeds
    match arguments.peer:
        case "foolbox":
            result = against_foolbox(on, seeds, batch_size, arguments.only)
        case "autoattack":
            threats = [
                ThreatModel.checked(norm, float(eps)) for norm, eps in (it.split(":") for it in arguments.threats)
            ]
            result = against_autoattack(on, threats, 0, batch_size, arguments.cache)
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
