"""``hardy attack``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import Data, DataDir, Device, Json, Seed, print_json
from hardy.errors import UsageError
from hardy.files import check_writable


def attack(
    subject: Annotated[str, typer.Argument(help="The folder of a run or a bundle, or package.module:callable.")],
    attack: Annotated[str, typer.Option(help="An attack or a suite; 'hardy list attacks' shows them.")],
    eps: Annotated[float, typer.Option(help="The radius, for pixels in [0, 1]; for l0 a number of pixels.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write the adversarial images to.")],
    norm: Annotated[str, typer.Option(help="linf, l2, l1 or l0.")] = "linf",
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for package.module:callable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many test images.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    data: Data = "mnist",
    data_dir: DataDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 500,
    json: Json = False,
) -> None:
    """Attack a classifier and save the adversarial images, losslessly, to be scored on any classifier."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: adversarial images are saved as .safetensors; other formats would round them")
    if out.exists():
        raise UsageError(f"--out {out} exists; choose another file")

    check_writable(out)
    from hardy.attacks import get_attacks, run_attacks
    from hardy.data import load_dataset
    from hardy.data.saved import SavedSet, write_saved_set
    from hardy.devices import choose_device
    from hardy.evaluation.subject import check_on_dataset, load_subject
    from hardy.metrics import wilson
    from hardy.rng import Randomness
    from hardy.threats import ThreatModel

    threat = ThreatModel.checked(norm, eps)
    attacks = get_attacks(attack, norm)
    loaded = load_subject(subject, weights)
    source = load_dataset(f"{data}/test", data_dir)
    on = choose_device(device)
    classifier = loaded.classifier.to(on)
    check_on_dataset(classifier, source, on)

    indices = source.measuring_order()[:limit].to(on)
    images, labels = source.floats(indices.cpu()).to(on), source.labels[indices.cpu()].to(on)
    started = time.perf_counter()
    outcome = run_attacks(
        classifier, images, labels, attacks, [threat], rng=Randomness(seed, indices, ("attack",)), batch_size=batch_size
    )
    seconds = time.perf_counter() - started
    facts = {
        "dataset": source.name,
        "sha256": source.sha256,
        "attack": attack,
        "norm": norm,
        "eps": eps,
        "subject": loaded.name,
        "weights_sha256": loaded.weights_sha256,
        "seed": seed,
    }
    write_saved_set(out, SavedSet(outcome.images.cpu(), labels.cpu(), indices.cpu(), facts))
    stands = int((outcome.min_norm > eps).sum())
    low, high = wilson(stands, len(indices))
    result = {
        "clean_accuracy": float((outcome.clean_prediction == labels).float().mean()),
        "robust_accuracy": stands / len(indices),
        "low": low,
        "high": high,
        "n": len(indices),
        "queries": outcome.count.queries,
        "gradients": outcome.count.gradients,
        "seconds": round(seconds, 2),
        "found_by": {one.name: int((outcome.attack == number).sum()) for number, one in enumerate(attacks)},
    }
    if json:
        print_json(facts | result)
        return
    typer.echo(f"clean accuracy   {result['clean_accuracy']:.2%}")
    interval = f"95 % interval {low:.2%} to {high:.2%}, n = {len(indices)}"
    typer.echo(f"robust accuracy  {result['robust_accuracy']:.2%}  ({interval})")
    for name, found in result["found_by"].items():
        typer.echo(f"  {name}: {found} broken")
    typer.echo(f"{result['queries']:,} queries, {result['gradients']:,} gradients, {seconds:.1f} s")
    typer.echo(f"saved: {out}; score it elsewhere with 'hardy evaluate SUBJECT --adversarial {out}'")
