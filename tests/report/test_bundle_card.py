from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from helpers.reports import NASTY
from markdown_it import MarkdownIt

from hardy.deployment.abstention import RULES
from hardy.report.bundle_card import bundle_card


def manifest(text: str) -> Any:
    refusals = dict.fromkeys(RULES, 0.0125) | {"all": 0.01}
    return SimpleNamespace(
        name=text,
        hardy=text,
        model=SimpleNamespace(name=text),
        classes=(text, "other"),
        input=(1, 28, 28),
        preprocessing=SimpleNamespace(form="mnist"),
        mean_refusal=lambda: 0.5,
        worst=lambda: SimpleNamespace(kind=text, rate=0.4),
        calibrator=text,
        detector=text,
        prediction_sets=text,
        alpha=0.05,
        rules=SimpleNamespace(
            max_ood_score=1.5,
            min_confidence=0.5,
            validation_refusal=refusals,
            fitted_on=text,
            target_refusal=0.02,
        ),
        refusal_estimates=[SimpleNamespace(kind=text, rate=0.9, low=0.8, high=0.95, n=1234, role="held out")],
        fitted_on={text: text},
    )


def rendered(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(bundle_card(cast(Any, manifest(text))))


def test_the_card_of_a_bundle_says_when_it_abstains_and_what_it_refuses():
    html = rendered("blank pages")
    assert html.count("<table>") == 2
    assert html.count("<td") == 4 * len(RULES) + 5
    for said in (
        "above 1.5",
        "below 0.5000",
        "1.25%",
        "refuse 1.00% of blank pages; the target was 2.00%",
        "80.0% to 95.0%",
    ):
        assert said in html, said


def test_the_card_of_a_bundle_is_inert():
    html = rendered(f"{NASTY}\n# other | cell")
    assert "<script" not in html
    assert html.count("<h1>") == 1
    assert html.count("<td") == 4 * len(RULES) + 5
