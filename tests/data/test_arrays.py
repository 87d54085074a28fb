"""Images and labels in memory: every accepted form gives the same dataset, and what does not fit is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hardy.data import Dataset, as_dataset
from hardy.errors import DataError

IMAGES = torch.rand(7, 3, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 1])
PAIRS = TensorDataset(IMAGES, LABELS)


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS.int()],
        (IMAGES.numpy(), LABELS.numpy()),
        (IMAGES.permute(0, 2, 3, 1), LABELS.tolist()),
        (IMAGES.numpy().astype(np.float64), LABELS.numpy().astype(np.uint8)),
        (IMAGES.clone().requires_grad_(), LABELS),
        PAIRS,
        DataLoader(PAIRS, batch_size=3),
        DataLoader([(image, int(label)) for image, label in PAIRS], batch_size=2),  # type: ignore[arg-type]
    ],
    ids=["tensors", "list", "arrays", "channels last", "other dtypes", "gradient", "torch dataset", "loader", "ints"],
)
def test_every_form_gives_the_same_dataset(data: Any) -> None:
    dataset = as_dataset(data, "mine")
    assert torch.equal(dataset.images, IMAGES)
    assert dataset.images.dtype == torch.float32
    assert torch.equal(dataset.labels, LABELS)
    assert (dataset.name, dataset.classes) == ("mine", ("0", "1", "2"))
    assert dataset.sha256 == Dataset("", IMAGES, LABELS, ()).sha256


def test_a_dataset_stays_itself() -> None:
    dataset = Dataset("a/test", IMAGES, LABELS, ("x", "y", "z"))
    assert as_dataset(dataset, "b") is dataset


def test_bytes_stay_bytes_and_gray_images_get_a_channel() -> None:
    gray = (255 * IMAGES[:, 0]).byte()
    dataset = as_dataset((gray, LABELS), "gray")
    assert torch.equal(dataset.images, gray[:, None])
    assert as_dataset((IMAGES.bfloat16(), LABELS), "half").images.dtype == torch.float32


def test_the_dataset_is_a_copy() -> None:
    images = IMAGES.clone()
    dataset = as_dataset((images, LABELS), "mine")
    images.zero_()
    assert torch.equal(dataset.images, IMAGES)


def test_classes_may_be_named() -> None:
    assert as_dataset((IMAGES, LABELS), "a", classes=["x", "y", "z", "none"]).classes == ("x", "y", "z", "none")


def test_a_shuffling_loader_is_read_in_one_order_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first = as_dataset(DataLoader(PAIRS, batch_size=2, shuffle=True), "mine")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    second = as_dataset(DataLoader(PAIRS, batch_size=2, shuffle=True), "mine")
    assert first.sha256 == second.sha256
    assert not torch.equal(first.images, IMAGES)
    assert first.images.sum() == pytest.approx(float(IMAGES.sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGES, "bad is Tensor; pass a DataLoader, a dataset, or a pair"),
        ((IMAGES,), "bad is tuple"),
        ((IMAGES * 255, LABELS), r"bad, images: values from .* lie in \[0, 1\]"),
        ((IMAGES - 0.5, LABELS), r"bad, images: values from -0\.\d+"),
        ((IMAGES * torch.nan, LABELS), "values from nan"),
        ((IMAGES.long(), LABELS), "bad, images: dtype int64; images are uint8"),
        ((IMAGES[0, 0], LABELS), r"bad, images: shape \(6, 5\)"),
        ((IMAGES[:0], LABELS[:0]), "bad, images: empty"),
        ((IMAGES, LABELS[:5]), "bad: 7 images and 5 labels"),
        ((IMAGES, LABELS.float()), r"bad, labels: float32 of shape \(7,\); labels are integers"),
        ((IMAGES, LABELS - 1), "bad, labels: labels from -1 to 1"),
        (DataLoader(TensorDataset(IMAGES)), r"bad: the loader must give batches \(images, labels\)"),
        (DataLoader([]), "bad: the loader must give batches"),  # type: ignore[arg-type]
        (DataLoader([{"image": IMAGES[0]}] * 2), "bad: the loader must give batches"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_named(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset(data, "bad")


def test_labels_beyond_the_named_classes_are_refused() -> None:
    with pytest.raises(DataError, match="bad: the label 2; its 2 classes are 0 to 1"):
        as_dataset((IMAGES, LABELS), "bad", classes=["x", "y"])


def test_a_loader_of_another_order_holds_the_same_examples() -> None:
    def of(data: Dataset) -> list[tuple[float, int]]:
        sums: Tensor = data.images.sum((1, 2, 3))
        return sorted(zip(sums.tolist(), data.labels.tolist(), strict=True))

    assert of(as_dataset(DataLoader(PAIRS, shuffle=True), "a")) == of(as_dataset(PAIRS, "a"))
