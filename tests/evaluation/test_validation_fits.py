"""What is fitted is fitted once, and not on what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.classifiers import seeded_linear, write_tiny_data
from helpers.evaluations import measure

from hardy.errors import UsageError


class TestOverlap:
    def data(self, folder: Path) -> str:
        """Tested on what was held out."""
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
