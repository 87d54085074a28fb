"""Evaluations in tests: small, quick, and how to compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from torch import nn

import hardy.evaluation.evaluate
from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import Subject
from hardy.models.weights import weights_sha256
from helpers.cheap import make_budgets_tiny
from helpers.classifiers import small_classifier

LIMIT = 25
SHARD = 12


def make_evaluations_small(patch: pytest.MonkeyPatch) -> None:
    """Several shards per measurement though there are few examples, and tiny budgets."""
    patch.setattr(hardy.evaluation.evaluate, "SHARD", SHARD)
    make_budgets_tiny(patch)


def subject_of(classifier: nn.Module) -> Subject:
    return Subject("small", classifier, type(classifier).__name__, weights_sha256(classifier))


def measure(out: Path, **settings: Any) -> Scorecard:
    settings = {"limit": LIMIT, "device": "cpu", "budget": "standard", "progress": False} | settings
    return evaluate(subject_of(settings.pop("classifier", None) or small_classifier()), out=out, **settings)


def records_of(out: Path) -> dict[str, pl.DataFrame]:
    return {path.name: pl.read_parquet(path) for path in sorted((out / "records").iterdir())}


def figures_of(scorecard: Scorecard) -> dict[str, tuple[float, float | None, float | None]]:
    return {
        json.dumps([metric.property, metric.metric, metric.dataset, metric.setting]): (
            metric.value,
            metric.low,
            metric.high,
        )
        for metric in scorecard.estimates
    }


def assert_same_records(found: Path, wanted: Path) -> None:
    records, expected = records_of(found), records_of(wanted)
    assert records.keys() == expected.keys()
    for name, frame in expected.items():
        assert records[name].equals(frame), name
