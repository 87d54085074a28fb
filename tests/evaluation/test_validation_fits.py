"""What is fitted is fitted once, and not on what is measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from helpers.classifiers import seeded_linear, write_tiny_data
from helpers.evaluations import measure
from helpers.results import ensemble_results

from hardy.errors import UsageError
from hardy.evaluation.properties import PROPERTIES


class TestOverlap:
    def data(self, folder: Path) -> str:
        """Tested on what is left for validation."""
        with np.load(write_tiny_data(folder)) as found:
            arrays = {name: found[name] for name in ("train_images", "train_labels")}
        both = {name.replace("train", split): array for name, array in arrays.items() for split in ("train", "test")}
        np.savez(folder / "both.npz", **both)
        return str(folder / "both.npz")

    @pytest.mark.parametrize("prop", ["calibration", "conformal", "error_detection"])
    def test_what_is_fitted_must_not_be_what_is_measured(self, prop: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"40 of 40 images .* must not be what it is measured on"):
            measure(
                tmp_path / "run", classifier=seeded_linear(3, 8), data=self.data(tmp_path), properties=[prop], limit=10
            )
        assert not (tmp_path / "run" / "records").exists()

    def test_where_nothing_is_fitted_nothing_is_asked(self, tmp_path: Path) -> None:
        classifier, data = seeded_linear(3, 8), self.data(tmp_path)
        card = measure(tmp_path / "run", classifier=classifier, data=data, properties=["accuracy"], limit=10)
        assert card.estimates


@pytest.mark.parametrize(
    ("module", "name", "times"),
    [
        # One of each of four calibrators; of three members for the mean of their calibrated answers.
        ("validation_fits", "fit_calibrator", 4),
        ("validation_fits", "fit_member_calibrators", 1),
        ("properties.conformal.measure", "fit_conformal", 12),
        # As the classifier is, four calibrators, and members first.
        ("properties.calibration.metrics", "noise_floors", 6),
        ("properties.error_detection.measure", "fit_learned_score", 1),
    ],
)
def test_metrics_warnings_and_charts_share_their_fits(
    module: str, name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    where = f"hardy.evaluation.{module}"
    fit = getattr(importlib.import_module(where), name)
    monkeypatch.setattr(f"{where}.{name}", lambda *given, **more: calls.append(given) or fit(*given, **more))
    results = ensemble_results()
    for prop in (PROPERTIES[it] for it in ("calibration", "conformal", "error_detection")):
        prop.metrics(results)
        prop.warnings(results)
        prop.draw(results)
    assert len(calls) == times
