"""Certified accuracy on records made by hand, and of networks whose certificates are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cheap import tiny
from helpers.results import certain, found, results_of
from torch import Tensor, nn

import hardy
from hardy.certification import BOUNDED_SCORES, VERDICTS
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.charts import LineChart, Table
from hardy.evaluation.framework import Results
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.properties.certified.measure import measurements
from hardy.evaluation.properties.certified.metrics import certified_of
from hardy.evaluation.records import frame
from hardy.evaluation.scorecard import Scorecard

PROP = PROPERTIES["certified"]
EPS = 0.3


def results(reason: str = "") -> Results:
    """Six images, one of each verdict at linf 0.3, in the order of the verdicts."""
    labels = np.arange(6) % 3
    plain = results_of(certain(labels), labels)
    plain = replace(plain, context=replace(plain.context, norm="linf", eps=(EPS,)))
    ((certificates, attack),) = measurements(plain.context)
    nothing = np.full(6, np.nan)
    radii = {
        "intervals": np.array([-1, 0.3, 0.1, 0.0, 0.0, 0.0]),
        "crown": np.array([-1, 0.3, 0.3, 0.1, 0.0, 0.0]),
        "branching": np.array([-1, 0.3, 0.3, 0.3, 0.1, 0.1]),
    }
    columns = {name: nothing if reason else it for name, it in radii.items()} | {"reason": np.full(6, reason)}
    # In another order, as records are joined by index.
    order = np.array([5, 3, 1, 0, 2, 4])
    norms = np.array([0.0, np.inf, 0.4, 0.31, 0.2, 0.5])
    more = {
        certificates: frame(np.arange(6), labels, columns),
        attack: frame(order, labels[order], {"norm": norms[order]}),
    }
    return replace(plain, records={**plain.records, **more})


def share(metric: str, **setting: object) -> float:
    return found("certified", results(), metric, **setting).compute(np.ones(6))  # type: ignore[arg-type]


def test_each_image_has_one_verdict() -> None:
    (each,) = certified_of(results())
    for eps in each.eps:
        assert np.sum([*each.verdicts(eps).values()], axis=0).tolist() == [1] * 6
    for number, verdict in enumerate(VERDICTS):
        assert np.flatnonzero(each.verdicts(EPS)[verdict]).tolist() == [number]
        assert share("certificate_verdict", verdict=verdict, eps=EPS) == pytest.approx(1 / 6)


def test_certified_accuracy_falls_with_the_radius() -> None:
    assert share("certified_accuracy", eps=EPS) == 0.5
    assert found("certified", results(), "certified_accuracy", eps=EPS).headline
    (each,) = certified_of(results())
    shares = [each.certified(eps).mean() for eps in each.eps]
    assert shares == sorted(shares, reverse=True)


def test_the_picture_has_the_attack_above_the_certificate() -> None:
    curve, table = PROP.draw(results())
    assert isinstance(curve, LineChart)
    attack, certified, intervals = curve.series
    assert (attack.y >= certified.y).all()
    assert (certified.y >= intervals.y).all()
    assert isinstance(table, Table)
    assert {sum(int(it) for it in row[1:]) for row in table.rows} == {6}


def test_without_bounds_there_are_no_figures_but_the_reason() -> None:
    unbounded = results("no bound is known of 'sin'")
    assert PROP.metrics(unbounded) == []
    assert PROP.draw(unbounded) == []
    assert [skip.reason for skip in PROP.skipped(unbounded)] == ["no certificate: no bound is known of 'sin'"]
    assert PROP.skipped(results()) == []


def test_a_certificate_that_an_attack_contradicts_is_warned_of() -> None:
    assert PROP.warnings(results()) == []
    plain = results()
    ((_, attack),) = measurements(plain.context)
    broken = plain.records[attack].with_columns(norm=0.05)
    (warning,) = PROP.warnings(replace(plain, records={**plain.records, attack: broken}))
    assert warning.startswith("5 images are certified in linf and broken")


def test_norms_without_bounds_are_left_out_with_a_reason() -> None:
    context = replace(results().context, norm="l0", eps=(5.0,))
    planned = PROP.plan(context)
    assert not planned.measurements
    assert "no bound is known in l0" in planned.skipped[0].reason
    left_out = PROP.plan(replace(context, norm="", eps=(), budget=replace(BUDGETS["quick"], certified=0)))
    assert "leaves certificates out" in left_out.skipped[0].reason


class Sine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(36, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.sin(images.flatten(1)))


def bars() -> tuple[Tensor, Tensor]:
    labels = torch.arange(40) % 2
    images = torch.full((40, 1, 6, 6), 0.5)
    images[labels == 0, :, :3] += 0.1 + 0.3 * torch.rand(20, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    images[labels == 1, :, 3:] += 0.1 + 0.3 * torch.rand(20, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    return images, labels


def halves() -> nn.Module:
    """Two classes, the lead of one half's sum over the other's; on bars large, on what is outside small."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    half = torch.cat([torch.ones(18), -torch.ones(18)])
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([half, -half]))  # type: ignore[union-attr]
        model[1].bias.zero_()  # type: ignore[union-attr]
    return model


def test_a_linear_network_is_certified_exactly_where_it_is_not_attacked() -> None:
    """Its margin is the difference of the halves' sums, 18 pixels each: it holds while eps is below half a bar."""
    model = halves()
    images, labels = bars()
    height = (images.flatten(1).amax(1) - 0.5).numpy()
    card = hardy.evaluate(
        model, (images, labels), properties=["certified"], budget="quick", norm="linf", eps=0.1, progress=False
    )
    estimate = card.find("certified", "certified_accuracy", eps=0.1)
    assert estimate.value == pytest.approx((height / 2 > 0.1).mean(), abs=0.03)
    verdicts = [card.find("certified", "certificate_verdict", verdict=it, eps=0.1).value for it in VERDICTS]
    assert sum(verdicts) == pytest.approx(1.0)


def test_a_network_without_bounds_is_skipped() -> None:
    card = hardy.evaluate(
        Sine(), bars(), properties=["certified"], budget=tiny("quick"), norm="linf", eps=0.1, progress=False
    )
    assert "no bound is known of 'sin'" in " ".join(skip.reason for skip in card.skipped)
    assert card.estimates == []


def stripes(count: int = 30) -> Tensor:
    """What is neither bar: both halves alike, so that no class gets much."""
    return 0.5 + 0.1 * torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def guaranteed_card(model: nn.Module, eps: float) -> Scorecard:
    return hardy.evaluate(
        model, bars(), ood={"stripes": stripes()}, properties=["certified"], norm="linf", eps=eps,
        budget=replace(tiny("quick"), perturbed=20), progress=False,
    )  # fmt: skip


def test_what_is_guaranteed_lies_below_what_an_attack_leaves() -> None:
    """Of a linear network nothing lies between: the attack of the confidence is exact, and so is the bound."""
    card = guaranteed_card(halves(), eps=0.08)
    for score in BOUNDED_SCORES:
        plain = card.find("certified", "auroc", score=score)
        attacked = card.find("certified", "auroc", score=score, eps=0.08)
        guaranteed = card.find("certified", "guaranteed_auroc", score=score, eps=0.08)
        assert 0.5 < guaranteed.value <= attacked.value + 0.03 < plain.value
        # The energy's two exponentials are bounded one by one.
        assert guaranteed.value == pytest.approx(attacked.value, abs=0.2 if score == "energy" else 0.05)
    assert not [it for it in card.warnings if "fell below" in it]


def test_at_a_tiny_radius_the_guarantee_is_the_plain_figure() -> None:
    card = guaranteed_card(halves(), eps=1e-7)
    for score in BOUNDED_SCORES:
        guaranteed = card.find("certified", "guaranteed_auroc", score=score)
        assert guaranteed.value == pytest.approx(card.find("certified", "auroc", score=score).value, abs=0.02)


def test_at_a_large_radius_nothing_is_guaranteed() -> None:
    assert guaranteed_card(halves(), eps=0.4).find("certified", "guaranteed_auroc", score="max_softmax").value < 0.1


def test_without_bounds_no_detection_is_guaranteed() -> None:
    assert not guaranteed_card(Sine(), eps=0.1).estimates
