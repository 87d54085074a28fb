"""Running the examples of docstrings."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import torch

import hardy
import hardy.augmentations
import hardy.calibration
import hardy.corruptions
import hardy.models
import hardy.ood


def run_examples(item: Any, name: str) -> None:
    """Run the examples in the docstring of ``item``, which has some; fail where one does not give what it says."""
    names = {"hardy": hardy, "np": np, "torch": torch}
    test = doctest.DocTestParser().get_doctest(item.__doc__ or "", names, name, None, 0)
    assert test.examples, f"{name} has no example in its docstring"
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not report, "".join(report)
