"""The metrics of a system under attack: what it answers wrongly, what it no longer answers, and what it should not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.framework import Metric, MetricKind, Results, Scalar, share_of
from hardy.evaluation.properties.adversarial.measure import radii
from hardy.evaluation.properties.system.measure import Attacked, attacked

WRONG_AMONG_ANSWERED = MetricKind.share(
    "wrong_among_answered",
    "Wrong answers among those answered",
    higher_is_better=False,
    question="Can it be made to answer wrongly?",
)
WRONG = MetricKind.share("wrong_answers", "Wrong answers among all images", higher_is_better=False)
ANSWERED = MetricKind.share("answered", "Answered images", higher_is_better=None)
DENIED = MetricKind.share(
    "denied", "Images that are answered as they are, and made to be refused", higher_is_better=False
)
STAYS_RIGHT = MetricKind.share(
    "answered_rightly", "Answered rightly, whichever of the two the attacker wants", higher_is_better=True
)
OUTLIERS_ANSWERED = MetricKind.share(
    "outliers_answered",
    "Out-of-distribution inputs answered",
    higher_is_better=False,
    question="Can it be made to answer what belongs to no class?",
)
ADAPTIVE, NOT_ADAPTIVE = "of all rules", "of all rules but not adaptive to the detector"


def metrics(results: Results) -> list[Metric]:
    return [
        metric for it in attacked(results.context) for metric in (*_of_images(results, it), *_outliers(results, it))
    ]


def _of_images(results: Results, these: Attacked) -> Iterator[Metric]:
    records = results.records[these.wrong]
    clean, truth = records["clean_prediction"].to_numpy(), records["label"].to_numpy()
    wrong_norm, refused_norm = (results.column(it, "norm") for it in (these.wrong, these.abstain))
    examples, indices = results.examples(these.wrong), results.column(these.wrong, "index")
    for eps in (0.0, *radii(these.wrong)):
        setting = _setting(results, these, eps)
        wrong, refused = wrong_norm <= eps, refused_norm <= eps
        right = (clean == truth) & ~wrong
        answered = wrong | right
        if answered.any():
            yield share_of(
                WRONG_AMONG_ANSWERED,
                wrong[answered],
                ((these.wrong.dataset, indices[answered]),),
                setting=setting,
                headline=eps == radii(these.wrong)[-1],
            )
        yield share_of(WRONG, wrong, examples, setting=setting)
        yield share_of(ANSWERED, answered, examples, setting=setting)
        if eps and (clean >= 0).any():
            chosen = clean >= 0
            yield share_of(DENIED, refused[chosen], ((these.wrong.dataset, indices[chosen]),), setting=setting)
        if eps:
            yield share_of(STAYS_RIGHT, right & ~refused, examples, setting=setting)


def _outliers(results: Results, these: Attacked) -> Iterator[Metric]:
    for name, measurement in these.outliers.items():
        norm, named = results.column(measurement, "norm"), {"inputs": name} if measurement.settings["made"] else {}
        for eps in (0.0, *radii(measurement)):
            yield share_of(
                OUTLIERS_ANSWERED,
                norm <= eps,
                results.examples(measurement),
                setting=named | _setting(results, these, eps),
                headline=eps == radii(measurement)[-1],
            )


def _setting(results: Results, these: Attacked, eps: float) -> dict[str, Scalar]:
    attack = "none" if not eps else ADAPTIVE if _adaptive(results, these).all() else NOT_ADAPTIVE
    return {"attack": attack, "norm": these.norm, "eps": eps}


def _adaptive(results: Results, these: Attacked) -> NDArray[np.bool_]:
    return results.column(these.wrong, "adaptive")


def warnings(results: Results) -> list[str]:
    """Where a black box alone attacked the detector."""
    if all(_adaptive(results, it).all() for it in attacked(results.context)):
        return []
    words = "no gradient leads through the detector, so a black box alone searched against it"
    return [f"system: {words}; a better attack may find more"]
