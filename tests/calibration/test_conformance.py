"""What every calibrator and every kind of prediction sets keeps, called as a user calls it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.docs import run_examples
from torch import Tensor

import hardy.calibration
from hardy.calibration import CALIBRATORS, CONFORMAL, fit_calibrator
from hardy.errors import UsageError

CLASSES = 4


def examples(count: int = 600, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits twice as large as their labels deserve."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(count, CLASSES, generator=generator)
    return logits, torch.multinomial((logits / 2).softmax(1), 1, generator=generator)[:, 0]


def fitted(name: str) -> Callable[[Tensor], np.ndarray]:
    """From logits to what the calibrator, or the rule for sets, makes of them."""
    logits, labels = examples()
    function = getattr(hardy.calibration, name)
    if name in CALIBRATORS:
        return function(logits, labels)
    rule = function(logits.softmax(1), labels, alpha=0.1)
    return lambda given: rule(given.softmax(1))


each = pytest.mark.parametrize("name", [*CALIBRATORS, *CONFORMAL])


@each
def test_it_says_what_it_does_and_its_example_runs(name: str) -> None:
    method = (CALIBRATORS if name in CALIBRATORS else CONFORMAL)[name]
    assert method.name == name
    assert method.description
    assert name in hardy.calibration.__all__
    run_examples(getattr(hardy.calibration, name), name)


@each
def test_tensors_and_arrays_give_the_same_each_time_and_stay_as_they_are(name: str) -> None:
    (logits, labels), (fresh, _) = examples(), examples(50, 1)
    before = fresh.clone()
    found = fitted(name)(fresh)
    assert found.shape == (50, CLASSES)
    assert found.dtype == (np.float64 if name in CALIBRATORS else np.bool_)
    assert np.array_equal(fitted(name)(fresh), found)
    assert torch.equal(fresh, before)
    given = logits if name in CALIBRATORS else logits.softmax(1)
    asked = fresh if name in CALIBRATORS else fresh.softmax(1)
    again = getattr(hardy.calibration, name)(
        given.numpy(), labels.numpy(), **({} if name in CALIBRATORS else {"alpha": 0.1})
    )
    assert np.array_equal(again(asked.numpy()), found)
    assert np.array_equal(again(asked.requires_grad_()), found)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_calibrator_is_called_and_does_not_depend_on_the_batch(name: str) -> None:
    calibrator, (fresh, _) = fitted(name), examples(50, 1)
    found = calibrator(fresh)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.concatenate([calibrator(row[None]) for row in fresh]), found, rtol=1e-12)


@pytest.mark.parametrize("name", CONFORMAL)
def test_sets_cover_fresh_examples(name: str) -> None:
    """3,000 of them: within 4 standard deviations of the draw of both, about .9 ± .07."""
    fresh, labels = examples(3000, 1)
    covered = fitted(name)(fresh)[np.arange(3000), labels]
    assert 0.85 < covered.mean() < 0.95


@pytest.mark.parametrize("name", CALIBRATORS)
def test_probabilities_in_place_of_logits_are_refused_with_the_remedy(name: str) -> None:
    logits, labels = examples()
    for call in (lambda: fit_calibrator(name, logits.softmax(1), labels), lambda: fitted(name)(logits.softmax(1))):
        with pytest.raises(UsageError, match=r"were probabilities passed\? Give logits, or logarithms"):
            call()


@pytest.mark.parametrize("name", CONFORMAL)
def test_logits_in_place_of_probabilities_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="were logits passed"):
        getattr(hardy.calibration, name)(*examples())
