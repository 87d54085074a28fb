from __future__ import annotations

import re

import pytest
from helpers.reports import NASTY, Page, estimate, scorecard
from markdown_it import MarkdownIt

from hardy.evaluation.compare import Comparison, Difference, identity
from hardy.evaluation.scorecard import Estimate
from hardy.report import comparison_markdown, comparison_rows, write_comparison_html

ACCURACY = estimate("accuracy")
ECE = estimate("ece", 0.02).model_copy(update={"higher_is_better": False})
COVERAGE = estimate("coverage", 0.02).model_copy(update={"higher_is_better": None})
ROBUST = estimate("robust_accuracy", 0.9, prop="adversarial", setting={"attack": "pgd", "eps": 0.3})
OTHER_RADIUS = estimate("robust_accuracy", 0.8, prop="adversarial", setting={"attack": "pgd", "eps": 0.2})


def two(metrics: list[Estimate], others: list[Estimate], differences: list[Difference]):
    cards = (scorecard(estimates=metrics), scorecard(estimates=others, warnings=[]))
    return Comparison(("runs/a", "runs/b"), cards, tuple(differences))


def difference(of: Estimate, low: float, high: float, *, paired: bool = True) -> Difference:
    return Difference(identity(of), 1, (low + high) / 2, low, high, paired, 0.001, found=low > 0 or high < 0)


@pytest.mark.parametrize(
    ("of", "low", "high", "verdict"),
    [
        (ACCURACY, 0.01, 0.03, "better"),
        (ACCURACY, -0.03, -0.01, "worse"),
        (ACCURACY, -0.01, 0.03, ""),
        (ACCURACY, 0.0, 0.03, ""),
        (ECE, 0.01, 0.03, "worse"),
        (ECE, -0.03, -0.01, "better"),
        (COVERAGE, 0.01, 0.03, "differs"),
        (COVERAGE, -0.03, 0.01, ""),
    ],
)
def test_what_counts_as_found_is_marked_in_the_direction_of_the_figure(of, low, high, verdict):
    (row,) = comparison_rows(two([of], [of], [difference(of, low, high)]))
    assert row.entries[0] is not None
    assert row.entries[0].difference == ""
    assert row.entries[1] is not None
    assert row.entries[1].verdict == verdict


def test_an_interval_without_zero_alone_is_not_marked_nor_is_a_figure_without_one():
    alone = difference(ACCURACY, 0.01, 0.03)._replace(found=False)
    (row,) = comparison_rows(two([ACCURACY], [ACCURACY], [alone]))
    none = Difference(identity(ACCURACY), 1, 0.02, None, None, True)
    (without,) = comparison_rows(two([ACCURACY], [ACCURACY], [none]))
    assert row.entries[1] is not None
    assert without.entries[1] is not None
    assert (row.entries[1].verdict, without.entries[1].verdict) == ("", "")
    assert (without.entries[1].difference, without.entries[1].difference_interval) == ("+2.00 points", "no interval")
    assert without.entries[1].forest is None
    assert "Benjamini and Hochberg" in comparison_markdown(two([ACCURACY], [ACCURACY], [none]))


def test_a_difference_of_shares_is_in_points_and_has_its_sign():
    (row,) = comparison_rows(two([ACCURACY], [ACCURACY], [difference(ACCURACY, -0.004, 0.012)]))
    assert row.entries[1] is not None
    assert row.entries[1].difference == "+0.4 points"
    assert row.entries[1].difference_interval == "−0.4 to +1.2"


def test_figures_of_one_name_and_another_setting_are_other_figures():
    compared = two([ROBUST, OTHER_RADIUS], [ROBUST], [])
    assert [row.entries[1] is None for row in comparison_rows(compared)] == [False, True]


def test_a_figure_of_a_later_run_alone_has_a_row_after_the_others():
    compared = two([ACCURACY], [ROBUST, ACCURACY], [])
    assert [row.figure.name for row in comparison_rows(compared)] == ["Accuracy", "Robust accuracy"]
    assert comparison_rows(compared)[1].entries[0] is None


def test_the_order_of_a_setting_does_not_matter():
    turned = ROBUST.model_copy(update={"setting": dict(reversed(ROBUST.setting.items()))})
    assert identity(turned) == identity(ROBUST)


def test_markdown_has_a_row_a_figure_and_a_column_a_run():
    compared = two(
        [ACCURACY, ROBUST],
        [ACCURACY],
        [difference(ACCURACY, 0.004, 0.012, paired=False)],
    )
    html = MarkdownIt("commonmark").enable("table").render(comparison_markdown(compared))
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["What differs", "Other figures"]
    assert re.findall(r"<th[^>]*>(.*?)</th>", html) == [
        "Property",
        "Figure",
        "Setting",
        "Measured on",
        "runs/a",
        "runs/b",
    ]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells[4:6] == ["98.0 % (96.9 to 98.9 %)", "98.0 %; +0.80 points (+0.40 to +1.20)† ▲ better"]
    assert cells[10:] == ["90.0 % (88.9 to 90.9 %)", "–"]


def test_the_page_is_well_formed_and_says_the_same(tmp_path):
    compared = two([ACCURACY, ROBUST], [ACCURACY], [difference(ACCURACY, 0.004, 0.012, paired=False)])
    write_comparison_html(tmp_path / "comparison.html", compared)
    page = Page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    for said in ("2 runs side by side", "+0.80 points ▲ better", "+0.40 to +1.20 †", "not measured", "9fceb02+"):
        assert said in page.words, said
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    labels = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labels) <= {attributes["id"] for _, attributes in page.elements if "id" in attributes}


def test_names_from_outside_are_inert(tmp_path):
    compared = Comparison((NASTY, NASTY), (scorecard(), scorecard()), ())
    write_comparison_html(tmp_path / "comparison.html", compared)
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert text.count("<script") == len(Page(text).all("script")) == 1
    assert "<script" not in MarkdownIt("commonmark").enable("table").render(comparison_markdown(compared))


MAIN = ACCURACY.model_copy(update={"headline": True, "question": "Clean images"})


def test_what_differs_comes_first_in_words():
    worse = difference(MAIN, -0.02, -0.01)
    said = comparison_markdown(two([MAIN, ECE], [MAIN, ECE], [worse, difference(ECE, -0.02, -0.01)]))
    assert said.startswith("## What differs\n\n- runs/b is worse by 1.5 points: Accuracy, from 98.0 % to 98.0 %")
    assert "- Of the 1 other figures of runs/b: 1 better, 0 worse\n" in said
    assert said.index("## Main figures") < said.index("| Clean images |") < said.index("## Other figures")


def test_where_nothing_differs_that_is_said():
    assert comparison_markdown(two([MAIN, ECE], [MAIN, ECE], [difference(MAIN, -0.01, 0.01)])).startswith(
        "## What differs\n\n"
        "- runs/b differs from runs/a in no main figure by more than chance\n"
        "- Of the 0 other figures of runs/b: 0 better, 0 worse\n\n"
        "## Main figures\n\n| Property |"
    )


def test_properties_stand_in_the_order_of_the_scorecard():
    compared = two([ROBUST, ACCURACY], [ROBUST, ACCURACY], [])
    assert [row.figure.property for row in comparison_rows(compared)] == ["Accuracy", "Adversarial"]


@pytest.mark.parametrize(
    ("of", "low", "high", "side"),
    [(MAIN, 0.01, 0.03, 1), (MAIN, -0.03, -0.01, -1), (ECE, 0.01, 0.03, -1), (ECE, -0.03, -0.01, 1)],
)
def test_better_is_to_the_right_of_the_forest(of, low, high, side):
    (row,) = comparison_rows(two([of], [of], [difference(of, low, high)]))
    assert row.entries[1] is not None
    assert row.entries[1].forest is not None
    value, left, right = row.entries[1].forest
    assert 0 <= left < value < right <= 100
    assert (value - 50) * side > 0


def test_a_forest_keeps_its_order_from_a_tenth_of_a_point_to_a_hundred():
    places = [
        comparison_rows(two([MAIN], [MAIN], [difference(MAIN, share, share)]))[0].entries[1].forest[0]  # type: ignore[union-attr, index]
        for share in (-1.0, -0.1, -0.001, 0.0, 0.001, 0.1, 1.0)
    ]
    assert places == sorted(set(places))
    assert (places[0], places[3], places[-1]) == (0, 50, 100)
    assert places[4] - places[3] > 2


def test_the_page_opens_with_what_differs_and_folds_the_rest(tmp_path):
    compared = two([MAIN, ECE, ROBUST], [MAIN, ECE, ROBUST], [difference(MAIN, -0.02, -0.01)])
    write_comparison_html(tmp_path / "comparison.html", compared)
    text = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.words.index("runs/b is worse by 1.5 points") < page.words.index("Every figure Differences are")
    assert len(page.all("details")) == 3  # the contents and two properties
    assert not any("open" in part for part in page.all("details"))
    assert text.count('class="dot worse"') == 1
