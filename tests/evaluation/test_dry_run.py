"""A dry run: it names what an evaluation then measures, and bounds the time that it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cheap import make_budgets_tiny
from helpers.classifiers import seeded_linear

from hardy.attacks import ATTACKS
from hardy.evaluation.dry_run import Passes, _of_attack, dry_run
from hardy.evaluation.evaluate import measure
from hardy.evaluation.sources import sources_of
from hardy.evaluation.subject import from_probabilities, given_answers, subject_of

RNG = np.random.default_rng(0)
DATA = (RNG.random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 3)
MORE = (RNG.random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 3)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    make_budgets_tiny(monkeypatch)


@pytest.mark.parametrize("budget", ["quick", "standard"])
def test_what_is_planned_is_what_is_measured(budget: str) -> None:
    subject = subject_of(seeded_linear(3, 8))
    found = dry_run(subject, sources_of(DATA, validation=MORE), limit=20, device="cpu", budget=budget)
    assert found.seconds > 0
    assert found.memory > 1 << 20
    assert found.images["data/test"] == 40
    if budget == "quick":
        done = measure(
            subject, sources_of(DATA, validation=MORE), limit=20, device="cpu", budget=budget, progress=False
        )
        assert [it.measurement for it in found.planned] == list(done.results.records)
        assert {it.reason for it in found.skipped} <= {it.reason for it in done.scorecard.skipped}
    assert found.as_json()["measurements"][0]["function"] == found.planned[0].measurement.function
    assert sum(map(len, found.by_kind().values())) == len(found.planned)


def test_attacks_cost_their_passes() -> None:
    pgd, square = ATTACKS["pgd"], ATTACKS["square"]
    assert _of_attack(pgd.with_settings(steps=40), 2, 10) == Passes(gradient=80 * (pgd.settings.get("n_restarts") or 1))
    assert _of_attack(square.with_settings(n_queries=500), 1, 10).forward >= 500
    assert _of_attack(square, 1, 10).gradient == 0


def test_what_has_no_gradients_is_planned_without(tmp_path: Path) -> None:
    function = from_probabilities(lambda images: np.full((len(images), 3), 1 / 3))
    found = dry_run(function, sources_of(DATA, validation=MORE), device="cpu", budget="standard")
    assert all(it.passes.gradient == 0 for it in found.planned)
    np.savez(tmp_path / "a.npz", logits=RNG.normal(size=(30, 3)), labels=np.arange(30) % 3)
    answers = dry_run(given_answers(), sources_of(tmp_path / "a.npz"), device="cpu")
    assert {it.measurement.function for it in answers.planned} == {"predict"}
