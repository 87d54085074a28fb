from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import NASTY, PGD, Page, estimate, scorecard
from markdown_it import MarkdownIt
from rich.console import Console

from hardy.evaluation.charts import Gallery, Histogram, LineChart, Matrix, Picture, Series, Table
from hardy.evaluation.scorecard import Environment, Scorecard, Skip, Subject
from hardy.report import Section, print_scorecard, write_model_card, write_report


def every_chart(text: str = "words") -> list:
    unit = np.linspace(0.1, 0.9, 5)
    picture = Picture(np.eye(4), text)
    mistake = Picture(np.eye(4), "other taken for words", classes=("other", text))
    change = Picture(np.eye(4) * -0.3, text, signed=True)
    return [
        LineChart(text, text, text, text, (Series(text, unit, unit), Series(f"{text} too", unit, unit, style="bars"))),
        Histogram(text, text, text, np.linspace(0, 1, 3), {text: np.array([0.5, 0.5]), "other": np.array([0.1, 0.9])}),
        Matrix(text, text, text, text, (text, "other"), np.array([[9, 1], [2, 8]])),
        Gallery(text, text, (text, "change"), ((picture, change), (picture, change))),
        Gallery(text, text, (), ((mistake, mistake, mistake), (mistake,))),
        Gallery(text, text, ("severity 1", "severity 2"), ((Picture(np.eye(4), "fog"), Picture(np.eye(4), "fog *")),)),
        Table(text, text, ("digit", "share"), (("0", "99.1 %"), (text, "98 %"))),
        Table(text, text, ("digit", "share")),
    ]


def sections(text: str = "words") -> list[Section]:
    return [
        Section("accuracy", "Accuracy", text, every_chart(text)),
        Section("adversarial", "Adversarial robustness", text, every_chart(text)),
    ]


def card_with_examples() -> Scorecard:
    """Figures that lead to the pictures of every_chart."""
    fog = estimate("accuracy", prop="adversarial", setting={"corruption": "fog"}, headline=False)
    return scorecard(estimates=[*scorecard().estimates, estimate("class_accuracy", setting={"class": "other"}), fog])


def written(tmp_path: Path, card: Scorecard, parts: list[Section]) -> str:
    path = tmp_path / "report.html"
    write_report(path, card, parts)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    return written(tmp_path_factory.mktemp("report"), card_with_examples(), sections())


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_the_page_loads_nothing(page, text):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "form", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:image/png;base64,"))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "//" not in re.sub(r"base64,[^\"]*", "", text)


def inline_script(text: str) -> str:
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    return script


def test_the_one_script_is_inside_and_no_other_may_run(page, text):
    assert page.all("script") == [{}]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digest = base64.b64encode(hashlib.sha256(inline_script(text).encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"eval|Function\(|innerHTML|insertAdjacent|document\.write|fetch|XMLHttp", inline_script(text))


def test_what_the_script_needs_is_there_and_hidden_without_it(page, text):
    filters = [attributes for _, attributes in page.elements if "data-filters" in attributes]
    assert len(filters) == 1
    assert "hidden" in filters[0]
    assert filters[0]["data-filters"] in {table.get("id") for table in page.all("table")}
    sortable = [table for table in page.all("table") if "sortable" in (table.get("class") or "").split()]
    assert len(sortable) == 8
    assert {header["data-sort"] for header in page.all("th") if "data-sort" in header} == {"text", "number"}
    values = [float(cell["data-value"] or "") for cell in page.all("td") if "data-value" in cell]
    assert 0.98 in values
    assert 1000 in values


def test_a_figure_leads_to_its_examples(page):
    links = {(link["href"], link["data-find"]) for link in page.all("a") if "data-find" in link}
    mistakes = {part["data-tag"] for part in page.all("li") if "data-tag" in part}
    assert "other → words" in mistakes
    assert ("#chart-0-4", "other → ") in links
    assert ("#chart-0-4", "words → other") in links
    assert ("#chart-1-3", "") in links
    assert ("#chart-1-5", "fog") in links


def test_a_corruption_has_one_row_named_once(page):
    sheets = [part for part in page.all("ol") if "sheet" in (part["class"] or "").split()]
    assert len(sheets) == 4
    assert page.words.count("severity 1 severity 2 fog ") == 2


def test_the_confusion_matrix_is_a_table_with_its_counts(page):
    cells = [cell for cell in page.all("td") if (cell.get("class") or "").split()[:1] in (["right"], ["wrong"])]
    assert len(cells) == 8
    assert "words taken for other: 1 of 10" in {cell["data-tip"] for cell in cells}
    # The largest share off the diagonal is shaded the most.
    wrong = {cell["data-tip"]: cell["style"] for cell in cells if (cell["class"] or "").startswith("wrong")}
    assert wrong["other taken for words: 2 of 10"] == "--strength: 85%"
    assert wrong["words taken for other: 1 of 10"] == "--strength: 48%"


def test_the_page_can_be_read_without_seeing_it(page):
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header.get("scope") in ("row", "col", "colgroup") for header in page.all("th"))
    drawings = [attributes for tag, attributes in page.elements if attributes.get("role") == "img"]
    assert len(drawings) == 4
    assert all(drawing["aria-label"] for drawing in drawings)
    # What scrolls can be reached and scrolled from the keyboard.
    assert all(part.get("tabindex") == "0" for part in page.all("div") if "scroll" in (part.get("class") or "").split())


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [(link["href"] or "").removeprefix("#") for link in page.all("a")]
    labels = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert targets
    assert {*targets, *labels} <= set(ids)


def test_light_dark_phone_and_paper(text):
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media (max-width:" in text
    assert "@media print" in text
    assert "width=device-width" in text
    used = set(re.findall(r"var\((--[a-z0-9-]+)", text))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", text))


def test_what_was_measured_and_how_to_do_it_again(page):
    for said in (
        "compact, 839,402 parameters, 10 classes",
        "quick budget, at most 500 examples per measurement, seed 7, on cpu",
        "98.0 %",
        "96.9 to 98.9 %",
        "↑ higher is better",
        "PGD, ℓ∞, ε = 0.3",
        "1 warning to read first",
        "One part was not measured, one because of the budget",
        "✓ good Clean images: right 98.0 %",
        "The gradients may be masked.",
        "Certified robustness",
        "needs the full budget",
        "hardy evaluate runs/trades",
        "9fceb02 with uncommitted changes",
        "3f" * 32,
        "ab" * 32,
        "2.13.0",
        "attack.eps",
        "14 figures",
        "attack=pgd, norm=linf, eps=0.3",
    ):
        assert said in page.words, said


def test_a_long_table_of_figures_is_folded_and_a_short_one_is_not(page):
    assert "All 12 figures of Accuracy" in page.words
    assert "figures of Adversarial" not in page.words


def test_the_same_input_gives_the_same_bytes(text, tmp_path):
    assert written(tmp_path, card_with_examples(), sections()) == text


def test_nothing_to_warn_of_and_nothing_to_show(tmp_path):
    card = scorecard(estimates=[], warnings=[], skipped=[], limit=None)
    page = Page(written(tmp_path, card, []))
    assert "warning" not in page.words
    assert "Not measured" not in page.words
    assert "In short" not in page.words
    assert "Main figures" not in page.words


@pytest.mark.parametrize(("number", "folded"), [(4, 0), (5, 2)])
def test_many_warnings_are_folded_after_the_first_and_none_is_lost(tmp_path, number, folded):
    warnings = [f"warning {letter}" for letter in "abcde"[:number]]
    page = Page(written(tmp_path, scorecard(warnings=warnings), []))
    assert f"{number} warnings to read first" in page.words
    assert all(page.words.count(warning) == 1 for warning in warnings)
    assert (f"{folded} more" in page.words) == bool(folded)


def test_text_from_outside_is_inert(tmp_path):
    subject = Subject(
        name=NASTY, architecture=NASTY, parameters=1, classes=2, weights_sha256=NASTY, training={NASTY: NASTY}
    )
    environment = Environment(
        command=NASTY,
        hardy=NASTY,
        git_commit=NASTY,
        git_dirty=False,
        device=NASTY,
        packages={NASTY: NASTY},
        data={NASTY: NASTY},
    )
    card = scorecard(
        subject=subject,
        environment=environment,
        estimates=[estimate(NASTY, headline=True, setting={NASTY: NASTY})],
        warnings=[NASTY],
        skipped=[Skip(property=NASTY, reason=NASTY)],
    )
    text = written(tmp_path, card, sections(NASTY))
    page = Page(text)
    assert text.count("<script") == len(page.all("script")) == 1
    assert "alert" not in inline_script(text)
    assert NASTY in page.words
    assert all("alert" not in name for _, attributes in page.elements for name in attributes)


def card_text(tmp_path: Path, card: Scorecard) -> str:
    write_model_card(tmp_path / "README.md", card)
    return (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (["no data"], "One part was not measured"),
        (["the quick budget", "no data"], "Two parts were not measured, one because of the budget"),
        (["the budget"] * 13, "13 parts were not measured, 13 because of the budget"),
    ],
)
def test_what_was_not_measured_in_one_line(tmp_path, reasons, said):
    skipped = [Skip(property="accuracy", reason=reason) for reason in reasons]
    card = scorecard(skipped=skipped)
    assert f"{said}.\n" in card_text(tmp_path, card)
    assert f"{said} " in Page(written(tmp_path, card, [])).words


def test_the_model_card_says_what_it_is_how_trained_how_good_and_its_limits(tmp_path):
    text = card_text(tmp_path, scorecard())
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert text.startswith("# compact\n")
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "How it was trained",
        "How it does",
        "Limits",
        "Not measured",
        "How to reproduce it",
    ]
    for said in (
        "<td>attack.eps</td>\n<td>0.3</td>",
        "<li>✓ good: Clean images: right 98.0 % (mnist/test)</li>",
        "<li>✓ good: Under attack: right 90.0 % (PGD, ℓ∞, ε = 0.3 · mnist/test)</li>",
        ">98.0 %</td>",
        ">96.9 to 98.9 %</td>",
        "<td>PGD, ℓ∞, ε = 0.3</td>",
        "<li>The gradients may be masked.</li>",
        "<li>Certified robustness: needs the full budget</li>",
        "<pre><code>hardy evaluate runs/trades\n</code></pre>",
        "<td>9fceb02 with uncommitted changes</td>",
    ):
        assert said in html, said
    assert html.count("<table>") == 3


def test_a_model_card_of_a_foreign_classifier_without_warnings(tmp_path):
    subject = scorecard().subject.model_copy(update={"training": None})
    environment = scorecard().environment.model_copy(update={"git_commit": None, "git_dirty": None})
    text = card_text(
        tmp_path, scorecard(subject=subject, environment=environment, estimates=[], warnings=[], skipped=[])
    )
    assert "Not trained by hardy" in text
    assert "No headline figure was measured." in text
    assert "no warnings" in text
    assert "not from a git checkout" in text
    assert "## Not measured" not in text


def test_a_model_card_is_inert(tmp_path):
    subject = scorecard().subject.model_copy(update={"name": f"{NASTY}\n# other"})
    environment = scorecard().environment.model_copy(update={"command": f"```\n{NASTY}\n# heading"})
    text = card_text(tmp_path, scorecard(subject=subject, environment=environment, warnings=[NASTY]))
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script" not in html
    assert html.count("<h1>") == 1


def test_the_terminal_shows_the_headline_and_counts(tmp_path):
    output = io.StringIO()
    subject = scorecard().subject.model_copy(update={"name": "[red]not markup[/red]"})
    print_scorecard(card_with_examples().model_copy(update={"subject": subject}), Console(file=output, width=100))
    said = output.getvalue()
    assert "[red]not markup[/red]" in said
    assert re.search(r"Accuracy +98\.0 % ↑ +96\.9 to 98\.9 % +1,000", said)
    assert "Adversarial, PGD, ℓ∞, ε = 0.3, mnist/test" in said
    assert "accuracy on one class" not in said.lower()
    assert re.search(r"✓ good +Clean images: right 98\.0 %", said)
    assert "14 figures, 1 warning, 1 skipped" in said


def test_what_makes_a_figure_suspect_stands_beside_it_everywhere(tmp_path: Path) -> None:
    reason = "gradients seem to be masked: the gradient is zero"
    suspect = estimate("robust_accuracy", 0.95, prop="adversarial", headline=True, setting=PGD, warnings=(reason,))
    card = scorecard(estimates=[estimate("accuracy", headline=True), suspect])
    page = Page(written(tmp_path, card, sections()))
    assert page.words.count("⚠ suspect") >= 2
    assert f"⚠ suspect: {reason}" in page.words
    assert {"class": "suspect", "title": reason} in page.all("span")
    write_model_card(tmp_path / "README.md", card)
    assert " ⚠ | " in (tmp_path / "README.md").read_text(encoding="utf-8")
    output = io.StringIO()
    print_scorecard(card, Console(file=output, width=100))
    shown = output.getvalue()
    assert "⚠ 9" in shown
    assert "that is suspect" in shown
    assert " ".join(reason.split()[:4]) in shown
    assert json.loads(card.to_json())["estimates"][1]["warnings"] == [reason]
    assert json.loads(card.to_frame()["warnings"][1]) == [reason]
    assert (shown.count("⚠"), repr(suspect).count("suspect")) == (2, 1)
