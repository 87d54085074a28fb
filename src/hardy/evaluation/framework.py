"""What a property is: it plans measurements, turns their records into metrics, and says what to draw.

The flow: ``plan`` names the measurements that a property needs; the evaluation makes each once, shard by shard, with
its :class:`MeasurementFunction`; ``metrics``, ``warnings`` and ``draw`` see the records as :class:`Results`. Properties
that plan the same measurement share it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import nn

from hardy.data import Dataset, load_dataset
from hardy.data.entry import Distance
from hardy.deployment import Bundle
from hardy.evaluation.budget import Budget
from hardy.evaluation.charts import Chart
from hardy.metrics import Interval, bootstrap_weights, bounded_interval, share_interval, weighted_mean
from hardy.rng import Randomness
from hardy.validation import Images, Labels

T = TypeVar("T")
P = ParamSpec("P")
Scalar: TypeAlias = str | int | float | bool
Columns: TypeAlias = dict[str, NDArray]
Compute: TypeAlias = Callable[[NDArray[np.float64]], float]
"""From how often each example counts, float64 (n,), to a figure; NaN where it is not defined."""
Examples: TypeAlias = tuple[tuple[str, NDArray[np.int64]], ...]
"""Per stratum a dataset and indices into it; resampling stays within a stratum."""

Access: TypeAlias = Literal["logits", "images", "gradients"]
"""What can be asked of a classifier: only the logits that were given, answers to any images, or also gradients."""


@dataclass(frozen=True)
class Measurement:
    """What one :class:`MeasurementFunction` measures: one dataset under one setting.

    Attributes:
        function: the name of the function.
        dataset: the name of the dataset, for example ``mnist/test``.
        examples: how many examples, taken in the dataset's measuring order (see :meth:`Dataset.measuring_order`).
        setting: what the function needs to know, as sorted pairs.
    """

    function: str
    dataset: str
    examples: int
    setting: tuple[tuple[str, Scalar], ...] = ()

    @classmethod
    def of(cls, function: str, dataset: str, examples: int, **setting: Scalar) -> Measurement:
        """A measurement whose setting is given by keyword."""
        return cls(function, dataset, examples, tuple(sorted(setting.items())))

    @property
    def settings(self) -> dict[str, Scalar]:
        return dict(self.setting)

    @property
    def key(self) -> str:
        """A file name: readable, and unique to the measurement."""
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
        bundle: what the classifier is part of, if it is.
    """

    images: Images
    labels: Labels
    indices: Labels
    dataset: Callable[[str], Dataset] = load_dataset
    memo: Memo = field(default_factory=Memo)
    bundle: Bundle | None = None

    def rng(self, seed: int, *purpose: str | int) -> Randomness:
        """The random streams of these examples."""
        return Randomness(seed, self.indices, purpose)


class MeasurementFunction(Protocol):
    """Measures a shard. A pure function of (classifier, shard, measurement, seed), the same at any batch size.

    Returns columns of N rows, one row per example, without ``index`` and ``label``, which the evaluation adds.
    """

    def __call__(
        self, classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
    ) -> Columns: ...


@dataclass(frozen=True)
class EvaluationContext:
    """What a property may plan with.

    Attributes:
        dataset: the test split that the classifier is measured on.
        validation: the split for fitting, which training did not see; None where the dataset has none.
        out_of_distribution: the OOD datasets at hand.
        missing: OOD datasets that are not at hand, with the reason.
        sizes: how many examples each of these datasets has.
        classes: how many classes the classifier knows.
        budget: how much may be spent.
        limit: at most so many examples per measurement, or None.
        adversarial: saved sets of adversarial images to score.
        shift: datasets at hand that show the same classes otherwise: corrupted, or from elsewhere.
        shape: of the images, (C, H, W).
        members: how many members the classifier has if it is an ensemble, else 0.
        train: what the classifier was trained on, for detectors; None where that is not at hand.
        norm: which norm attacks are held to; every usual one if empty.
        eps: their radii in it, ascending.
        access: how much of the classifier there is: its gradients, its answers to any images, or only given logits.
        distances: by out-of-distribution dataset, whether it is ``near`` the classes or ``far``, where that is known.
        bundle: the hash of what the classifier is deployed with; empty where it is not.
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
    norm: str = ""
    eps: tuple[float, ...] = ()
    access: Access = "gradients"
    distances: Mapping[str, Distance] = field(default_factory=dict)
    bundle: str = ""

    @property
    def gradients(self) -> bool:
        """Whether the classifier's gradients can be followed."""
        return self.access == "gradients"

    def examples(self, dataset: str, at_most: int | None = None) -> int:
        """How many examples of ``dataset`` a measurement takes: all, unless the limit or ``at_most`` says fewer."""
        return min(bound for bound in (self.sizes[dataset], self.limit, at_most) if bound is not None)

    @property
    def subjects(self) -> str:
        """What the test images show, in questions of the report."""
        return "digits" if self.dataset == "mnist/test" else "images"


class Skipped(NamedTuple):
    """Something that could not be measured, and why."""

    property: str
    reason: str


class Plan(NamedTuple):
    """The measurements that a property needs, and what it leaves out."""

    measurements: Sequence[Measurement]
    skipped: Sequence[Skipped] = ()


@dataclass(frozen=True)
class MetricKind:
    """What a metric is, whatever it is measured on.

    Attributes:
        name: what it is called in code and files.
        title: what it is called in the report.
        higher_is_better: None where neither direction is.
        unit: a ``share`` reads as a percentage.
        bounds: the ends of its scale.
        chance: what guessing reaches, where that is known.
        question: what a reader wants to know by it, for the first lines of the report.
    """

    name: str
    title: str
    higher_is_better: bool | None
    unit: Literal["share", "number"] = "number"
    bounds: tuple[float, float] | None = None
    chance: float | None = None
    question: str = ""

    @classmethod
    def share(
        cls, name: str, title: str, higher_is_better: bool | None, chance: float | None = None, question: str = ""
    ) -> MetricKind:
        """A metric from 0 to 1 that reads as a percentage."""
        return cls(name, title, higher_is_better, "share", (0.0, 1.0), chance, question)


@dataclass(frozen=True)
class Metric:
    """One figure of the scorecard, as a function of how often each example counts.

    The weights are what an interval needs: all ones give the value, and a bootstrap resample is a vector of counts. Two
    runs measured on the same examples share their weights, which pairs their difference.

    Attributes:
        kind: what is computed.
        compute: how.
        examples: which examples the weights belong to.
        setting: what tells this figure from others of the same kind and dataset.
        dataset: what it was measured on; the last stratum's dataset if empty.
        successes: bool (n,) where the figure is a share of examples; its interval is then that of a share.
        event: how far one more example can move the figure, for figures from 0 up whose interval is that of such a
            figure with the variance over resamples; 0 where the interval is the percentile bootstrap's.
        top: the end of the figure's scale, for these; infinity where there is none.
        interval: where the interval is none of these but known.
        no_interval: why the figure has no interval; empty where it has one.
        chance_band: the middle 95 % of what chance alone makes of the figure, where that is known.
        headline: shown first in the report.
        warnings: why this very figure may mislead.
    """

    kind: MetricKind
    compute: Compute
    examples: Examples
    setting: Mapping[str, Scalar] = field(default_factory=dict)
    dataset: str = ""
    successes: NDArray[np.bool_] | None = None
    event: float = 0.0
    top: float = 1.0
    interval: tuple[float, float] | None = None
    no_interval: str = ""
    chance_band: tuple[float, float] | None = None
    headline: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", self.dataset or self.examples[-1][0])

    @property
    def n(self) -> int:
        return sum(len(indices) for _, indices in self.examples)


def resampled(metric: Metric, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """The figure on bootstrap resamples, float64 (resamples,), NaN where it is not defined; the same state of ``rng``
    gives the same resamples for every figure over as many examples."""
    strata = [len(indices) for _, indices in metric.examples]
    return np.array([metric.compute(bootstrap_weights(strata, rng)) for _ in range(resamples)], dtype=np.float64)


def interval_of(metric: Metric, value: float, draws: Callable[[], NDArray[np.float64]]) -> Interval | None:
    """The 95 % interval of a figure over examples; None where it has none or is not defined often enough.

    Args:
        metric: the figure.
        value: what it is on all examples.
        draws: gives the figure on resamples, where they are needed.
    """
    if metric.no_interval:
        return None
    if metric.interval is not None:
        return Interval(*metric.interval)
    if metric.successes is not None:
        return share_interval(int(metric.successes.sum()), metric.n)
    drawn = draws()
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) < len(drawn):
        return None
    # Interpolation between two figures has no answer where both are infinite.
    low, high = (float(end) for end in np.quantile(defined, [0.025, 0.975], method="inverted_cdf"))
    if not np.isfinite([low, high]).all():
        return None
    if metric.event:
        # A figure that turns on a threshold may jump, which its variance does not show and its quantiles do.
        bounded = bounded_interval(value, float(defined.var()), metric.event, metric.top)
        low, high = min(low, bounded.low), max(high, bounded.high)
    return Interval(min(low, value), max(high, value))


def mean_of(kind: MetricKind, values: NDArray, examples: Examples, **more: Any) -> Metric:
    """The mean of one value per example, (n,), from 0 up; ``more`` are attributes of :class:`Metric`."""
    if "event" not in more and values.min() >= 0 and 0 < values.max() < np.inf:
        # Without an end of the scale the largest value seen stands for what one more example may add.
        more = {"top": np.inf, "event": float(values.max()) / len(values)} | more
    return Metric(kind, lambda weights: weighted_mean(values, weights=weights), examples, **more)


def share_of(kind: MetricKind, flags: NDArray[np.bool_], examples: Examples, **more: Any) -> Metric:
    """The share of examples whose flag is set, bool (n,); ``more`` are attributes of :class:`Metric`."""
    return mean_of(kind, flags, examples, successes=flags, **more)


@dataclass(frozen=True)
class Results:
    """What a property sees after measuring.

    Attributes:
        context: what was planned with.
        records: per measurement, one row per example, sorted by ``index``.
        dataset: gives a dataset by name, for pictures.
        seed: the seed of the evaluation.
        memo: keeps what a :func:`view` worked out.
    """

    context: EvaluationContext
    records: Mapping[Measurement, pl.DataFrame]
    dataset: Callable[[str], Dataset]
    seed: int
    memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    def column(self, measurement: Measurement, name: str) -> NDArray:
        """One column of the records of a measurement."""
        return self.records[measurement][name].to_numpy()

    def examples(self, measurement: Measurement) -> Examples:
        """The examples of a measurement, as one stratum."""
        return ((measurement.dataset, self.column(measurement, "index")),)


def view(make: Callable[Concatenate[Results, P], T]) -> Callable[Concatenate[Results, P], T]:
    """Works something out once per results and arguments, however many metrics, warnings and charts are made of it."""

    @wraps(make)
    def remembered(results: Results, *args: P.args, **kwargs: P.kwargs) -> T:
        return results.memo.get((make, args, *kwargs.items()), lambda: make(results, *args, **kwargs))

    return remembered


@dataclass(frozen=True)
class Property:
    """One axis of safety. Registered in :mod:`hardy.evaluation.properties`; everything else reads the registry.

    Attributes:
        name: what it is called in code and on the command line.
        title: what it is called in the report.
        description: what it says about a classifier, in sentences.
        plan: from what there is to measure on to the measurements that are needed.
        metrics: from the results to the figures, in the order of the scorecard.
        functions: by name, what its measurements are made with.
        draw: from the results to the charts of the report.
        warnings: from the results to what a reader of the figures must know.
        needs: what has to be asked of a classifier for any of it.
        skipped: from the results to what measuring showed to be impossible, and why.
    """

    name: str
    title: str
    description: str
    plan: Callable[[EvaluationContext], Plan]
    metrics: Callable[[Results], list[Metric]]
    functions: Mapping[str, MeasurementFunction]
    draw: Callable[[Results], list[Chart]] = lambda _: []
    warnings: Callable[[Results], list[str]] = lambda _: []
    needs: Access = "images"
    skipped: Callable[[Results], list[Skipped]] = lambda _: []
