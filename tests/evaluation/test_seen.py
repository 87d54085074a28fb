"""Marks on figures that are measured on what training saw."""

from __future__ import annotations

from typing import Any

import pytest

from hardy.evaluation.seen import seen_in_training

TRAINING = {
    "data": "mnist",
    "seen": {
        "datasets": {"mnist/train": "a", "fashion-mnist/train": "b", "my.npz": "c"},
        "outlier_families": ["glyphs", "strokes"],
        "augmentations": ["rotate", "shift", "translate"],
    },
}
HASHES = {"other.npz/test": "c"}


@pytest.mark.parametrize(
    ("dataset", "setting", "reasons"),
    [
        ("mnist/test", {}, []),
        ("mnist/test", {"corruption": "fog", "severity": 3}, []),
        (
            "mnist/test",
            {"corruption": "rotate", "severity": 3},
            ["training saw images changed in the same way, rotate"],
        ),
        ("mnist-c/translate", {}, ["training saw images changed in the same way, translate"]),
        ("notmnist/test", {}, []),
        ("fashion-mnist/test", {}, ["training saw outliers of the same dataset, fashion-mnist/train"]),
        ("glyphs/test", {}, ["training saw synthetic outliers of the same kind, glyphs"]),
        ("other.npz/test", {}, ["training saw these very images, as my.npz"]),
    ],
)
def test_a_figure_is_marked_by_what_training_saw(dataset: str, setting: dict[str, Any], reasons: list[str]) -> None:
    assert list(seen_in_training(TRAINING, dataset, setting, HASHES)) == reasons


def test_what_says_nothing_of_its_training_is_not_marked() -> None:
    assert seen_in_training(None, "fashion-mnist/test", {}, {}) == ()
    assert seen_in_training({"data": "mnist"}, "fashion-mnist/test", {}, {}) == ()
