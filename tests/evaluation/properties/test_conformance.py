"""What every registered property has to keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import bundle_of
from helpers.cheap import tiny
from helpers.classifiers import small_classifier

from hardy.data import load_dataset
from hardy.evaluation.budget import BUDGETS, Budget
from hardy.evaluation.charts import Chart, Gallery, Histogram, LineChart, Matrix, Table
from hardy.evaluation.evaluate import estimate, evaluate, load_results
from hardy.evaluation.framework import EvaluationContext, Property, Results
from hardy.evaluation.properties import PROPERTIES, measurement_functions
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import Subject
from hardy.models.weights import weights_sha256
from hardy.ood import Detector
from hardy.report.page import Section, write_report
from hardy.runs import Run

LIMIT = 40


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every property, measured on a few digits."""
    out = tmp_path_factory.mktemp("conformance") / "run"
    classifier, test = small_classifier(), load_dataset("mnist/test")
    bundle = bundle_of(
        classifier, Detector("energy", {}), test.floats(slice(0, 50)), test.labels[:50], max_ood_score=0.0
    )
    subject = Subject("small", classifier, "SmallNet", weights_sha256(classifier), bundle=bundle)
    evaluate(subject, out=out, budget=tiny("standard"), limit=LIMIT, device="cpu")
    return out


@pytest.fixture(scope="module")
def results(evaluated: Path) -> Results:
    return load_results(Run.open(evaluated))[1]


properties = pytest.mark.parametrize("prop", PROPERTIES.values(), ids=PROPERTIES)


def context_of(
    budget: Budget, limit: int | None = None, validation: str | None = "mnist/validation"
) -> EvaluationContext:
    sizes = {"mnist/test": 10_000, "mnist/validation": 5_000, "glyphs/test": 1_980}
    return EvaluationContext(
        "mnist/test", "mnist/validation", ("glyphs/test",), {"kmnist/test": "not at hand"}, sizes, 10, budget, limit
    )


@properties
def test_a_property_is_registered_under_its_name_and_says_what_it_is(prop: Property) -> None:
    assert PROPERTIES.find(prop.name) is prop
    assert prop.title[0].isupper()
    assert prop.description.endswith(".")
    assert prop.functions.items() <= measurement_functions().items()


@properties
@pytest.mark.parametrize("limit", [None, 7])
def test_a_plan_is_a_function_of_what_is_at_hand(prop: Property, limit: int | None) -> None:
    spent = []
    for budget in BUDGETS.values():
        context = context_of(budget, limit)
        planned, again = prop.plan(context), prop.plan(context)
        assert list(planned.measurements) == list(again.measurements)
        assert list(planned.skipped) == list(again.skipped)
        assert len(set(planned.measurements)) == len(planned.measurements)
        for measurement in planned.measurements:
            assert measurement_functions()[measurement.function] is prop.functions[measurement.function]
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
    context = EvaluationContext("mnist/test", None, (), {}, {"mnist/test": 10_000}, 10, BUDGETS["standard"])
    planned = prop.plan(context)
    assert planned.measurements or planned.skipped
    assert {measurement.dataset for measurement in planned.measurements} <= {"mnist/test"}


@properties
def test_every_metric_is_one_figure_with_its_interval(prop: Property, results: Results) -> None:
    metrics = prop.metrics(results)
    assert metrics
    identities = [
        (it.kind.name, it.dataset, json.dumps(dict(it.setting), sort_keys=True), len(it.examples)) for it in metrics
    ]
    assert len(set(identities)) == len(identities)
    for metric in metrics:
        assert metric.n >= 1
        for dataset, indices in metric.examples:
            assert len(np.unique(indices)) == len(indices)
            assert indices.max() < results.context.sizes[dataset]
        value = metric.compute(np.ones(metric.n))
        assert isinstance(value, float)
        shown = estimate(prop.name, metric, results.seed)
        if shown is None:
            continue
        assert (shown.interval() is None) == bool(metric.no_interval)
        if shown.low is None or shown.high is None:
            continue
        assert shown.low <= shown.high
        if metric.successes is not None:
            assert value == pytest.approx(metric.successes.mean())
        assert shown.low - 1e-9 <= value <= shown.high + 1e-9, (metric.kind.name, metric.setting)
        # No figure is known exactly from a few dozen images.
        assert shown.low < shown.high, (metric.kind.name, metric.setting)


@properties
def test_what_a_metric_says_of_itself_holds(prop: Property, results: Results) -> None:
    titles: dict[str, set[str]] = {}
    for metric in prop.metrics(results):
        kind = metric.kind
        titles.setdefault(kind.title, set()).add(kind.name)
        assert kind.title[0].isupper()
        assert bool(kind.question) or not metric.headline, kind.name
        assert kind.question == "" or kind.question.endswith("?")
        if kind.bounds is not None:
            low, high = kind.bounds
            value = metric.compute(np.ones(metric.n))
            assert np.isnan(value) or low <= value <= high, kind.name
            assert kind.chance is None or low <= kind.chance <= high, kind.name
    assert all(len(names) == 1 for names in titles.values()), titles


def test_metrics_of_one_name_are_of_one_kind(results: Results) -> None:
    kinds: dict[str, set[tuple]] = {}
    for prop in PROPERTIES.values():
        for metric in prop.metrics(results):
            kind = metric.kind
            kinds.setdefault(kind.name, set()).add((kind.title, kind.unit, kind.bounds, kind.higher_is_better))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@properties
def test_metrics_and_warnings_do_not_depend_on_when_they_are_asked_for(prop: Property, results: Results) -> None:
    fresh = Results(results.context, results.records, results.dataset, results.seed)
    before = prop.warnings(fresh), prop.draw(fresh)
    ones = [[it.compute(np.ones(it.n)) for it in prop.metrics(given)] for given in (results, results, fresh)]
    assert np.array_equal(ones[0], ones[1], equal_nan=True)
    assert np.array_equal(ones[0], ones[2], equal_nan=True)
    assert prop.warnings(results) == before[0]
    assert [chart.title for chart in prop.draw(results)] == [chart.title for chart in before[1]]


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
