"""Running the examples of docstrings."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def examples_of(*modules: ModuleType) -> Iterator[doctest.DocTest]:
    """The docstrings with examples of everything that these modules define."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in modules:
        for test in finder.find(module, module.__name__):
            if test.examples:
                yield test


def run_example(test: doctest.DocTest, **names: Any) -> None:
    """Run a docstring's examples, which may use ``names`` besides what they import."""
    test.globs = dict(names)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
