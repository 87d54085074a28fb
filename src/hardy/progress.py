"""Progress on standard error or in a notebook, so that standard output holds results alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

Draw: TypeAlias = Callable[..., None]
"""``draw(done, total, text="", name="")``: a bar per name, with a few words behind it."""


PLAIN_SECONDS = 20.0
"""Between two lines, where no bar can be drawn."""


@contextmanager
def progress_bars(activity: str, show: bool = True) -> Iterator[Draw]:
    """Yield a function that draws how far an activity is; it draws nothing unless ``show``.

    A bar per name in a terminal or a notebook; else, as in a file, a plain line now and then.

    Example:
        >>> from hardy.progress import progress_bars
        >>> with progress_bars("counting", show=False) as draw:
        ...     for number in range(3):
        ...         draw(number + 1, 3, f"at {number}")
    """
    if not show:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # In a notebook rich draws with ipywidgets; without them it would warn at every step and draw nothing.
    console = Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)
    if not (console.is_terminal or console.is_jupyter):
        last = time.monotonic()

        def write(done: int, total: int | None, text: str = "", name: str = "") -> None:
            nonlocal last
            if done == total or time.monotonic() - last >= PLAIN_SECONDS:
                last = time.monotonic()
                told = " ".join(filter(None, (activity, name, f"{done}/{total if total is not None else '?'}", text)))
                console.print(told, markup=False, highlight=False, soft_wrap=True)

        yield write
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        tasks = {}

        def draw(done: int, total: int | None, text: str = "", name: str = "") -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{activity} {name}".strip(), text="")
            bars.update(tasks[name], total=total, completed=done, text=text)

        yield draw
