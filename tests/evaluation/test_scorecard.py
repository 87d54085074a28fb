"""The scorecard: what is written can be read again, by programs that know only the schema, too."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hardy.errors import RunError
from hardy.evaluation.scorecard import Environment, Estimate, Scorecard, Skip, Subject, json_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "scorecard.schema.json"

# What a terminal would obey is not written, so that it can be read.
texts = st.text(st.characters(exclude_categories=["C"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(texts, st.integers(-(2**53), 2**53), numbers, st.booleans())
metrics = st.builds(
    Estimate,
    property=texts,
    metric=texts,
    title=texts,
    unit=st.sampled_from(["share", "number"]),
    dataset=texts,
    setting=st.dictionaries(texts, values),
    value=numbers,
    low=numbers,
    high=numbers,
    n=st.integers(1, 10**9),
    higher_is_better=st.sampled_from([True, False, None]),
    headline=st.booleans(),
)


def scorecard_of(*figures: Estimate, **facts) -> Scorecard:
    subject = Subject(name="compact", architecture="compact", parameters=1, classes=10, weights_sha256="0" * 64)
    environment = Environment(
        command="hardy evaluate",
        hardy="0.1.0",
        git_commit=None,
        git_dirty=None,
        device="cpu",
        packages={"torch": "2"},
        data={"mnist/test": "0" * 64},
    )
    default = {"seed": 0, "budget": "standard", "properties": ["accuracy"]}
    return Scorecard(subject=subject, environment=environment, estimates=list(figures), **(default | facts))


def metric(**changes) -> Estimate:
    default = {
        "property": "accuracy",
        "metric": "accuracy",
        "title": "Accuracy",
        "unit": "share",
        "dataset": "mnist/test",
        "value": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 100,
        "higher_is_better": True,
    }
    return Estimate(**(default | changes))


@settings(max_examples=40, deadline=None)
@given(st.lists(metrics, max_size=3), st.lists(texts, max_size=2), st.one_of(st.none(), st.integers(1, 10**6)))
def test_what_is_written_can_be_read_again_and_fits_the_schema(tmp_path_factory, figures, warnings, limit) -> None:
    written = scorecard_of(
        *figures, warnings=warnings, limit=limit, skipped=[Skip(property="accuracy", reason=text) for text in warnings]
    )
    path = tmp_path_factory.getbasetemp() / "scorecard.json"
    written.write(path)
    assert Scorecard.read(path) == written
    assert Scorecard.read(path).to_json() == path.read_text(encoding="utf-8")
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), json_schema())


@pytest.mark.parametrize(
    "changes",
    [{"low": None}, {"low": None, "high": None}, {"no_interval": "why"}, {"high": None, "no_interval": "why"}],
)
def test_a_figure_has_both_ends_or_a_reason(changes: dict) -> None:
    with pytest.raises(ValidationError, match="low and high are numbers, or both null"):
        metric(**changes)
    none = metric(low=None, high=None, no_interval="why", chance_band=(0.25, 0.75))
    assert none.interval() is None
    assert "50.00% (by chance 25.00% to 75.00%)" in str(none)


def test_types_of_settings_are_kept(tmp_path: Path) -> None:
    setting = {"bins": 15, "eps": 1.0, "targeted": True, "attack": "pgd", "number": "15"}
    scorecard_of(metric(setting=setting)).write(tmp_path / "scorecard.json")
    found = Scorecard.read(tmp_path / "scorecard.json").estimates[0].setting
    assert found == setting
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in setting.items()}


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json_schema(), (
        "the schema has changed; publish it with 'python -m hardy.evaluation.scorecard > docs/scorecard.schema.json', "
        "and raise SCHEMA if a scorecard of before no longer fits"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def content() -> dict:
    return json.loads(scorecard_of(metric()).to_json())


def without(key: str) -> dict:
    return {name: value for name, value in content().items() if name != key}


@pytest.mark.parametrize(
    "wrong",
    [
        without("schema"),
        without("estimates"),
        content() | {"schema": 4},
        content() | {"unheard_of": 1},
        content() | {"budget": 7},
        content() | {"estimates": [content()["estimates"][0] | {"n": 0}]},
        content() | {"estimates": [content()["estimates"][0] | {"value": "high"}]},
        content() | {"estimates": [content()["estimates"][0] | {"setting": {"eps": None}}]},
    ],
)
def test_what_is_no_scorecard_fits_neither_the_schema_nor_the_reader(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())
    (tmp_path / "scorecard.json").write_text(json.dumps(wrong))
    with pytest.raises(RunError, match=r"scorecard\.json"):
        Scorecard.read(tmp_path / "scorecard.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read"),
        ('{"schema": 3, ', "cannot read"),
        (scorecard_of(metric()).to_json()[:-20], "cannot read"),
        ("\x80\x81", "no scorecard|cannot read"),
        ("[]", "is no scorecard: it names no schema"),
        ("7", "is no scorecard: it names no schema"),
        ("{}", "is no scorecard: it names no schema"),
        (json.dumps(content() | {"schema": 4}), "is of schema 4, and this hardy reads up to 3; upgrade hardy"),
        (
            json.dumps(content() | {"schema": 1}),
            "is of schema 1, from an older hardy; make it again",
        ),
        (json.dumps(content() | {"schema": "1"}), "is no scorecard: it names no schema"),
        (json.dumps(content() | {"schema": 0}), "is no scorecard: schema"),
        (json.dumps(content() | {"seed": "zero"}), "is no scorecard: seed: "),
        (scorecard_of(metric()).to_json().replace("0.25", "NaN"), r"is no scorecard: estimates\.0\.low"),
        (scorecard_of(metric()).to_json().replace("0.25", "-Infinity"), r"is no scorecard: estimates\.0\.low"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scorecard.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=message) as caught:
        Scorecard.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_scorecard_is_named_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no scorecard at .*gone\.json; make one with 'hardy evaluate'"):
        Scorecard.read(tmp_path / "gone.json")
    with pytest.raises(RunError, match="cannot read"):
        Scorecard.read(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_a_figure_is_finite(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        metric(**{field: value})


def test_a_scorecard_does_not_change(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        scorecard_of(metric()).seed = 1  # type: ignore[misc]


def test_a_metric_is_found_by_what_tells_it_apart() -> None:
    weak = metric(metric="robust_accuracy", setting={"attack": "pgd", "eps": 0.1})
    strong = metric(metric="robust_accuracy", setting={"attack": "pgd", "eps": 0.3})
    elsewhere = metric(metric="robust_accuracy", dataset="digits/test", setting={"attack": "pgd", "eps": 0.3})
    scorecard = scorecard_of(metric(), weak, strong, elsewhere)
    assert scorecard.find("accuracy", "robust_accuracy") is weak
    assert scorecard.find("accuracy", "robust_accuracy", eps=0.3) is strong
    assert scorecard.find("accuracy", "robust_accuracy", eps=0.3, dataset="digits/test") is elsewhere
    for wrong in ({"eps": 0.2}, {"norm": "l2"}, {"dataset": "glyphs/test"}):
        with pytest.raises(KeyError, match="no estimate accuracy/robust_accuracy"):
            scorecard.find("accuracy", "robust_accuracy", **wrong)


def test_an_estimate_is_found_by_its_name() -> None:
    weak = metric(property="adversarial", metric="robust_accuracy", value=0.6, setting={"eps": 0.1})
    strong = metric(property="adversarial", metric="robust_accuracy", setting={"eps": 0.3}, headline=True)
    flips = [metric(property="shift", metric="flip_rate", value=value) for value in (0.1, 0.2)]
    card = scorecard_of(metric(), weak, strong, metric(property="shift"), *flips)
    assert card["adversarial/robust_accuracy"] is card["robust_accuracy"] is strong
    assert card["shift/flip_rate"] is flips[0]
    assert card["accuracy"] is card.estimates[0]
    assert card["shift/accuracy"].property == "shift"
    assert float(card["robust_accuracy"]) == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adversarial/robust_acuracy", "no estimate 'adversarial/robust_acuracy': .* adversarial/robust_accuracy"),
        ("nothing like it", "no estimate 'nothing like it': .*calibration/ece"),
        ("ece", "several estimates 'ece': .*calibration/ece.*shift/ece|several .*shift/ece.*calibration/ece"),
        ("", "no estimate ''"),
    ],
)
def test_a_name_that_no_estimate_or_several_have_is_told_what_there_is(name: str, message: str) -> None:
    card = scorecard_of(
        metric(property="adversarial", metric="robust_accuracy"),
        metric(property="calibration", metric="ece"),
        metric(property="shift", metric="ece"),
    )
    with pytest.raises(KeyError, match=message):
        card[name]


def test_a_frame_has_one_row_per_estimate() -> None:
    card = scorecard_of(metric(setting={"eps": 0.3, "attack": "pgd"}), metric(value=0.25, higher_is_better=None))
    frame = card.to_frame()
    assert frame["value"].to_list() == [0.5, 0.25]
    assert [json.loads(text) for text in frame["setting"]] == [{"eps": 0.3, "attack": "pgd"}, {}]
    assert frame["higher_is_better"].to_list() == [True, None]
    assert len(scorecard_of().to_frame()) == 0


def test_a_notebook_shows_headlines_and_warnings_and_runs_nothing_of_them() -> None:
    card = scorecard_of(
        metric(headline=True, setting={"eps": 0.3}),
        metric(title="Not shown"),
        warnings=["<script>alert(1)</script>"],
    )
    page = card._repr_html_()
    assert "50.00% (25.00% to 75.00%)" in page
    assert "mnist/test, eps 0.3" in page
    assert "Not shown" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_what_is_printed_is_short() -> None:
    text = repr(scorecard_of(metric(headline=True, setting={"eps": 0.3}), *[metric()] * 100, warnings=["beware"]))
    assert text == str(
        scorecard_of(metric(headline=True, setting={"eps": 0.3}), *[metric()] * 100, warnings=["beware"])
    )
    assert text.splitlines() == [
        "Scorecard of compact: 101 estimates, 1 warnings, 0 skipped",
        "  accuracy/accuracy: 50.00% (25.00% to 75.00%); mnist/test, eps 0.3; 100 examples",
    ]
