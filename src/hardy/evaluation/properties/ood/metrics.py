"""Out-of-distribution detection: whether inputs of another kind stand out by their score."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hardy.evaluation.charts import Chart, LineChart, Series, Table
from hardy.evaluation.framework import EvaluationContext, Measurement, Metric, Plan, Property, Results, Skipped
from hardy.evaluation.properties.error_detection.metrics import score_histogram
from hardy.evaluation.properties.ood.measure import SIZES, detect_measurement, measure_detect
from hardy.metrics import (
    Figure,
    auroc,
    auroc_interval,
    prepared_aupr,
    prepared_auroc,
    prepared_fpr_at_tpr,
    roc_curve,
    wilson,
)
from hardy.ood import DETECTORS
from hardy.synthetic.transforms import TRANSFORMS

HEADLINES = ("layers", "max_softmax")
"""The score that says most without having seen an outlier, where the classifier has layers; and the baseline."""

ACCEPTED = (0.95, 0.99)
"""Thresholds accept these shares of validation images."""

MOVED_EPS = 0.3


class Outside(NamedTuple):
    """A cell that is to be told from the test cell."""

    name: str
    measurement: Measurement
    setting: dict[str, str | float]


def plan_out_of_distribution(context: EvaluationContext) -> Plan:
    reasons = [f"{name}: {reason}" for name, reason in context.missing.items()]
    if not context.out_of_distribution:
        reasons.append("no out-of-distribution dataset is at hand; only what is made of the test images is measured")
    if context.train is None:
        reasons.append("no training images are at hand: detectors that are fitted on them are left out")
    if context.validation is None:
        reasons.append("no validation images are at hand: the combination of scores, and thresholds, are left out")
    if context.budget == "quick":
        reasons.append("ODIN and adversarially moved images: the quick budget leaves them out")
    measurements = [
        _test_measurement(context),
        *(it.measurement for it in _outside(context)),
        *_shift_measurements(context),
    ]
    validation = _validation_measurement(context)
    return Plan(
        [*measurements, validation] if validation else measurements,
        [Skipped("out_of_distribution", reason) for reason in reasons],
    )


def _test_measurement(context: EvaluationContext) -> Measurement:
    return detect_measurement(context, context.dataset, SIZES[context.budget].inside)


def _validation_measurement(context: EvaluationContext) -> Measurement | None:
    """Half of what is held out; fitting takes of the other half."""
    if context.validation is None or context.sizes[context.validation] < 2:
        return None
    return detect_measurement(
        context, context.validation, min(context.sizes[context.validation] // 2, SIZES[context.budget].inside or 10**9)
    )


def _shift_measurements(context: EvaluationContext) -> list[Measurement]:
    return [detect_measurement(context, name, SIZES[context.budget].outside) for name in context.shift]


def _outside(context: EvaluationContext) -> list[Outside]:
    size = SIZES[context.budget]
    found = [Outside(name, detect_measurement(context, name, size.outside), {}) for name in context.out_of_distribution]
    for made in TRANSFORMS:
        measurement = detect_measurement(context, context.dataset, size.made, made=made)
        found.append(Outside(made.replace("_", " "), measurement, {"made": made}))
    if size.moved:
        for name in context.out_of_distribution:
            measurement = detect_measurement(context, name, size.moved, moved=MOVED_EPS)
            found.append(Outside(f"{name}, moved", measurement, {"norm": "linf", "eps": MOVED_EPS}))
    return found


def metrics(results: Results) -> list[Metric]:
    context = results.context
    inside = results.records[_test_measurement(context)]
    found = []
    for outside in _outside(context):
        records = results.records[outside.measurement]
        for score in _scores_of(inside):
            found += _against(results, outside, score, inside, records)
    return [*found, *_refused(results)]


def _against(
    results: Results, outside: Outside, score: str, inside: pl.DataFrame, records: pl.DataFrame
) -> Iterator[Metric]:
    negative, positive = inside[score].to_numpy(), records[score].to_numpy()
    make = partial(
        Metric,
        dataset=outside.measurement.dataset,
        examples=(
            (results.context.dataset, inside["index"].to_numpy()),
            (outside.measurement.dataset, records["index"].to_numpy()),
        ),
    )
    setting = {"score": score, **outside.setting}
    yield make(
        metric="auroc",
        setting=setting,
        compute=prepared_auroc(negative, positive),
        interval=auroc_interval(negative, positive) if min(len(negative), len(positive)) > 1 else None,
        higher_is_better=True,
        headline=score == _headline(inside) and not outside.setting,
    )
    if score in HEADLINES or (results.context.budget != "quick" and not outside.setting):
        figures = {
            "aupr": (prepared_aupr(negative, positive), True),
            "aupr_in": (_aupr_of_inside(negative, positive), True),
            "fpr_at_95_tpr": (prepared_fpr_at_tpr(negative, positive), False),
        }
        for metric, (compute, higher) in figures.items():
            yield make(metric=metric, setting=setting, compute=compute, higher_is_better=higher)
    for accepted, threshold in _thresholds(results, score).items():
        yield make(
            metric="detection_accuracy",
            setting=setting | {"accepted": accepted},
            compute=_balanced_accuracy(negative <= threshold, positive > threshold),
            interval=_balanced_interval(negative <= threshold, positive > threshold),
            higher_is_better=True,
        )


def _refused(results: Results) -> Iterator[Metric]:
    """The share refused of what should be answered: the test images, and digits made in another way."""
    context = results.context
    inside = results.records[_test_measurement(context)]
    for measurement in (_test_measurement(context), *_shift_measurements(context)):
        records = results.records[measurement]
        for score in _scores_of(inside):
            for accepted, threshold in _thresholds(results, score).items():
                refused = records[score].to_numpy() > threshold
                yield Metric(
                    metric="refused_share",
                    dataset=measurement.dataset,
                    setting={"score": score, "accepted": accepted},
                    compute=lambda weights, refused=refused: float(np.average(refused, weights=weights)),
                    examples=((measurement.dataset, records["index"].to_numpy()),),
                    successes=refused,
                    higher_is_better=False,
                )


def _thresholds(results: Results, score: str) -> dict[float, float]:
    """Per share of validation images to be accepted, the largest score that is not refused."""
    measurement = _validation_measurement(results.context)
    if measurement is None:
        return {}
    validation = results.records[measurement][score].to_numpy()
    return {share: float(np.quantile(validation, share, method="higher")) for share in ACCEPTED}


def _aupr_of_inside(negative: NDArray, positive: NDArray) -> Figure:
    figure = prepared_aupr(-positive, -negative)

    def compute(weights: NDArray[np.float64] | None) -> float:
        if weights is None:
            return figure(None)
        return figure(np.concatenate([weights[len(negative) :], weights[: len(negative)]]))

    return compute


def _balanced_accuracy(accepted: NDArray[np.bool_], refused: NDArray[np.bool_]) -> Figure:
    def compute(weights: NDArray[np.float64] | None) -> float:
        if weights is None:
            return float((accepted.mean() + refused.mean()) / 2)
        of_inside, of_outside = weights[: len(accepted)], weights[len(accepted) :]
        if not of_inside.sum() or not of_outside.sum():
            return float("nan")
        return float((np.average(accepted, weights=of_inside) + np.average(refused, weights=of_outside)) / 2)

    return compute


def _balanced_interval(accepted: NDArray[np.bool_], refused: NDArray[np.bool_]) -> tuple[float, float]:
    """The mean of two shares, each with Wilson's interval; their distances add in squares (Newcombe 1998)."""
    shares = [accepted.mean(), refused.mean()]
    bounds = [wilson(int(each.sum()), len(each)) for each in (accepted, refused)]
    below = np.hypot(*(share - bound.low for share, bound in zip(shares, bounds, strict=True))) / 2
    above = np.hypot(*(bound.high - share for share, bound in zip(shares, bounds, strict=True))) / 2
    middle = sum(shares) / 2
    return float(middle - below), float(middle + above)


def _scores_of(records: pl.DataFrame) -> list[str]:
    return [name for name in DETECTORS if name in records.columns]


def _headline(records: pl.DataFrame) -> str:
    return next(name for name in HEADLINES if name in records.columns)


def draw(results: Results) -> list[Chart]:
    inside = results.records[_test_measurement(results.context)]
    score = _headline(inside)
    curves, histograms = [], []
    for outside in _outside(results.context):
        negative, positive = inside[score].to_numpy(), results.records[outside.measurement][score].to_numpy()
        if outside.setting:
            continue
        roc = roc_curve(negative, positive)
        curves.append(Series(outside.name, roc.false_positive_rate, roc.true_positive_rate))
        scores = {results.context.dataset: negative, outside.name: positive}
        histograms.append(score_histogram(f"Scores: {outside.name}", score, **scores))
    charts: list[Chart] = [_table(results)]
    if curves:
        roc_chart = LineChart(
            title="ROC: other inputs against test images",
            caption="Share of out-of-distribution inputs caught over share of test images refused, by "
            f"{score.replace('_', ' ')}.",
            x_label="test images refused",
            y_label="out-of-distribution inputs caught",
            series=tuple(curves),
            x_limits=(0.0, 1.0),
            y_limits=(0.0, 1.0),
        )
        charts += [roc_chart, *histograms]
    return charts


def _table(results: Results) -> Table:
    inside = results.records[_test_measurement(results.context)]
    outsides = _outside(results.context)
    rows = [
        (
            score.replace("_", " "),
            *(
                f"{auroc(inside[score].to_numpy(), results.records[it.measurement][score].to_numpy()):.4f}"
                for it in outsides
            ),
        )
        for score in _scores_of(inside)
    ]
    return Table(
        title="AUROC of every score",
        caption="The chance that a foreign input is more suspicious than a test image. The combination and ODIN were "
        "fitted on made outliers (no strokes among them), all others on training images alone. Scores that the "
        "classifier does not allow are left out. Half a digit may still be that digit.",
        header=("score", *(it.name for it in outsides)),
        rows=tuple(rows),
    )


def warnings(results: Results) -> list[str]:
    inside = results.records[_test_measurement(results.context)]
    if results.context.train is None or "vim" in inside.columns:
        return []
    warning = (
        "out_of_distribution: the classifier's logits are not a linear map of what enters its last nn.Linear, so "
        "scores from penultimate features are left out"
    )
    return [warning]


OUT_OF_DISTRIBUTION = Property(
    name="out_of_distribution",
    title="Out-of-distribution detection",
    description="Whether inputs that belong to no class can be told from test images. Positive is out of distribution: "
    "FPR at 95 % TPR is the share of test images refused when 95 % of the others are caught. Detection accuracy is the "
    "mean of the share of test images accepted and of others refused, at a threshold set on validation images.",
    plan=plan_out_of_distribution,
    metrics=metrics,
    draw=draw,
    functions={"detect": measure_detect},
    warnings=warnings,
)
