"""Guaranteed detection: bounds on the scores of outliers, beside what an attack makes of them and the plain scores.

The guaranteed AUROC of GOOD (Bitterwolf, Meinke and Hein, NeurIPS 2020, arXiv:2007.08473): no perturbation of the
outliers within the radius makes it lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.certification import BOUNDED_SCORES, NoBoundError, reason_without_bounds, score_bounds
from hardy.evaluation.charts import Chart, LineChart, Series, plain
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Metric, MetricKind, Results, Shard
from hardy.evaluation.properties.adversarial.measure import radii_of
from hardy.evaluation.properties.error_detection.metrics import AUROC
from hardy.evaluation.properties.ood.measure import perturbed
from hardy.metrics import auroc_interval, prepared_auroc
from hardy.models import Ensemble
from hardy.ood import SCORES
from hardy.ood.odin import log_odds
from hardy.validation import Classifier, Images, Labels, Logits

GUARANTEED = MetricKind(
    "guaranteed_auroc",
    "Guaranteed area under the ROC curve",
    higher_is_better=True,
    bounds=(0.0, 1.0),
    question="Does it surely notice outliers, whatever is done to them?",
)
HEADLINE = BOUNDED_SCORES[0]


class Outliers(NamedTuple):
    """What is measured of one dataset of outliers at one radius in linf; ``attacked`` is None where nothing is."""

    eps: float
    bounded: Measurement
    attacked: Measurement | None


def inside(context: EvaluationContext) -> Measurement:
    """The scores of the test images, as they are."""
    count = context.examples(context.dataset, context.budget.in_distribution)
    return Measurement.of("bound_scores", context.dataset, count, eps=0.0)


def outliers(context: EvaluationContext) -> list[Outliers]:
    budget = context.budget
    if budget.certified == 0 or context.norm not in ("", "linf"):
        return []
    found = []
    for name in context.out_of_distribution:
        count = context.examples(name, budget.out_of_distribution)
        for eps in radii_of(context).get("linf", ()):
            attacked = None
            if budget.perturbed:
                attacked = Measurement.of("attack_scores", name, context.examples(name, budget.perturbed), eps=eps)
            found.append(Outliers(eps, Measurement.of("bound_scores", name, count, eps=eps), attacked))
    return found


def plan(context: EvaluationContext) -> list[Measurement]:
    """Nothing where no outliers are at hand, or the norm is another one."""
    found = outliers(context)
    more = [it for each in found for it in each[1:] if it is not None]
    return [inside(context), *more] if found else []


def measure_bounds(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """Per score of ``BOUNDED_SCORES`` itself and, as ``…_bound``, its lowest value within the radius: float64 (N,).

    NaN where there is no bound.
    """
    del seed
    count, eps = len(shard.images), float(measurement.settings["eps"])
    found = _scores(classifier, shard.images, batch_size)
    try:
        bounds = score_bounds(classifier, shard.images, eps=eps, batch_size=batch_size) if eps else found
    except NoBoundError:
        bounds = {}
    return {**found, **{f"{name}_bound": bounds.get(name, np.full(count, np.nan)) for name in BOUNDED_SCORES}}


def measure_attacked(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """Per score of ``BOUNDED_SCORES``, the lowest value that an attack found within the radius, float64 (N,).

    The attack climbs the log odds of the answer, and the largest logit; what is lowest is kept per score. NaN where
    there is no bound to hold it against.
    """
    del seed
    if reason_without_bounds(classifier, tuple(shard.images.shape[1:])):
        return dict.fromkeys(BOUNDED_SCORES, np.full(len(shard.images), np.nan))
    eps, sized = float(measurement.settings["eps"]), _sized(classifier)
    tried = [_scores(classifier, shard.images, batch_size)]
    for asked, objective in ((classifier, log_odds), (sized, _largest)):
        moved = [perturbed(asked, batch, eps, objective) for batch in shard.images.split(batch_size)]
        tried.append(_scores(classifier, torch.cat(moved), batch_size))
    return {name: np.min([each[name] for each in tried], axis=0) for name in BOUNDED_SCORES}


def _largest(logits: Logits, _: Labels) -> Tensor:
    return logits.amax(1)


def _sized(classifier: nn.Module) -> Classifier:
    """What gives the logits whose size says something: of an ensemble the mean of its members'."""
    return (lambda images: classifier.member_logits(images).mean(0)) if isinstance(classifier, Ensemble) else classifier


def _scores(classifier: nn.Module, images: Images, batch_size: int) -> dict[str, NDArray[np.float64]]:
    sized, parts = _sized(classifier), []
    with torch.no_grad():
        for batch in images.split(batch_size):
            logits, sizes = (each(batch).cpu().numpy() for each in (classifier, sized))
            parts.append({name: SCORES[name](logits if name == HEADLINE else sizes) for name in BOUNDED_SCORES})
    return {name: np.concatenate([part[name] for part in parts]) for name in BOUNDED_SCORES}


def metrics(results: Results) -> list[Metric]:
    """Per dataset of outliers, radius and score: the AUROC as it is, under attack, and what is guaranteed."""
    found = []
    for each in outliers(results.context):
        for score in BOUNDED_SCORES:
            lowest = results.column(each.bounded, f"{score}_bound")
            if np.isnan(lowest).any():
                continue
            ball = {"norm": "linf", "eps": each.eps}
            what: list[Any] = [(AUROC, each.bounded, results.column(each.bounded, score), {})]
            if each.attacked:
                what.append((AUROC, each.attacked, results.column(each.attacked, score), ball))
            what.append((GUARANTEED, each.bounded, lowest, ball))
            found += [_against(results, kind, of, values, {"score": score, **more}) for kind, of, values, more in what]
    # At several radii, what is as it is comes once.
    return list({(it.kind.name, it.dataset, *it.setting.items()): it for it in found}.values())


def _against(
    results: Results, kind: MetricKind, measurement: Measurement, outside: NDArray, setting: Mapping[str, str | float]
) -> Metric:
    tests = inside(results.context)
    negative = results.column(tests, str(setting["score"]))
    few = 1.0 / min(len(negative), len(outside))
    return Metric(
        kind,
        prepared_auroc(negative, outside),
        (*results.examples(tests), *results.examples(measurement)),
        setting,
        event=few,
        interval=auroc_interval(negative, outside) if few < 1 else None,
        headline=kind == GUARANTEED and setting["score"] == HEADLINE,
    )


def contradictions(results: Results) -> list[str]:
    """Outliers whose score an attack brought below its bound, of which there can be none."""
    found = []
    for each in outliers(results.context):
        if each.attacked is None:
            continue
        both = results.records[each.attacked].join(results.records[each.bounded], on="index", suffix="_plain")
        broken = int(sum((both[name] < both[f"{name}_bound"]).sum() or 0 for name in BOUNDED_SCORES))
        if broken:
            found.append(
                f"{broken} scores of {each.bounded.dataset} fell below their bounds within linf {each.eps:g}: does the "
                "classifier compute otherwise than in float32 with sums of products? The guarantee does not hold for it"
            )
    return found


def draw(results: Results) -> list[Chart]:
    """Per radius and score: the plain AUROC above, the attacked one below it, the guaranteed one at the bottom."""
    found = metrics(results)
    charts: list[Chart] = []
    for eps in dict.fromkeys(it.setting["eps"] for it in found if it.kind == GUARANTEED):
        for score in dict.fromkeys(it.setting["score"] for it in found if it.kind == GUARANTEED):
            lines = {"as they are": (AUROC, None), "attacked": (AUROC, eps), "guaranteed": (GUARANTEED, eps)}
            series, names = [], [it.dataset for it in found if _is(it, GUARANTEED, score, eps)]
            for name, (kind, radius) in lines.items():
                by_dataset = {it.dataset: it for it in found if _is(it, kind, score, radius)}
                chosen = [by_dataset[dataset] for dataset in names if dataset in by_dataset]
                if chosen:
                    values = np.array([it.compute(np.ones(it.n)) for it in chosen])
                    low, high = np.array([it.interval or (np.nan, np.nan) for it in chosen]).T
                    series.append(Series(name, np.arange(float(len(chosen))), values, low, high, "points"))
            attacked = f"; perturbed within linf {eps:g} to look familiar" if len(series) > 2 else ""
            charts.append(
                LineChart(
                    title=f"Guaranteed detection by {plain(str(score))}, linf {eps:g}",
                    caption="How well outliers are told from test images by their score: as they are"
                    f"{attacked}; and at the least, whatever is done to them within linf {eps:g}."
                    f"{' Between the last two nobody knows.' if attacked else ''}",
                    x_label="",
                    y_label="area under the ROC curve",
                    series=tuple(series),
                    y_limits=(0.0, 1.0),
                    x_names=tuple(names),
                )
            )
    return charts


def _is(metric: Metric, kind: MetricKind, score: object, eps: object) -> bool:
    return metric.kind == kind and metric.setting["score"] == score and metric.setting.get("eps") == eps


FUNCTIONS = {"bound_scores": measure_bounds, "attack_scores": measure_attacked}
