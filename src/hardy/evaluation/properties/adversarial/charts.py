"""Robust accuracy over the radius, and adversarial examples."""

from __future__ import annotations

import numpy as np
import torch

from hardy.attacks import ATTACKS
from hardy.evaluation.charts import Chart, Gallery, LineChart, Picture, Series, class_names, picture_of
from hardy.evaluation.framework import Measurement, Results
from hardy.evaluation.properties.adversarial.measure import PICTURES, curve_measurement, radii
from hardy.metrics import wilson
from hardy.threats import gray_radius


def draw(results: Results) -> list[Chart]:
    measurement = curve_measurement(results.context)
    if measurement is None:
        return []
    title = ATTACKS[str(measurement.settings["attack"])].title
    return [_curve(results, measurement, title), *gallery(results, measurement, title)]


def _curve(results: Results, measurement: Measurement, title: str) -> LineChart:
    norm = results.column(measurement, "norm")
    kind = str(measurement.settings["norm"])
    gray = gray_radius(kind, results.context.shape)  # type: ignore[arg-type]
    eps = np.array([0.0, *(radius for radius in radii(measurement) if radius <= gray)])
    robust = [int((norm > radius).sum()) for radius in eps]
    bands = np.array([wilson(count, len(norm)) for count in robust])
    return LineChart(
        title="Robust accuracy over the radius",
        caption=f"Share of {measurement.examples:,} test images that {title} cannot "
        f"mislead within the radius, with its 95 % interval. At {gray:g} every image can be made gray.",
        x_label=f"eps ({kind}, pixels in [0, 1])",
        y_label="robust accuracy",
        series=(Series("robust accuracy", eps, np.array(robust) / len(norm), bands[:, 0], bands[:, 1]),),
        y_limits=(0.0, 1.0),
    )


def gallery(results: Results, measurement: Measurement, title: str) -> list[Chart]:
    """Test images with what an attack made of them, where it made something; an answer of -1 is none."""
    dataset, norm = results.dataset(measurement.dataset), results.column(measurement, "norm")
    names = (*class_names(dataset.classes, results.context.classes), "nothing")
    images = results.column(measurement, "image")
    shown = np.flatnonzero((norm > 0) & np.isfinite(norm) & ~np.isnan(images[:, 0]))[:PICTURES]
    originals = dataset.floats(torch.from_numpy(results.column(measurement, "index")[shown])).numpy()
    # Where there is no prediction it is -1, the last name.
    before, after = (results.column(measurement, f"{kind}_prediction") for kind in ("clean", "adversarial"))
    rows = []
    for row, clean in zip(shown, originals, strict=True):
        adversarial = images[row].reshape(clean.shape)
        size = f"{measurement.settings['norm']} {norm[row]:.2g}"
        rows.append(
            (
                Picture(picture_of(clean), f"taken for {names[max(before[row], -1)]}"),
                Picture(picture_of(adversarial), f"taken for {names[max(after[row], -1)]}"),
                Picture(picture_of(adversarial - clean), size, signed=True),
            )
        )
    if not rows:
        return []
    return [
        Gallery(
            title="Adversarial examples",
            caption=f"Test images, what {title} made of them, and the difference.",
            columns=("clean", "adversarial", "difference"),
            rows=tuple(rows),
        )
    ]
