"""Adversarial robustness: what stands when somebody looks for the worst image within a radius."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from hardy.attacks import ATTACKS
from hardy.charts import Chart, Gallery, LineChart, Picture, Series
from hardy.metrics import wilson
from hardy.properties.accuracy import class_names, picture_of
from hardy.properties.attacking import PICTURES, attack_cell, measure_attack, radii, share
from hardy.properties.framework import Budget, Cell, Evidence, Plan, Planned, Property, Skipped, Statistic
from hardy.properties.masking import masking_cells, masking_warnings, measure_masking
from hardy.properties.predictions import MEASURES, prediction_cell, predictions_of


class Sweep(NamedTuple):
    """An attack or suite in one norm, at ascending radii."""

    attack: str
    norm: str
    eps: tuple[float, ...]


STUDY_EPS = (0.3, 1.5, 10.0)
CURVE_EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
STUDY = (
    Sweep("basic-iterative", "l2", STUDY_EPS),
    Sweep("noise", "l2", STUDY_EPS),
    Sweep("deepfool", "l2", STUDY_EPS),
    Sweep("fast-gradient", "l2", STUDY_EPS),
    Sweep("fast-gradient", "linf", STUDY_EPS),
    # The study's radii and those of a curve in one sweep, so that robust accuracy never rises with the radius.
    Sweep("pgd", "linf", (*CURVE_EPS, 1.5, 10.0)),
    Sweep("salt-and-pepper", "l2", STUDY_EPS),
)
STANDARD = (
    Sweep("standard", "linf", (0.3,)),
    Sweep("standard", "l2", (1.5, 2.0)),
    Sweep("standard", "l1", (10.0,)),
)
# The radii whose union is published for several norms at once: Maini, Wong and Kolter, ICML 2020, arXiv:1909.04068.
UNION = {"linf": 0.3, "l2": 2.0, "l1": 10.0}
SIMPLE_EXAMPLES: dict[Budget, int | None] = {"quick": 100, "standard": 1000, "full": None}
STANDARD_EXAMPLES: dict[Budget, int | None] = {"quick": 50, "standard": 500, "full": None}


def study_cells(plan: Plan) -> list[Cell]:
    """The study's 21 figures, seven attacks, each at three radii; and PGD at more of them."""
    return [attack_cell(plan, *sweep, SIMPLE_EXAMPLES[plan.budget]) for sweep in STUDY]


def _curve_cell(plan: Plan) -> Cell:
    return next(cell for cell in study_cells(plan) if cell.settings["attack"] == "pgd")


def _standard_cells(plan: Plan) -> list[Cell]:
    sweeps = STANDARD[:1] if plan.budget == "quick" else STANDARD
    return [attack_cell(plan, *sweep, STANDARD_EXAMPLES[plan.budget]) for sweep in sweeps]


def plan_adversarial(plan: Plan) -> Planned:
    left_out = "masking checks, standard in l2 and l1, and the union of norms: the quick budget leaves them out"
    skipped = [Skipped("adversarial", left_out)] if plan.budget == "quick" else []
    cells = [*study_cells(plan), *_standard_cells(plan), *masking_cells(plan)]
    return Planned([*cells, *(prediction_cell(plan, name) for name in plan.adversarial)], skipped)


def statistics(evidence: Evidence) -> list[Statistic]:
    plan = evidence.plan
    found = [
        _robust_accuracy(evidence, cell, eps)
        for cell in [*study_cells(plan), *_standard_cells(plan)]
        for eps in radii(cell)
    ]
    return [*found, *_union(evidence), *_saved_sets(evidence)]


def _robust_accuracy(evidence: Evidence, cell: Cell, eps: float) -> Statistic:
    records = evidence.records[cell]
    stands = records["norm"].to_numpy() > eps
    return Statistic(
        metric="robust_accuracy",
        dataset=cell.dataset,
        setting={"attack": cell.settings["attack"], "norm": cell.settings["norm"], "eps": eps},
        compute=partial(share, stands),
        examples=((cell.dataset, records["index"].to_numpy()),),
        successes=stands,
        higher_is_better=True,
        headline=cell.settings["attack"] == "standard" and UNION[str(cell.settings["norm"])] == eps,
    )


def _union(evidence: Evidence) -> list[Statistic]:
    """Standing in all norms at once, example by example."""
    cells = _standard_cells(evidence.plan)
    if len(cells) < len(UNION):
        return []
    stands = np.all(
        [evidence.records[cell]["norm"].to_numpy() > UNION[str(cell.settings["norm"])] for cell in cells], axis=0
    )
    union = Statistic(
        metric="robust_accuracy",
        dataset=cells[0].dataset,
        setting={"attack": "standard", "norm": "union", "radii": ", ".join(f"{n} {e:g}" for n, e in UNION.items())},
        compute=partial(share, stands),
        examples=((cells[0].dataset, evidence.records[cells[0]]["index"].to_numpy()),),
        successes=stands,
        higher_is_better=True,
        headline=True,
    )
    return [union]


def _saved_sets(evidence: Evidence) -> list[Statistic]:
    found = []
    for name in evidence.plan.adversarial:
        answers = predictions_of(evidence, prediction_cell(evidence.plan, name))
        found.append(
            Statistic(
                metric="transfer_accuracy",
                dataset=name,
                compute=partial(share, answers.correct),
                examples=((name, answers.indices),),
                successes=answers.correct,
                higher_is_better=True,
                headline=True,
            )
        )
    return found


def draw(evidence: Evidence) -> list[Chart]:
    charts: list[Chart] = [_curve(evidence)]
    gallery = _gallery(evidence, _curve_cell(evidence.plan))
    return [*charts, gallery] if gallery else charts


def _curve(evidence: Evidence) -> LineChart:
    cell = _curve_cell(evidence.plan)
    norm = evidence.records[cell]["norm"].to_numpy()
    eps = np.array([0.0, *(radius for radius in radii(cell) if radius <= CURVE_EPS[-1])])
    standing = [int((norm > radius).sum()) for radius in eps]
    bands = np.array([wilson(count, len(norm)) for count in standing])
    return LineChart(
        title="Robust accuracy over the radius",
        caption=f"Share of {cell.examples:,} test images that {ATTACKS[str(cell.settings['attack'])].title} cannot "
        "mislead within the radius, with its 95 % interval. At 0.5 every image can be made gray.",
        x_label="eps (linf, pixels in [0, 1])",
        y_label="robust accuracy",
        series=(Series("robust accuracy", eps, np.array(standing) / len(norm), bands[:, 0], bands[:, 1]),),
        y_limits=(0.0, 1.0),
    )


def _gallery(evidence: Evidence, cell: Cell) -> Gallery | None:
    records = evidence.records[cell]
    dataset = evidence.dataset(cell.dataset)
    names = class_names(dataset, evidence.plan.classes)
    norm, pictures = records["norm"].to_numpy(), records["image"].to_numpy()
    shown = np.flatnonzero((norm > 0) & np.isfinite(norm) & ~np.isnan(pictures[:, 0]))[:PICTURES]
    if not len(shown):
        return None
    rows = []
    for row in shown:
        index = int(records["index"][int(row)])
        clean = dataset.floats(slice(index, index + 1))[0].numpy()
        adversarial = pictures[row].reshape(clean.shape)
        before, after = (
            names[predicted] if (predicted := int(records[f"{kind}_prediction"][int(row)])) >= 0 else "nothing"
            for kind in ("clean", "adversarial")
        )
        rows.append(
            (
                Picture(picture_of(clean), f"taken for {before}"),
                Picture(picture_of(adversarial), f"taken for {after}"),
                Picture(picture_of(adversarial - clean), f"{cell.settings['norm']} {norm[row]:.2g}", signed=True),
            )
        )
    return Gallery(
        title="Adversarial examples",
        caption=f"Test images, what {ATTACKS[str(cell.settings['attack'])].title} made of them, and the difference.",
        columns=("clean", "adversarial", "difference"),
        rows=tuple(rows),
    )


ADVERSARIAL = Property(
    name="adversarial",
    title="Adversarial robustness",
    description="The share of test images that are answered rightly and stay so under all that the attack finds. "
    "'standard' is the worst case over APGD-CE, targeted APGD, targeted FAB and Square, as in AutoAttack.",
    plan=plan_adversarial,
    statistics=statistics,
    draw=draw,
    measures={"attack": measure_attack, "masking": measure_masking, **MEASURES},
    warnings=masking_warnings,
)
