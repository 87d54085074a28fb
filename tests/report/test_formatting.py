from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hardy.evaluation.scorecard import Estimate
from hardy.report import formatting


def metric(name: str = "accuracy", value: float = 0.5, low: float = 0.4, high: float = 0.6, **setting) -> Estimate:
    return Estimate(
        property="adversarial",
        metric=name,
        title=name,
        unit="number",
        dataset="mnist/test",
        setting=setting,
        value=value,
        low=low,
        high=high,
        n=10_000,
        higher_is_better=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "said", "interval"),
    [
        ("accuracy", 0.99374, 0.9919, 0.9951, "99.37 %", "99.19 to 99.51 %"),
        ("robust_accuracy", 0.93, 0.9134, 0.9441, "93.0 %", "91.3 to 94.4 %"),
        ("max_calibration_error", 0.245, 0.11, 0.42, "24 %", "11 to 42 %"),
        ("risk_at_coverage", 0.0, 0.0, 0.00038, "0.000 %", "0.000 to 0.038 %"),
        ("accuracy", 1.0, 1.0, 1.0, "100.00 %", "100.00 to 100.00 %"),
        ("auroc", 0.97812, 0.9712, 0.9856, "0.978", "0.971 to 0.986"),
        ("nll", 0.02734, 0.0250, 0.0301, "0.0273", "0.0250 to 0.0301"),
        ("aurc", 0.000000321, 0.00000024, 0.00000041, "3.21e−07", "2.4e−07 to 4.1e−07"),
        ("seconds", 12345.6, 12000.0, 12700.0, "12,346", "12,000 to 12,700"),
        ("gain", -0.0001, -0.1, 0.1, "0.00", "−0.10 to 0.10"),
    ],
)
def test_as_many_digits_as_the_interval_supports(name, value, low, high, said, interval):
    figure = formatting.figure(metric(name, value, low, high))
    assert (figure.value, figure.interval) == (said, interval)


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


def test_names_come_from_the_field_or_from_the_code():
    assert formatting.figure(metric("ece")).name == "Expected calibration error"
    assert formatting.figure(metric("robust_accuracy")).name == "Robust accuracy"
    assert formatting.figure(metric("something_new")).name == "Something new"


def test_a_figure_outside_the_unit_interval_is_no_share():
    assert formatting.is_share(metric("accuracy"))
    assert not formatting.is_share(metric("accuracy", high=1.2))
    assert not formatting.is_share(metric("aurc"))


def test_nested_settings_become_dotted_names():
    recipe = {"name": "trades", "optimizer": {"name": "adamw", "rate": 0.003}, "augmentation": [], "extra": {}}
    assert formatting.flat(recipe) == [
        ("name", "trades"),
        ("optimizer.name", "adamw"),
        ("optimizer.rate", "0.003"),
        ("augmentation", "[]"),
        ("extra", "{}"),
    ]
