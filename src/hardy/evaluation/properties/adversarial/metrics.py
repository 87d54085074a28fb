"""Adversarial robustness: what stands when somebody looks for the worst image within a radius."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from hardy.attacks import ATTACKS
from hardy.evaluation.charts import Chart, Gallery, LineChart, Picture, Series
from hardy.evaluation.framework import Budget, EvaluationContext, Measurement, Metric, Plan, Property, Results, Skipped
from hardy.evaluation.predictions import MEASUREMENT_FUNCTIONS, prediction_measurement, predictions_of
from hardy.evaluation.properties.accuracy.metrics import class_names, picture_of
from hardy.evaluation.properties.adversarial.masking import masking_measurements, masking_warnings, measure_masking
from hardy.evaluation.properties.adversarial.measure import PICTURES, attack_measurement, measure_attack, radii, share
from hardy.metrics import wilson


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


def study_measurements(context: EvaluationContext) -> list[Measurement]:
    """The study's 21 figures, seven attacks, each at three radii; and PGD at more of them."""
    return [attack_measurement(context, *sweep, SIMPLE_EXAMPLES[context.budget]) for sweep in STUDY]


def _curve_measurement(context: EvaluationContext) -> Measurement:
    return next(measurement for measurement in study_measurements(context) if measurement.settings["attack"] == "pgd")


def _standard_measurements(context: EvaluationContext) -> list[Measurement]:
    sweeps = STANDARD[:1] if context.budget == "quick" else STANDARD
    return [attack_measurement(context, *sweep, STANDARD_EXAMPLES[context.budget]) for sweep in sweeps]


def plan_adversarial(context: EvaluationContext) -> Plan:
    left_out = "masking checks, standard in l2 and l1, and the union of norms: the quick budget leaves them out"
    skipped = [Skipped("adversarial", left_out)] if context.budget == "quick" else []
    measurements = [*study_measurements(context), *_standard_measurements(context), *masking_measurements(context)]
    return Plan([*measurements, *(prediction_measurement(context, name) for name in context.adversarial)], skipped)


def metrics(results: Results) -> list[Metric]:
    context = results.context
    found = [
        _robust_accuracy(results, measurement, eps)
        for measurement in [*study_measurements(context), *_standard_measurements(context)]
        for eps in radii(measurement)
    ]
    return [*found, *_union(results), *_saved_sets(results)]


def _robust_accuracy(results: Results, measurement: Measurement, eps: float) -> Metric:
    records = results.records[measurement]
    stands = records["norm"].to_numpy() > eps
    return Metric(
        metric="robust_accuracy",
        dataset=measurement.dataset,
        setting={"attack": measurement.settings["attack"], "norm": measurement.settings["norm"], "eps": eps},
        compute=partial(share, stands),
        examples=((measurement.dataset, records["index"].to_numpy()),),
        successes=stands,
        higher_is_better=True,
        headline=measurement.settings["attack"] == "standard" and UNION[str(measurement.settings["norm"])] == eps,
    )


def _union(results: Results) -> list[Metric]:
    """Standing in all norms at once, example by example."""
    measurements = _standard_measurements(results.context)
    if len(measurements) < len(UNION):
        return []
    stands = np.all(
        [
            results.records[measurement]["norm"].to_numpy() > UNION[str(measurement.settings["norm"])]
            for measurement in measurements
        ],
        axis=0,
    )
    union = Metric(
        metric="robust_accuracy",
        dataset=measurements[0].dataset,
        setting={"attack": "standard", "norm": "union", "radii": ", ".join(f"{n} {e:g}" for n, e in UNION.items())},
        compute=partial(share, stands),
        examples=((measurements[0].dataset, results.records[measurements[0]]["index"].to_numpy()),),
        successes=stands,
        higher_is_better=True,
        headline=True,
    )
    return [union]


def _saved_sets(results: Results) -> list[Metric]:
    found = []
    for name in results.context.adversarial:
        answers = predictions_of(results, prediction_measurement(results.context, name))
        found.append(
            Metric(
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


def draw(results: Results) -> list[Chart]:
    charts: list[Chart] = [_curve(results)]
    gallery = _gallery(results, _curve_measurement(results.context))
    return [*charts, gallery] if gallery else charts


def _curve(results: Results) -> LineChart:
    measurement = _curve_measurement(results.context)
    norm = results.records[measurement]["norm"].to_numpy()
    eps = np.array([0.0, *(radius for radius in radii(measurement) if radius <= CURVE_EPS[-1])])
    standing = [int((norm > radius).sum()) for radius in eps]
    bands = np.array([wilson(count, len(norm)) for count in standing])
    return LineChart(
        title="Robust accuracy over the radius",
        caption=f"Share of {measurement.examples:,} test images that {_attack_title(measurement)} cannot "
        "mislead within the radius, with its 95 % interval. At 0.5 every image can be made gray.",
        x_label="eps (linf, pixels in [0, 1])",
        y_label="robust accuracy",
        series=(Series("robust accuracy", eps, np.array(standing) / len(norm), bands[:, 0], bands[:, 1]),),
        y_limits=(0.0, 1.0),
    )


def _attack_title(measurement: Measurement) -> str:
    return ATTACKS[str(measurement.settings["attack"])].title


def _gallery(results: Results, measurement: Measurement) -> Gallery | None:
    records = results.records[measurement]
    dataset = results.dataset(measurement.dataset)
    names = class_names(dataset, results.context.classes)
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
                Picture(
                    picture_of(adversarial - clean), f"{measurement.settings['norm']} {norm[row]:.2g}", signed=True
                ),
            )
        )
    return Gallery(
        title="Adversarial examples",
        caption=f"Test images, what {_attack_title(measurement)} made of them, and the difference.",
        columns=("clean", "adversarial", "difference"),
        rows=tuple(rows),
    )


ADVERSARIAL = Property(
    name="adversarial",
    title="Adversarial robustness",
    description="The share of test images that are answered rightly and stay so under all that the attack finds. "
    "'standard' is the worst case over APGD-CE, targeted APGD, targeted FAB and Square, as in AutoAttack.",
    plan=plan_adversarial,
    metrics=metrics,
    draw=draw,
    functions={"attack": measure_attack, "masking": measure_masking, **MEASUREMENT_FUNCTIONS},
    warnings=masking_warnings,
)
