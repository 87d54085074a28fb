from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hardy.report.markdown import bullets, inline, table

PARSER = MarkdownIt("commonmark").enable("table")
TEXTS = st.text(st.sampled_from("ab1 _*`~|<>&;#[]()!\\-+=.)é") | st.characters(min_codepoint=33, max_codepoint=126))


def shown(text: str, kind: str) -> list[str]:
    """What a reader sees of each inline part inside ``kind``, as an independent parser has it."""
    tokens = PARSER.parse(text)
    found = []
    for before, token in pairwise(tokens):
        if token.type == "inline" and before.type == kind:
            assert all(child.type in ("text", "text_special") for child in token.children or [])
            found.append("".join(child.content for child in token.children or []))
    return found


@given(TEXTS)
def test_a_cell_shows_its_text(text):
    assert shown(table(("a", "b"), [(text, "x")]), "td_open") == [" ".join(text.split()), "x"]


@given(TEXTS.filter(str.strip))
def test_an_item_shows_its_text(text):
    assert shown(bullets([text, "x"]), "paragraph_open") == [" ".join(text.split()), "x"]


@pytest.mark.parametrize("text", ["robust_accuracy", "99.37 %", "+0.40 points", "ε = 0.3", "fashion_mnist/test"])
def test_plain_words_stay_as_they_are(text):
    assert inline(text) == text


def test_html_is_inert():
    assert "<script" not in PARSER.render(inline("<script>alert(1)</script> &lt;b&gt;"))


def test_a_table_has_as_many_cells_in_each_row_and_numbers_to_the_right():
    lines = table(("a|b", "c"), [("1\n2", "3"), ("|", "")], numeric=[1]).splitlines()
    assert lines[1] == "| --- | ---: |"
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]
