"""The metrics of out-of-distribution detection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Compute, Measurement, Metric, MetricKind, Results, share_of, view
from hardy.evaluation.properties.error_detection.metrics import AUPR, AUROC, FPR
from hardy.evaluation.properties.ood.measure import (
    HEADLINES,
    Outside,
    headline_score,
    inside_measurement,
    outside_measurements,
    scores_of,
    shift_measurements,
    validation_measurement,
)
from hardy.metrics import auroc_interval, prepared_aupr, prepared_auroc, prepared_fpr_at_tpr, share_interval
from hardy.ood import DETECTORS

ACCEPTED = (0.95, 0.99)
"""Thresholds accept these shares of validation images."""

# What is measured, and the family of synthetic outliers that is of its kind.
_LIKE = {"glyphs": "glyphs", "uniform_noise": "noise", "gaussian_noise": "noise"}

AUPR_IN = replace(AUPR, name="aupr_in", title="Area under the precision-recall curve, test images positive")
FPR_IN = replace(
    FPR,
    name="fpr_at_95_tpr_of_test_images",
    title="Out-of-distribution inputs accepted where 95 % of test images are",
)
"""OpenOOD's convention (arXiv:2306.09301), in which test images are positive."""
MEAN_AUROC = replace(AUROC, name="mean_auroc", title="Area under the ROC curve, mean over datasets")
MEAN_FPR_IN = replace(FPR_IN, name="mean_fpr_at_95_tpr_of_test_images", title=f"{FPR_IN.title}, mean over datasets")
NOT_ADAPTIVE = replace(
    AUROC, name="auroc_not_adaptive", title="Area under the ROC curve, perturbed against another score"
)
ACCEPTED_ERROR = MetricKind.share("error_rate_accepted", "Errors among accepted images", higher_is_better=False)
DETECTION_ACCURACY = MetricKind.share("detection_accuracy", "Detection accuracy", higher_is_better=True, chance=0.5)
REFUSED_SHARE = MetricKind.share("refused_share", "Refused share", higher_is_better=False)


def metrics(results: Results) -> list[Metric]:
    found = []
    for outside in outside_measurements(results.context):
        for score in scores_of(results):
            if outside.setting.get("against", score) == score:
                found += _against(results, outside, score)
    return [*found, *_means(results), *_refused(results)]


def _means(results: Results) -> Iterator[Metric]:
    """The mean over the datasets near the classes, and over those far from them, as OpenOOD reports them."""
    context, inside = results.context, inside_measurement(results.context)
    for distance in ("near", "far"):
        members = [
            it for it in outside_measurements(context) if not it.setting and context.distances.get(it.name) == distance
        ]
        if not members:
            continue
        examples = (*results.examples(inside), *(part for it in members for part in results.examples(it.measurement)))
        for score in scores_of(results):
            negative = results.column(inside, score)
            positives = [results.column(it.measurement, score) for it in members]
            make = partial(
                Metric,
                examples=examples,
                setting={"score": score, "distance": distance},
                dataset=context.dataset,
                event=1.0 / min(len(negative), sum(map(len, positives))),
            )
            yield make(MEAN_AUROC, _mean([prepared_auroc(negative, it) for it in positives], negative, positives))
            if score in HEADLINES:
                computes = [_of_inside(prepared_fpr_at_tpr, negative, it) for it in positives]
                yield make(MEAN_FPR_IN, _mean(computes, negative, positives))


def _mean(computes: Sequence[Compute], negative: NDArray, positives: Sequence[NDArray]) -> Compute:
    """The mean of figures that share the weights of the test images, which come first."""
    ends = np.cumsum([len(negative), *map(len, positives)])

    def compute(weights: NDArray[np.float64]) -> float:
        inside, *outside = np.split(weights, ends[:-1])
        each = [figure(np.concatenate([inside, its])) for figure, its in zip(computes, outside, strict=True)]
        return float(np.mean(each))

    return compute


def _against(results: Results, outside: Outside, score: str) -> Iterator[Metric]:
    """How well a score tells other inputs from test images."""
    context, inside = results.context, inside_measurement(results.context)
    negative, positive = (results.column(it, score) for it in (inside, outside.measurement))
    examples = (*results.examples(inside), *results.examples(outside.measurement))
    setting = {"score": score, **outside.setting}
    # A perturbation that raises the probability of the answer aims at max softmax, another at the score that it names.
    aimed = "eps" not in outside.setting or score == outside.setting.get("against", "max_softmax")
    kind = AUROC if aimed else NOT_ADAPTIVE
    few = 1.0 / min(len(negative), len(positive))
    make = partial(Metric, examples=examples, setting=setting, event=few, warnings=_seen_in_fitting(outside, score))
    what = "is no digit" if context.subjects == "digits" else "belongs to no class"
    yield make(
        replace(kind, question=f"Does it notice what {what}?"),
        prepared_auroc(negative, positive),
        interval=auroc_interval(negative, positive) if few < 1 else None,
        headline=score == headline_score(results) and not outside.setting,
    )
    if score in HEADLINES or (context.budget.all_ood_metrics and not outside.setting):
        share = len(positive) / (len(negative) + len(positive))
        yield make(FPR_IN, _of_inside(prepared_fpr_at_tpr, negative, positive))
        yield make(replace(AUPR, chance=share), prepared_aupr(negative, positive))
        yield make(replace(AUPR_IN, chance=1 - share), _of_inside(prepared_aupr, negative, positive))
        yield make(FPR, prepared_fpr_at_tpr(negative, positive))
    for accepted, threshold in _thresholds(results, score).items():
        kept, caught = negative <= threshold, positive > threshold
        yield make(
            DETECTION_ACCURACY,
            _balanced_accuracy(kept, caught),
            setting=setting | {"accepted": accepted},
            interval=_balanced_interval(kept, caught),
        )


def _seen_in_fitting(outside: Outside, score: str) -> tuple[str, ...]:
    """Why a figure of a score that was fitted on synthetic outliers says little of what is new to it."""
    family = _LIKE.get(str(outside.setting.get("transform", outside.name.rpartition("/")[0])))
    if family is None or "synthetic outliers" not in DETECTORS[score].fitted_on:
        return ()
    return (f"the score was fitted on synthetic outliers of the same kind, {family}",)


def _refused(results: Results) -> Iterator[Metric]:
    """The share refused of what should be answered: the test images, and the same classes from elsewhere."""
    for measurement in (inside_measurement(results.context), *shift_measurements(results.context)):
        for score in scores_of(results):
            for accepted, threshold in _thresholds(results, score).items():
                refused = results.column(measurement, score) > threshold
                setting = {"score": score, "accepted": accepted}
                yield share_of(REFUSED_SHARE, refused, results.examples(measurement), setting=setting)
                if score in HEADLINES and not refused.all():
                    yield Metric(
                        ACCEPTED_ERROR,
                        partial(_error_rate, ~_correct(results, measurement), ~refused),
                        results.examples(measurement),
                        setting,
                        event=1.0 / int((~refused).sum()),
                    )


@view
def _thresholds(results: Results, score: str) -> dict[float, float]:
    """Per share of validation images to be accepted, the largest score that is not refused."""
    measurement = validation_measurement(results.context)
    if measurement is None:
        return {}
    validation = results.column(measurement, score)
    return {share: float(np.quantile(validation, share, method="higher")) for share in ACCEPTED}


def _correct(results: Results, measurement: Measurement) -> NDArray[np.bool_]:
    records = results.records[measurement]
    return records["logits"].to_numpy().argmax(axis=1) == records["label"].to_numpy()


def _error_rate(wrong: NDArray[np.bool_], accepted: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    total = weights[accepted].sum()
    return float(weights[accepted & wrong].sum() / total) if total else float("nan")


def _of_inside(prepared: Callable[[NDArray, NDArray], Compute], negative: NDArray, positive: NDArray) -> Compute:
    """A metric with test images as positive, weights still of test images first."""
    compute, n = prepared(-positive, -negative), len(negative)
    return lambda weights: compute(np.concatenate([weights[n:], weights[:n]]))


def _balanced_accuracy(accepted: NDArray[np.bool_], refused: NDArray[np.bool_]) -> Compute:
    def compute(weights: NDArray[np.float64]) -> float:
        inside, outside = np.split(weights, [len(accepted)])
        if not inside.sum() or not outside.sum():
            return float("nan")
        return float((np.average(accepted, weights=inside) + np.average(refused, weights=outside)) / 2)

    return compute


def _balanced_interval(accepted: NDArray[np.bool_], refused: NDArray[np.bool_]) -> tuple[float, float]:
    """The mean of two shares, each with its interval; their distances add in squares (Newcombe 1998)."""
    shares = [accepted.mean(), refused.mean()]
    bounds = [share_interval(int(each.sum()), len(each)) for each in (accepted, refused)]
    below = np.hypot(*(share - bound.low for share, bound in zip(shares, bounds, strict=True))) / 2
    above = np.hypot(*(bound.high - share for share, bound in zip(shares, bounds, strict=True))) / 2
    middle = sum(shares) / 2
    return float(middle - below), float(middle + above)


def warnings(results: Results) -> list[str]:
    if results.context.train is None or "vim" in scores_of(results):
        return []
    warning = (
        "out_of_distribution: the classifier's logits are not a linear map of what enters its last nn.Linear, so "
        "scores from penultimate features are left out"
    )
    return [warning]
