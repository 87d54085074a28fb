from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hardy.evaluation.scorecard import Estimate
from hardy.report import formatting


def metric(unit: Literal["share", "number"], value: float, low: float, high: float, **more) -> Estimate:
    return Estimate(
        property="adversarial",
        metric="metric",
        title="area under the curve",
        unit=unit,
        dataset="mnist/test",
        value=value,
        low=low,
        high=high,
        n=10_000,
        higher_is_better=True,
        **more,
    )


@pytest.mark.parametrize(
    ("unit", "value", "low", "high", "said", "interval"),
    [
        ("share", 0.99374, 0.9919, 0.9951, "99.37 %", "99.19 to 99.51 %"),
        ("share", 0.93, 0.9134, 0.9441, "93.0 %", "91.3 to 94.4 %"),
        ("share", 0.245, 0.11, 0.42, "24 %", "11 to 42 %"),
        ("share", 0.0, 0.0, 0.00038, "0.000 %", "0.000 to 0.038 %"),
        ("share", 1.0, 1.0, 1.0, "100.00 %", "100.00 to 100.00 %"),
        ("number", 0.97812, 0.9712, 0.9856, "0.978", "0.971 to 0.986"),
        ("number", 0.02734, 0.0250, 0.0301, "0.0273", "0.0250 to 0.0301"),
        ("number", 0.000000321, 0.00000024, 0.00000041, "3.21e−07", "2.4e−07 to 4.1e−07"),
        ("number", 12345.6, 12000.0, 12700.0, "12,346", "12,000 to 12,700"),
        ("number", -0.0001, -0.1, 0.1, "0.00", "−0.10 to 0.10"),
    ],
)
def test_as_many_digits_as_the_interval_supports(unit, value, low, high, said, interval):
    figure = formatting.figure(metric(unit, value, low, high))
    assert (figure.value, figure.interval) == (said, interval)


def test_a_figure_without_an_interval_says_so_and_shows_what_chance_makes():
    figure = metric("share", 0.0158, 0, 0).model_copy(update={"low": None, "high": None, "no_interval": "biased"})
    assert formatting.figure(figure)[5:8] == ("1.58 %", "none", "biased")
    beside = formatting.figure(figure.model_copy(update={"chance_band": (0.0087, 0.0217)}))
    assert (beside.value, beside.interval) == ("1.6 %", "by chance 0.9 to 2.2 %")


@given(st.floats(0, 1), st.floats(1e-4, 0.5))
def test_rounding_moves_a_figure_by_at_most_a_twentieth_of_its_interval(low, width):
    width = min(width, 1 - low)
    assume(width >= 1e-4)
    value = low + width / 3
    said, *_ = formatting.numbers(value, low, low + width, share=False)
    assert abs(float(said) - value) <= 0.05 * width * 1.01


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, ""),
        ({"eps": 0.3, "norm": "linf", "attack": "pgd"}, "PGD, ℓ∞, ε = 0.3"),
        ({"eps": 8 / 255, "norm": "linf", "attack": "pgd"}, "PGD, ℓ∞, ε = 8/255"),
        ({"attack": "apgd-ce", "norm": "l2", "eps": 1.5}, "APGD-CE, ℓ2, ε = 1.5"),
        ({"attack": "salt_and_pepper"}, "salt and pepper"),
        ({"score": "max_softmax", "coverage": 0.95}, "max softmax, coverage 0.95"),
        ({"class": "7", "bins": 15}, "class 7, 15 bins"),
        ({"class": 7}, "class 7"),
        ({"calibrated": True}, "calibrated"),
        ({"calibrated": False}, "not calibrated"),
    ],
)
def test_settings_in_words(setting, said):
    assert formatting.setting_words(setting) == said


def test_a_figure_is_called_by_its_title_and_asked_for_by_its_question():
    without = formatting.figure(metric("share", 0.5, 0.4, 0.6))
    assert (without.name, without.question) == ("Area under the curve", "Area under the curve")
    asked = formatting.figure(metric("share", 0.5, 0.4, 0.6, question="Spots its own mistakes"))
    assert (asked.name, asked.question) == ("Area under the curve", "Spots its own mistakes")


def test_the_unit_alone_decides_on_percent():
    assert formatting.figure(metric("share", 0.5, 0.4, 0.6)).value == "50 %"
    assert formatting.figure(metric("number", 0.5, 0.4, 0.6)).value == "0.50"
    assert formatting.percent(metric("number", 0.5, 0.4, 0.6)) == "50 %"


def test_nested_settings_become_dotted_names():
    recipe = {"name": "trades", "optimizer": {"name": "adamw", "rate": 0.003}, "augmentation": [], "extra": {}}
    assert formatting.flat(recipe) == [
        ("name", "trades"),
        ("optimizer.name", "adamw"),
        ("optimizer.rate", "0.003"),
        ("augmentation", "[]"),
        ("extra", "{}"),
    ]
