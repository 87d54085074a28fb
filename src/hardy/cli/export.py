"""``hardy export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import AllowRandom, Data, DataDir


def export(
    subject: Annotated[str, typer.Argument(help="The folder of a run or a bundle, or package.module:callable.")],
    vnnlib: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write network and properties to.")],
    eps: Annotated[
        str | None,
        typer.Option(
            help="The radius, as in 0.3 or 8/255. By default what is usual for such images.", show_default=False
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf: VNN-LIB describes boxes.")] = "linf",
    count: Annotated[int, typer.Option(min=1, help="How many test images, one property per image.")] = 100,
    start: Annotated[int, typer.Option(min=0, help="How many to leave out before, in the order of measuring.")] = 0,
    seconds: Annotated[int, typer.Option(min=1, help="What a verifier may take per image.")] = 300,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for package.module:callable.")] = None,
    data: Data = "mnist",
    data_dir: DataDir = None,
    allow_random: AllowRandom = False,
) -> None:
    """Write a classifier as ONNX and its robustness as VNN-LIB properties, for outside verifiers."""
    import torch

    from hardy.certification.vnnlib import INSTANCES, NETWORK, check_free, write_vnnlib
    from hardy.data import load_dataset
    from hardy.errors import UsageError
    from hardy.evaluation.subject import check_on_dataset, load_subject
    from hardy.threats import read_radius, usual_radii

    if norm != "linf":
        raise UsageError(f"--norm {norm}: VNN-LIB describes boxes, which balls are in linf alone")
    check_free(vnnlib)
    loaded = load_subject(subject, weights)
    source = load_dataset(f"{data}/test", data_dir)
    usual = usual_radii(source.images.shape[1:])
    if eps is None and "linf" not in usual:
        raise UsageError("--eps is missing: nothing is usual in linf for such images")
    radius = usual["linf"] if eps is None else read_radius(eps)
    if start >= len(source):
        raise UsageError(f"--start {start}: {source.name} has {len(source)} images")
    check_on_dataset(loaded.classifier, source, torch.device("cpu"), allow_random=allow_random)
    indices = source.measuring_order()[start : start + count]
    write_vnnlib(
        loaded.classifier,
        source.floats(indices),
        source.labels[indices],
        vnnlib,
        eps=radius,
        indices=indices.tolist(),
        seconds=seconds,
        facts={
            "subject": loaded.name, "weights_sha256": loaded.weights_sha256, "dataset": source.name,
            "sha256": source.sha256,
        },
    )  # fmt: skip
    typer.echo(f"{vnnlib / NETWORK}, and {len(indices)} properties at linf {radius:g}; {INSTANCES} lists them")
