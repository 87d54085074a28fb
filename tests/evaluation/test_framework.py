"""What properties are made of: metrics that know their examples, and results that work things out once."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from helpers.results import random_results

from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import Memo, Metric, MetricKind, Results, mean_of, share_of, view
from hardy.metrics import share_interval

KIND = MetricKind.share("right", "Right", higher_is_better=True, chance=0.1, question="Is it right?")
TWO = (("inside", np.arange(3)), ("outside", np.arange(2)))


def test_a_share_is_a_mean_of_flags_with_wilsons_interval() -> None:
    flags = np.array([True, True, True, False, False])
    metric = share_of(KIND, flags, (("data", np.arange(5)),), setting={"eps": 0.3}, headline=True)
    assert metric.compute(np.array([1.0, 0.0, 0.0, 3.0, 0.0])) == 0.25
    found = estimate("property", metric, 0)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.6, *share_interval(3, 5))
    assert (found.metric, found.title, found.question) == ("right", "Right", "Is it right?")
    assert (found.unit, found.bounds, found.chance) == ("share", (0.0, 1.0), 0.1)
    assert (found.setting, found.headline, found.higher_is_better) == ({"eps": 0.3}, True, True)


def test_a_mean_is_bootstrapped() -> None:
    values = np.random.default_rng(0).normal(size=400)
    kind = MetricKind("size", "Size", higher_is_better=None)
    found = estimate("property", mean_of(kind, values, (("data", np.arange(400)),)), 0)
    assert found is not None
    assert found.value == pytest.approx(values.mean())
    low, high = found.interval() or (0.0, 0.0)
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.2)
    assert (found.unit, found.bounds, found.chance, found.question) == ("number", None, None, "")


def test_a_metric_is_measured_on_its_last_stratum_unless_said_otherwise() -> None:
    metric = Metric(KIND, lambda _: 0.5, TWO)
    assert (metric.dataset, metric.n) == ("outside", 5)
    assert replace(metric, dataset="both").dataset == "both"


def test_a_memo_makes_each_thing_once() -> None:
    made: list[str] = []
    memo = Memo()
    for key in ("one", "other", "one"):
        assert memo.get(key, lambda key=key: made.append(key) or key.upper()) == key.upper()
    assert made == ["one", "other"]
    assert Memo().get("nothing", lambda: None) is None


def test_a_view_is_worked_out_once_per_results_and_arguments_and_goes_with_them() -> None:
    calls: list[tuple[int, int]] = []

    @view
    def labels_times(results: Results, factor: int, *, plus: int = 0) -> np.ndarray:
        calls.append((factor, plus))
        return factor * np.arange(results.seed, 3) + plus

    results = random_results(20)[0]
    assert labels_times(results, 2) is labels_times(results, 2)
    assert labels_times(results, 3, plus=1).tolist() == [1, 4, 7]
    assert calls == [(2, 0), (3, 1)]
    other = replace(results, seed=1)
    assert labels_times(other, 2).tolist() == [2, 4]

    alive = weakref.ref(labels_times(results, 2))
    del results
    gc.collect()
    assert alive() is None
