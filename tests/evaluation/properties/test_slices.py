"""Slices: the worst is named, its interval holds for as many as were looked at, and small ones are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cheap import make_budgets_tiny

from hardy.evaluation.evaluate import evaluate
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import from_probabilities
from hardy.metrics import clopper_pearson

SIDES = ("left", "right")


def write_folder(folder: Path) -> Path:
    """Images whose one dot says the class, and in 15 of 60 of the evening's the wrong one."""
    from PIL import Image

    rng, rows = np.random.default_rng(0), ["file_name,time,place,day"]
    for number in range(120):
        label, evening = number % 2, number % 3 == 0
        shown = 1 - label if evening and number % 12 == 0 else label
        image = rng.integers(0, 40, (6, 8), dtype=np.uint8)
        image[2:4, 1 + 4 * shown : 3 + 4 * shown] = 200
        path = folder / SIDES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        place = "hall" if number < 5 else "yard" if number % 5 else ""
        rows.append(f"{SIDES[label]}/{number}.png,{'evening' if evening else 'noon'},{place},{number}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def brighter_half(images: np.ndarray) -> np.ndarray:
    left, right = (half.mean((1, 2, 3)) for half in np.array_split(images, 2, axis=3))
    sure = 1 / (1 + np.exp(60 * (right - left)))
    return np.stack([sure, 1 - sure], axis=1)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    with pytest.MonkeyPatch.context() as patch:
        make_budgets_tiny(patch)
        folder = write_folder(tmp_path_factory.mktemp("slices"))
        return evaluate(from_probabilities(brighter_half), folder, properties=["accuracy"], progress=False)


def test_each_slice_has_its_accuracy_with_a_corrected_interval(card: Scorecard) -> None:
    found = {(it.setting["column"], it.setting["value"]): it for it in card.estimates if it.metric == "slice_accuracy"}
    assert found.keys() == {("time", "evening"), ("time", "noon"), ("place", "yard")}
    evening = found["time", "evening"]
    assert (evening.value, evening.n) == (0.75, 40)
    assert (evening.low, evening.high) == pytest.approx(clopper_pearson(30, 40, 1 - 0.05 / 3))
    assert found["time", "noon"].value == 1.0


def test_the_worst_is_beside_the_mean_and_named(card: Scorecard) -> None:
    worst, mean = card["accuracy/worst_slice_accuracy"], card["accuracy"]
    assert worst.headline
    assert worst.value == 0.75 < mean.value
    assert worst.question.endswith("Least of all time evening")
    assert (worst.low, worst.high) == pytest.approx(clopper_pearson(30, 40, 1 - 0.05 / 3))


def test_what_makes_no_groups_is_left_out_and_named(card: Scorecard) -> None:
    assert [warning.partition(": ")[2] for warning in card.warnings] == [
        "slices that are not looked at: place hall, with fewer than 10 images each",
        "slices that are not looked at: day, which has 120 values",
    ]


def test_the_interval_of_the_worst_covers_it_however_many_are_looked_at() -> None:
    """Of 20 slices of one accuracy, the least is far below it; the corrected interval holds it nevertheless."""
    rng, n, share, missed, naive = np.random.default_rng(0), 50, 0.9, 0, 0
    for _ in range(400):
        hits = rng.binomial(n, share, 20)
        missed += (
            not min(clopper_pearson(k, n, 1 - 0.05 / 20).low for k in hits)
            <= share
            <= min(clopper_pearson(k, n, 1 - 0.05 / 20).high for k in hits)
        )
        naive += not share <= clopper_pearson(int(hits.min()), n).high
    assert missed / 400 <= 0.05 < naive / 400
