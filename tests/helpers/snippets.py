"""What the snippets of the documentation run on: everything that depends on the public names is here."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hardy.data import load_dataset
from hardy.registry import Registry
from hardy.training.recipes import RECIPES
from helpers.bundles import measure_little
from helpers.cheap import make_budgets_tiny
from helpers.classifiers import small_classifier
from helpers.shapes import STRANGE, write_shapes


def prepared(folder: Path) -> dict[str, Any]:
    """The names that snippets may use: a small classifier of digits, images, labels, logits and loaders."""
    model = small_classifier()
    x, y = _digits("mnist/test", 12)
    validation, test = _digits("mnist/validation", 200), _digits("mnist/test", 60)
    with torch.no_grad():
        val_logits, test_logits = (model.eval()(images) for images, _ in (validation, test))
    _draw_digit(folder / "digit.png")
    write_shapes(folder, 60)
    (folder / "shapes").rename(folder / "photos")
    (folder / STRANGE).rename(folder / "sketches")
    return {
        "model": model,
        "x": x,
        "y": y,
        "val_logits": val_logits,
        "val_labels": validation[1],
        "test_logits": test_logits,
        "test_labels": test[1],
        "train_loader": _loader(*_digits("mnist/train", 400)),
        "val_loader": _loader(*validation),
        "test_loader": _loader(*test),
    }


def make_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``hardy.train("compact")`` train a small network for a moment, and let little be measured."""
    make_budgets_tiny(monkeypatch)
    measure_little(monkeypatch)
    cheap = replace(RECIPES["compact"], model_arguments={"width": 4}, epochs=1, batch_size=500, augmentation={})
    monkeypatch.setitem(getattr(RECIPES, "_items", RECIPES), "compact", cheap)  # type: ignore[arg-type]


@contextmanager
def registries_kept() -> Iterator[None]:
    """Take out of every registry what is added meanwhile."""
    # By the type alone: some of torch's objects warn when they are asked for their class.
    before = [(it, dict(it._items)) for it in gc.get_objects() if issubclass(type(it), Registry)]
    try:
        yield
    finally:
        for registry, items in before:
            registry._items.clear()
            registry._items.update(items)


def _digits(name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = load_dataset(name)
    return dataset.floats(torch.arange(count)), dataset.labels[:count]


def _loader(images: torch.Tensor, labels: torch.Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images, labels), batch_size=50)


def _draw_digit(path: Path) -> None:
    from PIL import Image

    image, _ = _digits("mnist/test", 1)
    Image.fromarray((255 * image[0, 0]).round().to(torch.uint8).numpy()).save(path)
