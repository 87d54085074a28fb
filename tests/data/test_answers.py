"""Answers of a classifier in a file: the same from every format, and what is wrong with one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import log_softmax, softmax

from hardy.data import load_dataset
from hardy.data.answers import log_of_probabilities, read_answers
from hardy.errors import ContractError, DataError, UsageError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 3))
LABELS = RNG.integers(0, 3, 40)
NAMES = ("a cat", "ein Hund ü", "z")


def table(kind: str, values: np.ndarray, labels: object = LABELS, names: tuple[str, ...] = NAMES) -> pl.DataFrame:
    return pl.DataFrame({"label": labels} | {f"{kind}_{name}": values[:, k] for k, name in enumerate(names)})


def test_every_format_gives_the_same_answers(tmp_path: Path) -> None:
    table("logit", LOGITS).write_csv(tmp_path / "numbers.csv")
    table("logit", LOGITS, [NAMES[label] for label in LABELS]).write_csv(tmp_path / "names.csv")
    table("logit", LOGITS).write_parquet(tmp_path / "columns.parquet")
    np.savez(tmp_path / "arrays.npz", logits=LOGITS, labels=LABELS, classes=NAMES)
    for name in ("numbers.csv", "names.csv", "columns.parquet", "arrays.npz"):
        logits, labels, classes = read_answers(tmp_path / name)
        np.testing.assert_allclose(logits, LOGITS, rtol=1e-6)
        assert labels.tolist() == LABELS.tolist()
        assert classes == NAMES
    pl.DataFrame({"label": LABELS, "index": LABELS, "logits": LOGITS}).write_parquet(tmp_path / "records.parquet")
    assert read_answers(tmp_path / "records.parquet").classes == ("0", "1", "2")


def test_columns_that_are_named_after_numbers_may_be_in_any_order(tmp_path: Path) -> None:
    table("logit", LOGITS[:, ::-1], names=("2", "1", "0")).write_csv(tmp_path / "a.csv")
    logits, labels, classes = read_answers(tmp_path / "a.csv")
    assert [classes[label] for label in labels] == [str(label) for label in LABELS]
    assert (logits.argmax(1) == labels).mean() == (LOGITS.argmax(1) == LABELS).mean()


def test_probabilities_become_their_logarithms(tmp_path: Path) -> None:
    table("probability", softmax(LOGITS, axis=1)).write_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(read_answers(tmp_path / "a.csv").logits, log_softmax(LOGITS, axis=1), rtol=1e-5)
    certain = log_of_probabilities(np.array([[1.0, 0.0]]), "it")
    assert np.isfinite(certain).all()
    assert certain[0, 0] == 0.0


@pytest.mark.parametrize(
    "values", [LOGITS, softmax(LOGITS, axis=1) * 2, np.full((2, 2), np.nan), np.array([0.5, 0.5]), np.zeros((0, 2))]
)
def test_what_are_no_probabilities_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ContractError, match="it: not probabilities"):
        log_of_probabilities(values, "it")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": LOGITS}, "takes labels, and either logits or probabilities"),
        ({"logits": LOGITS, "probabilities": LOGITS, "labels": LABELS}, "either logits or probabilities"),
        ({"logits": LOGITS[:, 0], "labels": LABELS}, r"of shape \(40,\); they are numbers"),
        ({"logits": LOGITS[:9], "labels": LABELS}, "9 images and 40 labels"),
        ({"logits": np.full((40, 3), np.inf), "labels": LABELS}, "NaN or infinity"),
        ({"logits": softmax(LOGITS, axis=1), "labels": LABELS}, "call them probabilities"),
        ({"logits": LOGITS, "labels": LABELS, "classes": ["a", "b"]}, "3 logits for each image and 2 class names"),
        ({"logits": LOGITS, "labels": LABELS + 5}, "its 3 classes"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        load_dataset(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,2\n", "has the columns x, y; it takes 'label'"),
        ("label,logit_a,probability_b\n0,1,2\n", "has the columns"),
        ("label,logit_a,logit_b\n0,1,\n", "empty fields"),
        ("label,logit_a,logit_b\n0,1,x\n", "no numbers"),
        ("label,logit_a,logit_b\nc,1,2\n", "label 'c' is no class; known: a, b"),
        ("label,logit_a,logit_b\n0,1,2\n1,2,3,4\n", "cannot be read as a table"),
        ("", "cannot be read as a table"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_dataset(str(tmp_path / "a.csv"))


def test_files_that_declare_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table("logit", LOGITS).write_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr("hardy.data.answers.MAX_NUMBERS", 100)
    with pytest.raises(DataError, match="40 rows of 4 columns; at most 100"):
        read_answers(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as a table"):
        read_answers(tmp_path / "b.parquet")
