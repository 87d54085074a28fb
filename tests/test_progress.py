"""Progress where no bar can be drawn: plain lines on standard error, few of them."""

from __future__ import annotations

import pytest

from hardy import progress


def count_to_three(show: bool = True) -> None:
    with progress.progress_bars("counting", show) as draw:
        for number in range(3):
            draw(number + 1, 3, f"at [{number}]", "beans")


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, [0, 1, 2]), (60.0, [2])])
def test_without_a_terminal_there_is_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float, lines: list[int]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", seconds)
    count_to_three()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"counting beans {number + 1}/3 at [{number}]" for number in lines]


def test_nothing_is_drawn_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    count_to_three(show=False)
    assert capsys.readouterr() == ("", "")
