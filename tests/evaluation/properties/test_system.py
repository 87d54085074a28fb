"""The whole system under attack: shares that add up, of a bundle only, the same whatever the batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.bundles import bundle_of
from helpers.classifiers import seeded_linear
from helpers.results import found, value

from hardy.deployment import Bundle
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.evaluate import Evaluation, measure
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.system.measure import MADE, attacked
from hardy.evaluation.sources import sources_of
from hardy.evaluation.subject import Subject
from hardy.models.weights import weights_sha256
from hardy.ood import Detector
from hardy.report.verdicts import verdicts

CLASSES, COUNT = 4, 30
BUDGET = replace(
    BUDGETS["quick"], system=20, system_outliers=10, system_steps=5, system_targets=1, system_queries=10, resamples=20
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    network, images = seeded_linear(CLASSES, 8).eval().requires_grad_(False), images_of(200)
    labels = network(images).argmax(1)
    return bundle_of(network, Detector("energy", {}), images, labels, max_ood_score=-1.0)


def images_of(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def evaluated(bundle: Bundle | None, network: torch.nn.Module, **settings: object) -> Evaluation:
    images = images_of(COUNT)
    labels = (network(images).argmax(1) + (torch.arange(COUNT) % 10 == 0)) % CLASSES
    subject = Subject("small", network, "Linear", weights_sha256(network), bundle=bundle)
    sources = sources_of((images, labels), ood={"letters": 0.5 * images_of(12)})
    settings = {"budget": BUDGET, "properties": ["system"], "device": "cpu", "progress": False} | settings
    return measure(subject, sources, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle) -> Evaluation:
    return evaluated(bundle, bundle.classifier, norm="linf", eps=[0.05, 0.2])


def test_shares_add_up(evaluation: Evaluation) -> None:
    results = evaluation.results
    (these,) = attacked(results.context)
    records, refused = results.records[these.wrong], results.column(these.abstain, "norm")
    clean, truth = records["clean_prediction"].to_numpy(), records["label"].to_numpy()
    norm = records["norm"].to_numpy()
    assert ((norm == 0) == ((clean >= 0) & (clean != truth))).all()
    assert ((refused == 0) == (clean < 0)).all()
    for eps in (0.0, 0.05, 0.2):
        figures = {
            name: value(found("system", results, name, norm="linf", eps=eps))
            for name in ("wrong_among_answered", "wrong_answers", "answered")
        }
        assert figures["wrong_answers"] == pytest.approx(figures["wrong_among_answered"] * figures["answered"])
        assert figures["wrong_answers"] == (norm <= eps).mean()
        assert figures["answered"] == ((norm <= eps) | (clean == truth)).mean()
    denied = value(found("system", results, "denied", eps=0.2))
    assert denied == (refused[clean >= 0] <= 0.2).mean()
    both = (clean == truth) & (norm > 0.2) & (refused > 0.2)
    assert value(found("system", results, "answered_rightly", eps=0.2)) == both.mean()


def test_more_is_found_in_a_larger_ball_and_outliers_stand_beside_the_unmoved(evaluation: Evaluation) -> None:
    results = evaluation.results
    for name, setting in (("wrong_answers", {}), ("outliers_answered", {"inputs": MADE}), ("outliers_answered", {})):
        shares = [value(found("system", results, name, eps=eps, **setting)) for eps in (0.0, 0.05, 0.2)]
        assert shares == sorted(shares), name
    assert {it.dataset for it in PROPERTIES["system"].metrics(results)} == {"data/test", "data/letters"}


def test_records_do_not_depend_on_the_batch_size(bundle: Bundle, evaluation: Evaluation) -> None:
    again = evaluated(bundle, bundle.classifier, norm="linf", eps=[0.05, 0.2], batch_size=7)
    for measurement, records in evaluation.results.records.items():
        other = again.results.records[measurement]
        assert np.allclose(other["norm"].to_numpy(), records["norm"].to_numpy(), atol=1e-6), measurement
        assert other["clean_prediction"].equals(records["clean_prediction"])


def test_what_is_no_bundle_is_skipped_with_the_reason(bundle: Bundle) -> None:
    card = evaluated(None, bundle.classifier).scorecard
    assert card.estimates == []
    assert [(it.property, "no bundle" in it.reason) for it in card.skipped] == [("system", True)]
    skipped = evaluated(bundle, bundle.classifier, norm="l0", eps=[2]).scorecard.skipped
    assert "not in l0" in skipped[0].reason


def test_bundles_with_other_rules_are_other_plans(bundle: Bundle, evaluation: Evaluation) -> None:
    rules = bundle.manifest.rules.model_copy(update={"min_confidence": 0.9})
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"rules": rules}))
    assert other.fingerprint != bundle.fingerprint == evaluation.results.context.bundle


def test_the_opening_of_the_report_says_how_often_it_answers_wrongly(evaluation: Evaluation) -> None:
    said = {it.subject: it for it in verdicts(evaluation.scorecard) if it.property == "system"}
    worst = said["The whole system under attack"]
    assert worst.level == "poor"
    assert "of what it answers is wrong" in worst.words


def test_a_detector_without_gradients_is_named_not_adaptive(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardy.deployment.attack.has_gradient", lambda *_: False)
    made = evaluated(bundle, bundle.classifier, norm="linf", eps=0.05)
    assert {it.setting["attack"] for it in made.scorecard.estimates if it.setting["eps"]} == {
        "of all rules but not adaptive to the detector"
    }
    assert "black box alone" in made.scorecard.warnings[-1]
