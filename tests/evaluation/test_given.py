"""Classifiers that give answers and no gradients: files of logits, and functions that return probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cheap import make_budgets_tiny
from scipy.special import softmax

from hardy.errors import ContractError, UsageError
from hardy.evaluation.evaluate import evaluate, load_results
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.subject import from_probabilities, given_answers, load_subject
from hardy.report.run import write_run_report
from hardy.runs import Run

RNG = np.random.default_rng(1)
LABELS = RNG.integers(0, 3, 300)
LOGITS = RNG.normal(size=(300, 3)) + 2.5 * np.eye(3)[LABELS]
FROM_ANSWERS = ["accuracy", "calibration", "conformal", "error_detection"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    make_budgets_tiny(monkeypatch)


def brightest(images: np.ndarray) -> np.ndarray:
    """Probabilities of which third of an image is the brightest."""
    assert images.dtype == np.float32
    return softmax(
        40 * np.stack([third.mean((1, 2, 3)) for third in np.array_split(images, 3, axis=2)], axis=1), axis=1
    )


def thirds(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, 3, count)
    images = 0.5 * RNG.random((count, 1, 12, 10), dtype=np.float32)
    for label in range(3):
        images[labels == label, :, 4 * label : 4 * label + 4] += 0.15
    return images, labels


def test_logits_in_a_file_are_measured_without_a_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "answers.npz", logits=LOGITS, labels=LABELS)
    out = tmp_path / "run"
    card = evaluate(given_answers(), f"{tmp_path / 'answers.npz'}?validation=0.4", out=out, progress=False)
    assert card.properties == FROM_ANSWERS
    assert card["accuracy"].n == 180
    assert card["accuracy"].value == pytest.approx((LOGITS.argmax(1) == LABELS).mean(), abs=0.08)
    assert card.find("calibration", "ece", calibrator="temperature").n == 180
    assert 0.85 < card["conformal/coverage"].value <= 1
    assert card["error_detection/auroc"].value > 0.6
    left_out = {skip.property: skip.reason for skip in card.skipped}
    assert (
        left_out["out_of_distribution"]
        == "it needs answers to images, and of this classifier there are only given answers"
    )
    assert left_out["adversarial"].startswith("it needs gradients")
    # Pictures and the report are made without images, also later, from what is stored.
    chosen, results = load_results(Run.open(out))
    assert [prop.name for prop in chosen] == FROM_ANSWERS
    assert results.context.access == "logits"
    assert "Confusion matrix" in write_run_report(out).read_text()


def test_probabilities_count_as_the_logits_that_they_came_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "logits.npz", logits=LOGITS, labels=LABELS)
    np.savez(tmp_path / "probabilities.npz", probabilities=softmax(LOGITS, axis=1), labels=LABELS)
    np.savez(tmp_path / "more.npz", logits=LOGITS[::-1] + 0.1, labels=LABELS[::-1])
    cards = [
        evaluate(given_answers(), tmp_path / f"{kind}.npz", validation=tmp_path / "more.npz", progress=False)
        for kind in ("logits", "probabilities")
    ]
    one, other = (
        # A number that is added to all logits of an image is lost, which some calibrators and scores take into account.
        {
            (it.metric, str(it.setting)): it.value
            for it in card.estimates
            if it.setting.get("calibrator", "temperature") == "temperature"
            and it.property in ("accuracy", "calibration")
        }
        for card in cards
    )
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == pytest.approx(value, abs=1e-4), key


def test_a_function_of_probabilities_is_measured_where_no_gradient_is_needed() -> None:
    card = evaluate(
        from_probabilities(brightest),
        thirds(60),
        validation=thirds(60),
        ood={"noise": RNG.random((30, 1, 12, 10), dtype=np.float32)},
        budget="standard",
        limit=30,
        progress=False,
    )
    assert card.properties == [name for name in PROPERTIES if name not in ("adversarial", "certified")]
    assert card["accuracy"].value > 0.8
    assert card.find("out_of_distribution", "auroc", dataset="data/noise", score="max_softmax").n == 60
    assert card.find("distribution_shift", "mean_accuracy").value > 0.3
    assert card.subject.name == "brightest"
    assert not any(it.setting.get("attack") for it in card.estimates)


def test_a_function_named_on_the_command_line_is_not_called_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs_of_mine.py").write_text(
        "def predict(images):\n    return images.reshape(len(images), -1)[:, :2]\nx = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_subject("theirs_of_mine:predict", probabilities=True).access == "images"
    with pytest.raises(UsageError, match="has to be a function"):
        load_subject("theirs_of_mine:x", probabilities=True)
    with pytest.raises(UsageError, match="module:function"):
        load_subject("theirs_of_mine", probabilities=True)


@pytest.mark.parametrize(
    "function",
    [lambda x: np.ones((len(x), 3)), lambda x: x, lambda x: torch.randn(len(x), 3), lambda _: np.ones((1, 2)) / 2],
)
def test_what_returns_no_probabilities_is_refused(function: object) -> None:
    with pytest.raises(ContractError, match=r"not probabilities|it must be"):
        evaluate(from_probabilities(function), thirds(20), properties=["accuracy"], progress=False)  # type: ignore[arg-type]
