"""``hardy attack``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hardy.cli.options import AllowRandom, DataDir, Device, Json, OwnData, Seed, print_json
from hardy.errors import UsageError
from hardy.files import check_writable

# Of Square, per image, where gradients seem to be masked.
_QUERIES = 3000


def attack(
    subject: Annotated[
        str, typer.Argument(help="The folder of a run or a bundle, flagship, or package.module:callable.")
    ],
    attack: Annotated[str, typer.Option(help="An attack or a suite; 'hardy list attacks' shows them.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write the adversarial images to.")],
    norm: Annotated[str, typer.Option(help="linf, l2, l1 or l0.")] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="The radius, for pixels in [0, 1], as in 0.3 or 8/255; for l0 a number of pixels. By default what is "
            "usual for such images."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for package.module:callable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many test images.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    data: OwnData = None,
    data_dir: DataDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 500,
    allow_random: AllowRandom = False,
    json: Json = False,
) -> None:
    """Attack a classifier and save the adversarial images, losslessly, to be scored on any classifier."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: adversarial images are saved as .safetensors; other formats would round them")
    if out.exists():
        raise UsageError(f"--out {out} exists; choose another file")

    check_writable(out)
    import torch

    from hardy.attacks import ATTACKS, get_attacks, run_attacks
    from hardy.attacks.around import get_around, with_gradient
    from hardy.attacks.masking import find_signs, masking_warnings
    from hardy.data import load_dataset
    from hardy.data.saved import SavedSet, write_saved_set
    from hardy.devices import choose_device
    from hardy.evaluation.subject import check_on_dataset, load_subject
    from hardy.metrics import wilson
    from hardy.rng import Randomness
    from hardy.threats import ThreatModel, read_radius, usual_radii

    attacks = get_attacks(attack, norm)
    typed = None if eps is None else ThreatModel.checked(norm, read_radius(eps))
    loaded = load_subject(subject, weights)
    source = load_dataset(f"{loaded.data(data)}/test", data_dir)
    usual = usual_radii(source.images.shape[1:])
    if typed is None and norm not in usual:
        raise UsageError(f"--eps is missing: nothing is usual in {norm}")
    threat = typed or ThreatModel.checked(norm, usual[norm])  # type: ignore[index]
    on = choose_device(device)
    classifier = loaded.classifier.to(on)
    info = check_on_dataset(classifier, source, on, allow_random=allow_random)
    classifier = with_gradient(classifier, source.floats(torch.arange(1)).to(on))

    indices = source.measuring_order()[:limit].to(on)
    images, labels = source.floats(indices.cpu()).to(on), source.labels[indices.cpu()].to(on)
    started = time.perf_counter()
    streams = Randomness(seed, indices, ("attack",))
    outcome = run_attacks(classifier, images, labels, attacks, [threat], rng=streams, batch_size=batch_size)
    signs = find_signs(
        classifier, images, labels, outcome, attacks, threat, pgd=ATTACKS["pgd"], rng=streams, batch_size=batch_size
    )
    warnings = [*info.warnings, *outcome.warnings, *masking_warnings(signs)]
    left = outcome.min_norm > threat.eps
    around = None
    if masking_warnings(signs) and left.any():
        found, tried = get_around(
            classifier,
            images[left],
            labels[left],
            [threat],
            rng=streams.select(left),
            n_queries=_QUERIES,
            batch_size=batch_size,
        )
        around = {
            "robust_accuracy": int((found.min_norm > threat.eps).sum()) / len(indices),
            "found_by": {name: int((found.attack == number).sum()) for number, name in enumerate(tried)},
        }
        outcome.images[left] = found.images
    seconds = time.perf_counter() - started
    facts = {
        "dataset": source.name,
        "sha256": source.sha256,
        "attack": attack,
        "norm": norm,
        "eps": threat.eps,
        "subject": loaded.name,
        "weights_sha256": loaded.weights_sha256,
        "seed": seed,
    }
    stands = int((outcome.min_norm > threat.eps).sum())
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
        "warnings": warnings,
        "around_masking": around,
    }
    if json:
        print_json(facts | result)
    else:
        _print(result)
    # After the figures, which a full disk must not cost.
    write_saved_set(out, SavedSet(outcome.images.cpu(), labels.cpu(), indices.cpu(), facts))
    if not json:
        typer.echo(f"saved: {out}; score it elsewhere with 'hardy evaluate SUBJECT --adversarial {out}'")


def _print(result: dict[str, Any]) -> None:
    around = result["around_masking"]
    typer.echo(f"clean accuracy   {result['clean_accuracy']:.2%}")
    interval = f"95 % interval {result['low']:.2%} to {result['high']:.2%}, n = {result['n']}"
    suspect = "  ⚠ suspect" if around is not None else ""
    typer.echo(f"robust accuracy  {result['robust_accuracy']:.2%}  ({interval}){suspect}")
    for name, found in result["found_by"].items():
        typer.echo(f"  {name}: {found} broken")
    if around is not None:
        typer.echo(f"worst of all     {around['robust_accuracy']:.2%}  (with what gets around masked gradients)")
        for name, found in around["found_by"].items():
            typer.echo(f"  {name}: {found} broken")
    for warning in result["warnings"]:
        typer.echo(f"⚠ {warning}")
    typer.echo(f"{result['queries']:,} queries, {result['gradients']:,} gradients, {result['seconds']:.1f} s")
