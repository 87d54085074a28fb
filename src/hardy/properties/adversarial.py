"""Adversarial robustness: what stands when somebody looks for the worst image within a radius."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hardy.attacks import get_attack, run_attack
from hardy.charts import Chart, Gallery, LineChart, Picture, Series
from hardy.metrics import wilson
from hardy.properties.accuracy import picture_of
from hardy.properties.framework import Budget, Cell, Columns, Evidence, Plan, Planned, Property, Shard, Statistic
from hardy.threats import ThreatModel

EXAMPLES: dict[Budget, int | None] = {"quick": 200, "standard": 1000, "full": None}
SWEEPS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("fast-gradient", "linf", (0.1, 0.2, 0.3)),
    ("pgd", "linf", (0.1, 0.2, 0.3)),
)
HEADLINE = ("pgd", "linf", 0.3)
PICTURES = 8


def attack_cell(plan: Plan, attack: str, norm: str, eps: tuple[float, ...]) -> Cell:
    """One attack at several radii: what has fallen at a smaller one has fallen at a larger one."""
    examples = plan.examples(plan.dataset, EXAMPLES[plan.budget])
    return Cell.of("attack", plan.dataset, examples, attack=attack, norm=norm, eps=",".join(map(repr, eps)))


def _cells(plan: Plan) -> list[Cell]:
    return [attack_cell(plan, *sweep) for sweep in SWEEPS]


def _radii(cell: Cell) -> list[float]:
    return [float(eps) for eps in str(cell.settings["eps"]).split(",")]


def plan_adversarial(plan: Plan) -> Planned:
    return Planned(_cells(plan))


def measure_attack(classifier: nn.Module, shard: Shard, cell: Cell, *, seed: int, batch_size: int) -> Columns:
    """``norm``, float64 (N,), the smallest that fools (0: wrong already, infinity: none found); the predictions on the
    clean and on the attacked image; and for a few the attacked ``image``, float32 (N, CHW), else NaN.
    """
    setting = cell.settings
    outcome = run_attack(
        classifier,
        shard.images,
        shard.labels,
        get_attack(str(setting["attack"])),
        [ThreatModel(setting["norm"], eps) for eps in _radii(cell)],  # type: ignore[arg-type]
        rng=shard.rng(seed, "attack"),
        batch_size=batch_size,
    )
    images = torch.full_like(shard.images, torch.nan).flatten(1)
    images[:PICTURES] = outcome.images[:PICTURES].flatten(1)
    return {
        "norm": outcome.norm.cpu().numpy(),
        "clean_prediction": outcome.clean_prediction.cpu().numpy(),
        "adversarial_prediction": outcome.prediction.cpu().numpy(),
        "image": images.cpu().numpy(),
    }


def statistics(evidence: Evidence) -> list[Statistic]:
    found = []
    for cell in _cells(evidence.plan):
        records = evidence.records[cell]
        norm, indices = records["norm"].to_numpy(), records["index"].to_numpy()
        attack, in_norm = cell.settings["attack"], cell.settings["norm"]
        for eps in _radii(cell):
            stands = norm > eps
            found.append(
                Statistic(
                    metric="robust_accuracy",
                    dataset=cell.dataset,
                    setting={"attack": attack, "norm": in_norm, "eps": eps},
                    compute=partial(_share, stands),
                    examples=((cell.dataset, indices),),
                    successes=stands,
                    higher_is_better=True,
                    headline=(attack, in_norm, eps) == HEADLINE,
                )
            )
    return found


def _share(stands: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    return float(np.average(stands, weights=weights))


def draw(evidence: Evidence) -> list[Chart]:
    curves = []
    for cell in _cells(evidence.plan):
        norm = evidence.records[cell]["norm"].to_numpy()
        radii = np.array([0.0, *_radii(cell)])
        standing = [int((norm > eps).sum()) for eps in radii]
        bands = np.array([wilson(count, len(norm)) for count in standing])
        name = get_attack(str(cell.settings["attack"])).name
        curves.append(Series(name, radii, np.array(standing) / len(norm), bands[:, 0], bands[:, 1]))
    last = _cells(evidence.plan)[-1]
    curve = LineChart(
        title="Robust accuracy over the radius",
        caption=f"Share of {last.examples:,} test images that no perturbation found within the radius misleads.",
        x_label="eps (linf, pixels in [0, 1])",
        y_label="robust accuracy",
        series=tuple(curves),
        y_limits=(0.0, 1.0),
    )
    gallery = _gallery(evidence, last)
    return [curve, gallery] if gallery else [curve]


def _gallery(evidence: Evidence, cell: Cell) -> Gallery | None:
    records = evidence.records[cell]
    dataset = evidence.dataset(cell.dataset)
    norm, pictures = records["norm"].to_numpy(), records["image"].to_numpy()
    shown = np.flatnonzero((norm > 0) & np.isfinite(norm) & ~np.isnan(pictures[:, 0]))[:PICTURES]
    if not len(shown):
        return None
    rows = []
    for row in shown:
        index = int(records["index"][int(row)])
        clean = dataset.floats(slice(index, index + 1))[0].numpy()
        adversarial = pictures[row].reshape(clean.shape)
        before, after = (dataset.classes[records[f"{kind}_prediction"][int(row)]] for kind in ("clean", "adversarial"))
        rows.append(
            (
                Picture(picture_of(clean), f"taken for {before}"),
                Picture(picture_of(adversarial), f"taken for {after}"),
                Picture(picture_of(adversarial - clean), f"{cell.settings['norm']} {norm[row]:.2g}", signed=True),
            )
        )
    return Gallery(
        title="Adversarial examples",
        caption=f"Test images, what {cell.settings['attack']} made of them, and the difference.",
        columns=("clean", "adversarial", "difference"),
        rows=tuple(rows),
    )


ADVERSARIAL = Property(
    name="adversarial",
    title="Adversarial robustness",
    description="The share of test images that are answered rightly and stay so under all that the attack finds.",
    plan=plan_adversarial,
    statistics=statistics,
    draw=draw,
    measures={"attack": measure_attack},
)
