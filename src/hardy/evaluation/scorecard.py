"""The scorecard: every figure with its interval, in one versioned JSON file.

The JSON Schema is published as ``docs/scorecard.schema.json``; a test keeps the two in step.
"""

from __future__ import annotations

import difflib
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hardy.errors import RunError
from hardy.files import read_json, write_json

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 3


class Strict(BaseModel):
    """Takes the fields that it names, finite and of their types, and does not change."""

    # The schema is that of what is written, where no field is left out.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class Estimate(Strict):
    """One figure with its 95 % interval over examples, or with the reason why it has none."""

    property: str
    metric: str
    title: str = Field(description="the metric in words")
    question: str = Field(default="", description="what a reader wants to know by it")
    unit: Literal["share", "number"] = Field(description="a share of something, from 0 to 1, reads as a percentage")
    bounds: tuple[float, float] | None = Field(default=None, description="the ends of the metric's scale")
    chance: float | None = Field(default=None, description="what guessing reaches, where that is known")
    dataset: str
    setting: dict[str, str | int | float | bool] = Field(default_factory=dict)
    value: float
    low: float | None = Field(description="lower end of the 95 % interval; null where there is none")
    high: float | None = Field(description="upper end; null where there is none")
    no_interval: str = Field(default="", description="why there is no interval; empty where there is one")
    chance_band: tuple[float, float] | None = Field(
        default=None,
        description="the middle 95 % of what chance alone makes of this figure: of a calibration error, for a "
        "classifier that is perfectly calibrated; of coverage, for prediction sets that keep their promise",
    )
    n: int = Field(ge=1, description="how many examples the figure is over")
    higher_is_better: bool | None = Field(description="null where neither direction is better")
    headline: bool = Field(default=False, description="shown first in the report")
    warnings: tuple[str, ...] = Field(default=(), description="why this very figure may mislead")

    @model_validator(mode="after")
    def _interval_or_reason(self) -> Estimate:
        ends = [end for end in (self.low, self.high) if end is not None]
        if len(ends) != (0 if self.no_interval else 2):
            raise ValueError("low and high are numbers, or both null and no_interval says why")
        return self

    def interval(self) -> tuple[float, float] | None:
        """``low`` and ``high``; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        suspect = "".join(f"; suspect: {warning}" for warning in self.warnings)
        return f"{self.property}/{self.metric}: {_interval(self)}; {_where(self)}; {self.n} examples{suspect}"

    __str__ = __repr__


class Skip(Strict):
    """What could not be measured, and why."""

    property: str
    reason: str


class Subject(Strict):
    """What was measured."""

    name: str
    architecture: str
    parameters: int
    classes: int
    weights_sha256: str
    training: dict[str, object] | None = Field(default=None, description="the resolved recipe, where hardy trained it")


class Environment(Strict):
    """Where it was measured."""

    command: str
    hardy: str
    git_commit: str | None
    git_dirty: bool | None
    device: str
    packages: dict[str, str]
    data: dict[str, str] = Field(description="SHA-256 of each dataset's images and labels")


class Scorecard(Strict):
    """All figures of one evaluation."""

    schema_version: Literal[3] = Field(default=SCHEMA, alias="schema")
    subject: Subject
    environment: Environment
    seed: int
    budget: str = Field(description="quick, standard, full or the user's own")
    limit: int | None = None
    properties: list[str]
    estimates: list[Estimate]
    warnings: list[str] = Field(default_factory=list)
    skipped: list[Skip] = Field(default_factory=list)

    model_config = ConfigDict(populate_by_name=True)

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False) + "\n"

    def write(self, path: str | Path) -> None:
        """Replace ``path`` in one step."""
        write_json(Path(path), self.model_dump(mode="json", by_alias=True))

    @classmethod
    def read(cls, path: str | Path) -> Scorecard:
        """Read and check a scorecard.

        Raises:
            RunError: no such file, not a scorecard, or of a newer schema.
        """
        try:
            content = read_json(Path(path), RunError)
        except FileNotFoundError:
            raise RunError(f"no scorecard at {path}; make one with 'hardy evaluate'") from None
        found = content.get("schema") if isinstance(content, dict) else None
        if not isinstance(found, int):
            raise RunError(f"{path} is no scorecard: it names no schema")
        if 0 < found < SCHEMA:
            raise RunError(f"{path} is of schema {found}, from an older hardy; make it again with 'hardy evaluate'")
        if found > SCHEMA:
            raise RunError(f"{path} is of schema {found}, and this hardy reads up to {SCHEMA}; upgrade hardy")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RunError(f"{path} is no scorecard: {first_problem(error)}") from error

    def __getitem__(self, name: str) -> Estimate:
        """The headline estimate, else the first, of ``property/metric``; ``accuracy`` is ``accuracy/accuracy``, and a
        metric that only one property has needs no property in front.

        Raises:
            KeyError: there is none, or several properties have it; the message names what there is.
        """
        known = {f"{it.property}/{it.metric}": it for it in reversed(self.estimates)}
        known |= {f"{it.property}/{it.metric}": it for it in reversed(self.estimates) if it.headline}
        found = [key for key in known if key in (name, f"{name}/{name}")] or [
            key for key in known if key.endswith(f"/{name}")
        ]
        if len(found) == 1:
            return known[found[0]]
        near = found or difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
        raise KeyError(f"{'several estimates' if found else 'no estimate'} '{name}': there are {', '.join(near)}")

    def to_frame(self) -> pl.DataFrame:
        """One row per estimate; ``setting`` and ``warnings`` are JSON text, and ``low`` and ``high`` bound the 95 %
        interval, if any."""
        import polars as pl

        names = ("property", "metric", "dataset", "value", "low", "high", "n", "higher_is_better", "headline")
        columns = {name: [getattr(it, name) for it in self.estimates] for name in names}
        texts = {name: [json.dumps(getattr(it, name)) for it in self.estimates] for name in ("setting", "warnings")}
        return pl.DataFrame(columns | texts)

    def __repr__(self) -> str:
        lines = [str(it) for it in self.estimates if it.headline]
        return "\n  ".join([f"Scorecard of {self.subject.name}: {self._counts()}", *lines])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What a notebook shows: the headline estimates and the warnings."""
        head = ("Property", "Metric", "Value (95 % interval)", "Measured on", "Examples")
        rows = [
            (it.property, it.title, _interval(it) + " ⚠ suspect" * bool(it.warnings), _where(it), f"{it.n:,}")
            for it in self.estimates
            if it.headline
        ]
        table = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        return (
            f"<b>{escape(self.subject.name)}</b><table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"
            f"{''.join(table)}</table><p>{self._counts()}</p>"
            f"<ul>{''.join(f'<li>{escape(warning)}</li>' for warning in self.warnings)}</ul>"
        )

    def _counts(self) -> str:
        return f"{len(self.estimates)} estimates, {len(self.warnings)} warnings, {len(self.skipped)} skipped"

    def find(self, property: str, metric: str, **setting: object) -> Estimate:
        """The first estimate of that metric whose setting holds the given values.

        Raises:
            KeyError: there is none.
        """
        for candidate in self.estimates:
            if (
                candidate.property == property
                and candidate.metric == metric
                and setting.items() <= {"dataset": candidate.dataset, **candidate.setting}.items()
            ):
                return candidate
        raise KeyError(f"no estimate {property}/{metric} with {setting}")


def _interval(estimate: Estimate) -> str:
    form = "{:.2%}" if estimate.unit == "share" else "{:.4g}"
    bounds = estimate.interval() or estimate.chance_band
    if bounds is None:
        return form.format(estimate.value)
    value, low, high = map(form.format, (estimate.value, *bounds))
    return f"{value} ({'' if estimate.interval() else 'by chance '}{low} to {high})"


def _where(estimate: Estimate) -> str:
    return ", ".join([estimate.dataset, *(f"{name} {value}" for name, value in estimate.setting.items())])


def first_problem(error: ValidationError) -> str:
    """Where a file does not fit, and why."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def json_schema() -> dict[str, object]:
    """The JSON Schema of a scorecard."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scorecard.model_json_schema(by_alias=True, mode="serialization"),
        "title": "hardy scorecard",
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
