"""What every registered property, score and augmentation has to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cheap import make_attacks_cheaper, make_detection_cheaper, make_shift_cheaper
from helpers.classifiers import small_classifier, some_digits

from hardy.augmentations import AUGMENTATIONS, augment
from hardy.evaluation.charts import Chart, Gallery, Histogram, LineChart, Matrix, Table
from hardy.evaluation.evaluate import estimate, evaluate, load_results
from hardy.evaluation.framework import Budget
from hardy.evaluation.properties import (
    MEASUREMENT_FUNCTIONS,
    PROPERTIES,
    EvaluationContext,
    Property,
    Results,
    get_property,
)
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import Subject
from hardy.models.weights import weights_sha256
from hardy.ood import SCORES
from hardy.report.page import Section, write_report
from hardy.rng import Randomness
from hardy.runs import Run

LIMIT = 40
BUDGETS: tuple[Budget, ...] = ("quick", "standard", "full")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every property, measured on a few digits."""
    out = tmp_path_factory.mktemp("conformance") / "run"
    classifier = small_classifier()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardy.evaluation.evaluate.RESAMPLES", 40)
        make_attacks_cheaper(patch)
        make_shift_cheaper(patch)
        make_detection_cheaper(patch)
        subject = Subject("small", classifier, "SmallNet", weights_sha256(classifier))
        evaluate(subject, out=out, budget="quick", limit=LIMIT, device="cpu")
        yield out


@pytest.fixture(scope="module")
def results(evaluated: Path) -> Results:
    return load_results(Run.open(evaluated))[1]


properties = pytest.mark.parametrize("prop", PROPERTIES.values(), ids=PROPERTIES)


def plan_of(budget: Budget, limit: int | None = None, validation: str | None = "mnist/validation") -> EvaluationContext:
    sizes = {"mnist/test": 10_000, "mnist/validation": 5_000, "glyphs/test": 1_980}
    return EvaluationContext(
        "mnist/test", validation, ("glyphs/test",), {"kmnist/test": "not at hand"}, sizes, 10, budget, limit
    )


@properties
def test_a_property_is_registered_under_its_name_and_says_what_it_is(prop: Property) -> None:
    assert get_property(prop.name) is prop
    assert prop.title[0].isupper()
    assert prop.description.endswith(".")
    assert prop.functions.keys() <= MEASUREMENT_FUNCTIONS.keys()


@properties
@pytest.mark.parametrize("limit", [None, 7])
def test_a_plan_is_a_function_of_what_is_at_hand(prop: Property, limit: int | None) -> None:
    spent = []
    for budget in BUDGETS:
        context = plan_of(budget, limit)
        planned, again = prop.plan(context), prop.plan(context)
        assert list(planned.measurements) == list(again.measurements)
        assert list(planned.skipped) == list(again.skipped)
        assert len(set(planned.measurements)) == len(planned.measurements)
        for measurement in planned.measurements:
            assert MEASUREMENT_FUNCTIONS[measurement.function] is prop.functions[measurement.function]
            assert 1 <= measurement.examples <= context.sizes[measurement.dataset]
            assert limit is None or measurement.examples <= limit
            assert json.loads(json.dumps(measurement.settings)) == measurement.settings
        for skip in planned.skipped:
            assert skip.property == prop.name
            assert skip.reason
        spent.append(sum(measurement.examples for measurement in planned.measurements))
    assert spent == sorted(spent)


@properties
def test_a_property_does_without_validation_and_out_of_distribution_data(prop: Property) -> None:
    context = EvaluationContext("mnist/test", None, (), {}, {"mnist/test": 10_000}, 10, "standard", None)
    planned = prop.plan(context)
    assert planned.measurements or planned.skipped
    assert {measurement.dataset for measurement in planned.measurements} <= {"mnist/test"}


@properties
def test_every_statistic_is_one_figure_with_its_interval(prop: Property, results: Results) -> None:
    statistics = prop.metrics(results)
    assert statistics
    identities = [
        (it.metric, it.dataset, json.dumps(dict(it.setting), sort_keys=True), len(it.examples)) for it in statistics
    ]
    assert len(set(identities)) == len(identities)
    for statistic in statistics:
        assert statistic.n >= 1
        for dataset, indices in statistic.examples:
            assert len(np.unique(indices)) == len(indices)
            assert indices.max() < results.context.sizes[dataset]
        value = statistic.compute(np.ones(statistic.n))
        assert isinstance(value, float)
        assert not np.isinf(value)
        metric = estimate(prop.name, statistic, results.seed)
        if metric is None:
            continue
        assert metric.low <= metric.high
        # A bootstrap's interval need not hold the figure where it is biased, but is not far from it.
        slack = metric.high - metric.low + 1e-9
        assert metric.low - slack <= metric.value <= metric.high + slack
        if statistic.successes is not None:
            assert value == pytest.approx(statistic.successes.mean())
            assert metric.low <= value <= metric.high


@properties
def test_statistics_and_pictures_do_not_depend_on_when_they_are_asked_for(prop: Property, results: Results) -> None:
    ones = [[it.compute(np.ones(it.n)) for it in prop.metrics(results)] for _ in range(2)]
    assert np.array_equal(*ones, equal_nan=True)
    assert prop.warnings(results) == prop.warnings(results)


@properties
def test_pictures_hold_together(prop: Property, results: Results) -> None:
    charts = prop.draw(results)
    assert charts
    assert len({chart.title for chart in charts}) == len(charts)
    for chart in charts:
        assert chart.title
        assert chart.caption.endswith(".")
        check_chart(chart)


def check_chart(chart: Chart) -> None:
    match chart:
        case LineChart():
            assert chart.series
            for series in chart.series:
                shapes = {
                    np.shape(values) for values in (series.x, series.y, series.low, series.high) if values is not None
                }
                assert len(shapes) == 1, series.name
                assert np.isfinite(series.x).all()
                assert np.isfinite(series.y).all()
                assert not chart.log_y or (series.y > 0).all()
                for limits, values in ((chart.x_limits, series.x), (chart.y_limits, series.y)):
                    assert limits is None or (values.min() >= limits[0] - 1e-9 and values.max() <= limits[1] + 1e-9)
        case Histogram():
            assert (np.diff(chart.edges) >= 0).all()
            for share in chart.shares.values():
                assert len(share) == len(chart.edges) - 1
                assert share.sum() == pytest.approx(1.0)
        case Matrix():
            assert chart.counts.shape == (len(chart.names), len(chart.names))
            assert (chart.counts >= 0).all()
        case Gallery():
            for picture in (picture for row in chart.rows for picture in row):
                assert np.ndim(picture.image) == 2 or np.shape(picture.image)[2] == 3
                assert picture.image.min() >= (-1.0 if picture.signed else 0.0)
                assert picture.image.max() <= 1.0
            assert not chart.columns or {len(row) for row in chart.rows} == {len(chart.columns)}
        case Table():
            assert {len(row) for row in chart.rows} <= {len(chart.header)}


@properties
def test_pictures_can_be_drawn(prop: Property, results: Results, evaluated: Path, tmp_path: Path) -> None:
    scorecard = Scorecard.read(evaluated / "scorecard.json")
    section = Section(prop.name, prop.title, prop.description, prop.draw(results))
    write_report(tmp_path / "report.html", scorecard, [section])
    assert prop.title in (tmp_path / "report.html").read_text()


scores = pytest.mark.parametrize("name", SCORES)


@scores
def test_a_score_is_higher_the_less_there_is_to_go_by(name: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 10)).astype(np.float32)
    found = SCORES[name](logits)
    assert found.shape == (50,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    rising = np.stack([size * np.eye(10)[3] for size in (0.0, 1.0, 5.0, 30.0, 200.0)]).astype(np.float32)
    assert (np.diff(SCORES[name](rising)) < 0).all()


@scores
def test_a_score_of_an_example_is_its_own(name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    alone = np.concatenate([SCORES[name](logits[row : row + 1]) for row in range(20)])
    assert np.allclose(SCORES[name](logits), alone, rtol=1e-12)
    assert SCORES[name](logits[:0]).shape == (0,)


@scores
def test_a_score_says_what_it_is(name: str) -> None:
    assert (SCORES[name].__doc__ or "").startswith("(N,): ")


AUGMENTED = {
    "rotate": {"degrees": 20.0},
    "translate": {"fraction": 0.2},
    "shift": {"pixels": 2},
    "scale": {"fraction": 0.2},
    "shear": {"degrees": 15.0},
    "affine": {"degrees": 10.0, "shear": 10.0, "scale": 0.1, "fraction": 0.1},
    "elastic": {"pixels": 1.0},
    "gaussian_noise": {"deviation": 0.3},
    "uniform_noise": {"amount": 0.3},
    "impulse_noise": {"amount": 0.1},
    "erase": {"area": 0.3},
    "invert_part": {"area": 0.5},
    "strokes": {"count": 2, "width": 3.0},
    "contrast": {"loss": 0.7},
    "invert": {"probability": 0.5},
    "shade": {"weight": 0.7},
    "blur": {"deviation": 1.5},
    "random_convolution": {"weight": 0.9},
    "augmix": {"severity": 3.0},
    "pixmix": {"beta": 3.0, "severity": 3.0},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_stays_in_range_and_belongs_to_the_example(name: str) -> None:
    assert name in AUGMENTED, "add settings for the new augmentation to AUGMENTED"
    images, labels, indices = some_digits()
    rng, steps = Randomness(0, indices, ("training", 1)), {name: AUGMENTED[name]}
    augmented = augment(images, labels, rng, steps)[0]
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.isfinite().all()
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert not torch.equal(augmented, images)
    assert torch.equal(augment(images, labels, rng, steps)[0], augmented)
    some = torch.tensor([7, 3, 11])
    assert torch.allclose(augment(images[some], labels[some], rng.select(some), steps)[0], augmented[some], atol=1e-6)
    assert not torch.equal(augment(images, labels, Randomness(0, indices, ("training", 2)), steps)[0], augmented)
