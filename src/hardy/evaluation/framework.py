"""What a property is: it plans cells, turns records into statistics, and says what to draw.

The flow: ``plan`` names the cells that a property needs; the evaluation measures each cell once, shard by shard, with
the cell's :class:`Measure`; ``metrics`` and ``draw`` see the records. Two properties that plan one cell share it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import nn

from hardy.data import Dataset, load_dataset
from hardy.evaluation.charts import Chart
from hardy.rng import Randomness
from hardy.validation import Images, Labels

Scalar: TypeAlias = str | int | float | bool
Budget: TypeAlias = Literal["quick", "standard", "full"]
Columns: TypeAlias = dict[str, NDArray]
T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """One dataset under one setting, for one measure.

    Attributes:
        function: the name of the :class:`MeasurementFunction`.
        dataset: the name of the dataset, for example ``mnist/test``.
        setting: what the measure needs to know, as sorted pairs.
        examples: how many examples, taken in the dataset's measuring order (see :func:`measuring_order`).
    """

    function: str
    dataset: str
    examples: int
    setting: tuple[tuple[str, Scalar], ...] = ()

    @classmethod
    def of(cls, function: str, dataset: str, examples: int, **setting: Scalar) -> Measurement:
        """A cell whose setting is given by keyword."""
        return cls(function, dataset, examples, tuple(sorted(setting.items())))

    @property
    def settings(self) -> dict[str, Scalar]:
        return dict(self.setting)

    @property
    def key(self) -> str:
        """A file name: readable, and unique to the cell."""
        content = json.dumps([self.function, self.dataset, self.examples, self.setting])
        readable = "-".join([self.function, self.dataset, *(str(value) for _, value in self.setting)])
        readable = re.sub(r"[^a-zA-Z0-9.]+", "_", readable)[:80]
        return f"{readable}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


class Memo:
    """What one evaluation fits and works out once, by a key; all of it goes with the evaluation."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returned at the first call with this key."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


@dataclass(frozen=True)
class Shard:
    """Some examples of a measurement.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,); -1 where an example has none.
        indices: int64 (N,), each example's place in its dataset.
        dataset: gives other datasets by name, for what is fitted or trained before measuring.
        memo: keeps what was fitted for this evaluation of this classifier.
    """

    images: Images
    labels: Labels
    indices: Labels
    dataset: Callable[[str], Dataset] = load_dataset
    memo: Memo = field(default_factory=Memo)

    def rng(self, seed: int, *purpose: str | int) -> Randomness:
        """The random streams of these examples."""
        return Randomness(seed, self.indices, purpose)


class MeasurementFunction(Protocol):
    """Measures a shard. A pure function of (classifier, shard, cell, seed), the same at any batch size.

    Returns columns of N rows, one row an example, without ``index`` and ``label``, which the evaluation adds.
    """

    def __call__(
        self, classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
    ) -> Columns: ...


@dataclass(frozen=True)
class EvaluationContext:
    """What a property may plan with.

    Attributes:
        dataset: the test split that the classifier is measured on.
        validation: the images held out of training, for fitting; None where the dataset has none.
        out_of_distribution: the OOD datasets at hand.
        missing: OOD datasets that are not at hand, with the reason.
        sizes: how many examples each of these datasets has.
        classes: how many classes the classifier knows.
        budget: how much may be spent.
        limit: at most so many examples a cell, or None.
        adversarial: saved sets of adversarial images to score.
        shift: datasets at hand that show the same classes otherwise: corrupted, or from elsewhere.
        shape: of the images, (C, H, W).
        members: how many members the classifier has if it is an ensemble, else 0.
        train: what the classifier was trained on, for detectors; None where that is not at hand.
    """

    dataset: str
    validation: str | None
    out_of_distribution: tuple[str, ...]
    missing: Mapping[str, str]
    sizes: Mapping[str, int]
    classes: int
    budget: Budget
    limit: int | None = None
    adversarial: tuple[str, ...] = ()
    shift: tuple[str, ...] = ()
    shape: tuple[int, ...] = (1, 28, 28)
    members: int = 0
    train: str | None = None

    def examples(self, dataset: str, at_most: int | None = None) -> int:
        """How many examples of ``dataset`` a cell takes: all, unless the limit or ``at_most`` says fewer."""
        return min(bound for bound in (self.sizes[dataset], self.limit, at_most) if bound is not None)


class Skipped(NamedTuple):
    """Something that could not be measured, and why."""

    property: str
    reason: str


class Plan(NamedTuple):
    """The cells that a property needs, and what it leaves out."""

    measurements: Sequence[Measurement]
    skipped: Sequence[Skipped] = ()


@dataclass(frozen=True)
class Metric:
    """One figure of the scorecard, as a function of how often each example counts.

    The weights are what an interval needs: all ones give the value, and a bootstrap resample is a vector of counts. Two
    runs measured on the same examples share their weights, which pairs their difference.

    Attributes:
        metric: the name of the figure.
        dataset: what it was measured on.
        compute: from weights, float64 (n,), to the figure; NaN where it is not defined.
        examples: which examples the weights belong to: per stratum its dataset and indices; resampling stays within it.
        higher_is_better: None where neither direction is.
        setting: what tells this figure from others of the same metric and dataset.
        successes: bool (n,) where the figure is a share of examples; its interval is then Wilson's.
        interval: where the interval is neither Wilson's nor a bootstrap's but known.
        headline: shown first in the report.
    """

    metric: str
    dataset: str
    compute: Callable[[NDArray[np.float64]], float]
    examples: tuple[tuple[str, NDArray[np.int64]], ...]
    higher_is_better: bool | None
    setting: Mapping[str, Scalar] = field(default_factory=dict)
    successes: NDArray[np.bool_] | None = None
    interval: tuple[float, float] | None = None
    headline: bool = False

    @property
    def n(self) -> int:
        return sum(len(indices) for _, indices in self.examples)


class Results(NamedTuple):
    """What a property sees after measuring.

    Attributes:
        plan: what was planned with.
        records: per cell, one row an example, sorted by ``index``.
        dataset: gives a dataset by name, for pictures.
        seed: the seed of the evaluation.
    """

    context: EvaluationContext
    records: Mapping[Measurement, pl.DataFrame]
    dataset: Callable[[str], Dataset]
    seed: int


@dataclass(frozen=True)
class Property:
    """One axis of safety. Registered in :mod:`hardy.evaluation.properties`; everything else reads the registry."""

    name: str
    title: str
    description: str
    plan: Callable[[EvaluationContext], Plan]
    metrics: Callable[[Results], list[Metric]]
    draw: Callable[[Results], list[Chart]]
    functions: Mapping[str, MeasurementFunction]
    warnings: Callable[[Results], list[str]] = lambda _: []
