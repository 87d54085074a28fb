from __future__ import annotations

import pytest
from helpers.reports import estimate

from hardy.evaluation.compare import identity
from hardy.report.scale import references, scale


def test_a_scale_is_linear_far_from_perfection():
    drawn = scale(estimate("accuracy", 0.5, low=0.25, high=0.75, chance=0.1), {})
    assert drawn is not None
    assert (drawn.value, *(drawn.span or ()), drawn.chance) == pytest.approx((50, 25, 75, 10))
    assert drawn.reference is None
    assert drawn.ticks == ((0, "0 %"), (50, "50 %"), (100, "100 %"))


def test_close_to_perfection_it_shows_the_error_in_powers_of_ten():
    better, worse = (scale(estimate("accuracy", value, low=0.9, high=1.0), {}) for value in (0.999, 0.99))
    assert better is not None
    assert worse is not None
    assert (worse.value, better.value) == pytest.approx((50, 75))
    assert better.span == pytest.approx((25, 100))
    assert [text for _, text in better.ticks] == ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
    assert [place for place, _ in better.ticks] == pytest.approx([0, 25, 50, 75, 100])


def test_better_is_to_the_right_whatever_the_direction():
    drawn = scale(estimate("ece", 0.01, low=0.001, high=0.1, higher_is_better=False), {})
    assert drawn is not None
    assert (drawn.value, *(drawn.span or ())) == pytest.approx((50, 25, 75))
    assert [text for _, text in drawn.ticks] == ["100 %", "10 %", "1 %", "0.1 %", "0.01 %"]


def test_the_bounds_are_those_of_the_metric_and_without_them_there_is_no_scale():
    drawn = scale(estimate("points", 15.0, low=12.0, high=18.0, unit="number", bounds=(10.0, 20.0)), {})
    assert drawn is not None
    assert (drawn.value, *(drawn.span or ())) == pytest.approx((50, 20, 80))
    assert [text for _, text in drawn.ticks] == ["10", "15", "20"]
    assert scale(estimate("nll", 0.1, bounds=None), {}) is None


def test_what_lies_beyond_the_bounds_stays_on_the_scale():
    drawn = scale(estimate("accuracy", 0.995, low=0.98, high=1.004), {})
    assert drawn is not None
    assert drawn.span is not None
    assert drawn.span[1] == 100


def test_the_reference_is_marked_where_the_very_same_figure_is_known():
    figure = estimate("accuracy", 0.5)
    other = estimate("accuracy", 0.5, setting={"bins": 15})
    known = {identity(figure): 0.75}
    marked, unmarked = scale(figure, known), scale(other, known)
    assert marked is not None
    assert unmarked is not None
    assert (marked.reference, unmarked.reference) == (75, None)


def test_the_shipped_reference_has_the_main_figures():
    known = references()
    assert 0.99 < known[("accuracy", "accuracy", "mnist/test", "{}")] < 1
    assert {key[0] for key in known} >= {"accuracy", "calibration", "error_detection", "adversarial"}
