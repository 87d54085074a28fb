"""Network and properties for outside verifiers: ONNX, and VNN-LIB, in the layout of the VNN-COMP competitions.

A property describes a counterexample: an image of the ball that is answered otherwise than its label. A verifier that
finds it unsatisfiable has certified the image. https://www.vnnlib.org
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hardy.certification.certify import Array, check_ball
from hardy.certification.onnx import onnx_model
from hardy.errors import ContractError, UsageError
from hardy.files import failed_write
from hardy.models import as_images, device_of, predict_logits

NETWORK, INSTANCES, FACTS, PROPERTIES = "network.onnx", "instances.csv", "export.json", "properties"


def write_vnnlib(
    model: nn.Module,
    images: Array,
    labels: Array,
    out: str | Path,
    *,
    eps: float,
    indices: Sequence[int] | None = None,
    seconds: int = 300,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a classifier as ONNX, and per image a VNN-LIB property: is there another answer within an linf ball?

    The folder appears whole or not at all: ``network.onnx``, which takes one image (1, C, H, W);
    ``properties/INDEX.vnnlib``; ``instances.csv``, a line per property with network, property and seconds; and
    ``export.json``, which says what is what: per property its label, what the network answers to the image as it is,
    and so whether there is anything to verify.

    Args:
        model: from images in [0, 1] to logits; left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        labels: integers (N,).
        out: a folder that is missing or empty.
        eps: the radius in linf, in units of the pixel range; pixels stay in [0, 1].
        indices: by which properties are named; by default their positions.
        seconds: that a verifier may take per image, for ``instances.csv``.
        facts: what else ``export.json`` says.

    Returns:
        The folder.

    Raises:
        NoOnnxError: the network has an operator that has no form here, which is named.
        ContractError: images or labels outside the contract.
        UsageError: the folder holds something, or cannot be written; or a radius that makes no sense.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
        >>> out = hardy.certification.write_vnnlib(model, images, labels, "verify", eps=0.1)
        >>> sorted(it.name for it in out.iterdir())
        ['export.json', 'instances.csv', 'network.onnx', 'properties']
    """
    out, threat, device = Path(out), check_ball("linf", eps), device_of(model)
    check_free(out)
    images = as_images(images, device)
    labels = torch.as_tensor(labels).cpu().long()
    network = onnx_model(model, tuple(images.shape[1:]))
    logits = predict_logits(model, images).cpu()
    classes = logits.shape[1]
    if labels.shape != (len(images),) or not bool(((labels >= 0) & (labels < classes)).all()):
        raise ContractError(f"labels are one integer per image, from 0 to {classes - 1}")
    places = list(range(len(images))) if indices is None else [int(it) for it in indices]
    if len(set(places)) != len(images):
        raise UsageError(
            f"{len(set(places))} different indices for {len(images)} images; each image has one of its own"
        )
    names = [f"{PROPERTIES}/{place:05d}.vnnlib" for place in places]
    rows = [
        {"property": name, "index": place, "label": int(label), "answer": int(answer)}
        for name, place, label, answer in zip(names, places, labels, logits.argmax(1), strict=True)
    ]
    texts = {
        name: vnnlib_property(image, int(label), threat.eps, classes)
        for name, image, label in zip(names, images.cpu(), labels, strict=True)
    }
    texts[INSTANCES] = "".join(f"{NETWORK},{name},{seconds}\n" for name in names)
    described = {"norm": "linf", "eps": threat.eps, "classes": classes, "input": list(images.shape[1:])}
    texts[FACTS] = json.dumps({**(facts or {}), **described, "images": rows}, indent=1) + "\n"
    _write_folder(out, {NETWORK: network, **{name: text.encode() for name, text in texts.items()}})
    return out


def check_free(out: Path) -> None:
    """Raise :class:`UsageError` unless ``out`` is missing or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose another folder")


def _write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        temporary.replace(out)
    except OSError as error:
        raise failed_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def vnnlib_property(image: Tensor, label: int, eps: float, classes: int) -> str:
    """The text of a property: pixels X_i within ``eps`` of the image and in [0, 1], and a logit Y_j not below Y_label.

    A tie counts as a counterexample, as which of two classes is answered then depends on who computes.
    """
    pixels = image.flatten().double().numpy()
    lower, upper = np.clip(pixels - eps, 0.0, 1.0), np.clip(pixels + eps, 0.0, 1.0)
    lines = [f"; no other answer than {label} within linf {eps:g}, if this is unsatisfiable"]
    lines += [f"(declare-const X_{number} Real)" for number in range(len(pixels))]
    lines += [f"(declare-const Y_{number} Real)" for number in range(classes)]
    for number, (low, high) in enumerate(zip(lower, upper, strict=True)):
        lines += [f"(assert (<= X_{number} {_decimal(high)}))", f"(assert (>= X_{number} {_decimal(low)}))"]
    others = [f"    (and (>= Y_{number} Y_{label}))" for number in range(classes) if number != label]
    return "\n".join([*lines, "(assert (or", *others, "))", ""])


def _decimal(value: float) -> str:
    """The same double when it is read again, without an exponent, which not every reader knows."""
    return np.format_float_positional(value, trim="0")
