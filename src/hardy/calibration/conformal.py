"""Conformal prediction sets: sets of classes that hold the true one as often as promised, whatever the classifier.

Split conformal prediction (Papadopoulos et al., ECML 2002; Vovk, Gammerman and Shafer 2005): of n validation examples
the scores of the true classes are sorted; a set holds the classes whose score is at most the ceil((n+1)(1-alpha))-th. A
new example of the same distribution is then covered with probability at least 1-alpha, over the draw of both. Where n
is too small for such a rank the threshold is infinite and every class is in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardy.calibration.kind import as_array
from hardy.errors import DataError, UsageError
from hardy.metrics._arrays import Floats, checked_labels, checked_probabilities
from hardy.registry import Registry
from hardy.rng import Randomness

PENALTY, FREE_RANKS = 0.01, 1
"""Of RAPS: what each class beyond the first costs."""


class ConformalMethod(NamedTuple):
    """How prediction sets of one name are made.

    Attributes:
        name: of its sets.
        description: what it does, in one line, with the paper.
        scores: from probabilities and one uniform number per example to each class's score, float64 (N, K).
        by_class: whether each class has its own threshold.
    """

    name: str
    description: str
    scores: Callable[[Floats, Floats], Floats]
    by_class: bool = False


def _least_ambiguous(probabilities: Floats, chance: Floats) -> Floats:  # noqa: ARG001
    return 1.0 - probabilities


def _adaptive(probabilities: Floats, chance: Floats) -> Floats:
    """The probability of all likelier classes, and a random part of the class's own."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.cumsum(ordered, axis=1) - ordered + chance[:, None] * ordered, axis=1)
    return scores


def _regularized(probabilities: Floats, chance: Floats) -> Floats:
    rank = np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1) + 1
    return _adaptive(probabilities, chance) + PENALTY * np.maximum(rank - FREE_RANKS, 0)


CONFORMAL: Registry[ConformalMethod] = Registry(
    "kind of prediction sets",
    (
        ConformalMethod(
            "lac", "the smallest sets on average (Sadinle, Lei and Wasserman, JASA 2019)", _least_ambiguous
        ),
        ConformalMethod(
            "aps",
            "larger sets where it is harder (Romano, Sesia and Candès, NeurIPS 2020, arXiv:2006.02544)",
            _adaptive,
        ),
        ConformalMethod(
            "raps",
            "the same, without the unlikeliest classes (Angelopoulos et al., ICLR 2021, arXiv:2009.14193)",
            _regularized,
        ),
        ConformalMethod(
            "class_conditional",
            "covers each class as often as promised, by a threshold of its own (Vovk, ACML 2012)",
            _least_ambiguous,
            True,
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class Conformal:
    """A fitted rule for prediction sets: call it with probabilities to get them.

    Attributes:
        kind: which of :data:`CONFORMAL`.
        arrays: all that was fitted, and can be saved as it is: ``threshold``, float64 (K,), infinite where a class is
            always in; ``alpha``, float64 (1,).
    """

    kind: str
    arrays: Mapping[str, NDArray]

    @property
    def alpha(self) -> float:
        return float(self.arrays["alpha"][0])

    @property
    def always(self) -> tuple[int, ...]:
        """The classes that every set holds, as there were too few validation examples to leave them out."""
        return tuple(np.flatnonzero(np.isinf(self.arrays["threshold"])).tolist())

    def __call__(self, probabilities: NDArray | Tensor, *, seed: int = 0) -> NDArray[np.bool_]:
        """Which classes are in each example's set, bool (N, K); other arguments and errors as in :meth:`sets`.

        Args:
            seed: of the draws by which APS and RAPS break ties.
        """
        return self.sets(probabilities, _streams(probabilities, seed, "sets"))

    def sets(self, probabilities: NDArray | Tensor, rng: Randomness) -> NDArray[np.bool_]:
        """Which classes are in each example's set, bool (N, K).

        Args:
            probabilities: (N, K), rows with sum 1.
            rng: the streams of these examples; APS and RAPS break ties at random.

        Raises:
            UsageError: rows that are no distributions, or of another number of classes; streams of other examples.
        """
        scores, threshold = _scores(self.kind, probabilities, rng), self.arrays["threshold"]
        if scores.shape[1] != len(threshold):
            raise UsageError(f"probabilities: {scores.shape[1]} classes; the sets were fitted on {len(threshold)}")
        return scores <= threshold


def fit_conformal(
    kind: str, probabilities: NDArray | Tensor, labels: NDArray | Tensor, alpha: float, rng: Randomness
) -> Conformal:
    """A rule for prediction sets that hold the true class with probability at least 1 - ``alpha``.

    Args:
        kind: one of :data:`CONFORMAL`.
        probabilities: (N, K), rows with sum 1, of validation examples that the probabilities were not fitted on.
        labels: integers (N,), from 0 to K-1.
        alpha: how often a set may miss the true class, in (0, 1).
        rng: the streams of these examples.

    Raises:
        UsageError: unknown kind, no examples, an alpha outside (0, 1), rows that are no distributions.
    """
    scores = _scores(kind, probabilities, rng)
    labels = checked_labels(as_array(labels), *scores.shape)
    if not 0 < alpha < 1:
        raise UsageError(f"alpha: {alpha}; how often a set may miss the true class lies in (0, 1)")
    if not len(labels):
        raise UsageError("the calibration set is empty; prediction sets are fitted on validation examples")
    own = scores[np.arange(len(labels)), labels]
    classes = scores.shape[1]
    if CONFORMAL[kind].by_class:
        threshold = np.array([conformal_quantile(own[labels == label], alpha) for label in range(classes)])
    else:
        threshold = np.full(classes, conformal_quantile(own, alpha))
    return Conformal(kind, {"threshold": threshold, "alpha": np.array([float(alpha)])})


def function_of(kind: str) -> FunctionOfSets:
    """The public function of a kind."""

    def function(
        probabilities: NDArray | Tensor, labels: NDArray | Tensor, *, alpha: float = 0.05, seed: int = 0
    ) -> Conformal:
        return fit_conformal(kind, probabilities, labels, alpha, _streams(probabilities, seed, "fit"))

    function.__name__ = function.__qualname__ = kind
    function.__module__ = "hardy.calibration"
    function.__doc__ = f"""Prediction sets: {CONFORMAL[kind].description}.

    Args:
        probabilities: (N, K), rows with sum 1, of validation examples; a tensor or an array.
        labels: integers (N,), from 0 to K-1.
        alpha: how often a set may miss the true class, in (0, 1).
        seed: of the draws by which APS and RAPS break ties.

    Errors as in :func:`~hardy.calibration.conformal.fit_conformal`.

    >>> probabilities, labels = torch.randn(200, 3).softmax(1), torch.arange(200) % 3
    >>> sets = hardy.calibration.{kind}(probabilities, labels, alpha=0.1)
    >>> sets(probabilities[:4]).shape
    (4, 3)
    """
    return function


class FunctionOfSets(Protocol):
    def __call__(
        self, probabilities: NDArray | Tensor, labels: NDArray | Tensor, *, alpha: float = 0.05, seed: int = 0
    ) -> Conformal: ...


def restore_conformal(kind: str, arrays: Mapping[str, NDArray]) -> Conformal:
    """The rule whose :attr:`Conformal.arrays` these are. They may come from a file: they are checked.

    Raises:
        UsageError: unknown kind.
        DataError: arrays missing, unknown, of another type or shape, or NaN.
    """
    CONFORMAL.find(kind)
    shapes = {name: (array.dtype, array.ndim) for name, array in arrays.items()}
    if shapes != {"threshold": (np.float64, 1), "alpha": (np.float64, 1)}:
        raise DataError(f"prediction sets: arrays {shapes}; they are threshold and alpha, float64 of one dimension")
    threshold, alpha = arrays["threshold"], arrays["alpha"]
    if len(threshold) < 2 or np.isnan(threshold).any() or alpha.shape != (1,) or not 0 < alpha[0] < 1:
        raise DataError(
            f"prediction sets: threshold {threshold.tolist()}, alpha {alpha.tolist()}; a threshold for each of two "
            "classes or more, and one number in (0, 1)"
        )
    return Conformal(kind, dict(arrays))


def conformal_quantile(scores: NDArray, alpha: float) -> float:
    """The ceil((n+1)(1-alpha))-th smallest of n scores; infinity where there are fewer."""
    # 20 · 0.95 is a little above 19 in floating point, and would be rounded up.
    rank = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9)
    return float(np.sort(scores)[max(rank, 1) - 1]) if rank <= len(scores) else math.inf


def coverage_band(fitted_on: int, measured_on: int, alpha: float) -> tuple[float, float] | None:
    """Between which shares 95 % of coverages lie, for so many validation and test examples, if the promise holds.

    Which validation examples were drawn moves the coverage, beta distributed, and which test examples its measurement:
    together they are beta-binomial. None where too few were fitted on for a threshold.

    Vovk, ACML 2012; Angelopoulos and Bates, arXiv:2107.07511, section 3.2.
    """
    from scipy.stats import betabinom

    rank = max(math.ceil((fitted_on + 1) * (1.0 - alpha) - 1e-9), 1)
    if rank > fitted_on:
        return None
    low, high = betabinom.ppf([0.025, 0.975], measured_on, rank, fitted_on + 1 - rank) / measured_on
    return float(low), float(high)


def answers_of(sets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rule to abstain that follows: int64 (N,), the class of a set that holds just one, else -1."""
    return np.where(sets.sum(axis=1) == 1, sets.argmax(axis=1), -1)


def _scores(kind: str, probabilities: NDArray | Tensor, rng: Randomness) -> Floats:
    method, checked = CONFORMAL.find(kind), checked_probabilities(as_array(probabilities))
    if len(rng) != len(checked):
        raise UsageError(f"rng: streams of {len(rng)} examples for {len(checked)} rows of probabilities")
    return method.scores(checked, rng.uniform().cpu().numpy().astype(np.float64))


def _streams(probabilities: NDArray | Tensor, seed: int, purpose: str) -> Randomness:
    return Randomness(seed, torch.arange(len(probabilities)), ("prediction sets", purpose))
