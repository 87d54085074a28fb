"""The scorecard: every figure with its interval, in one versioned JSON file.

The JSON Schema is published as ``docs/scorecard.schema.json``; a test keeps the two in step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hardy.errors import RunError
from hardy.files import write_text

SCHEMA = 2


class _Strict(BaseModel):
    # The schema is that of what is written, where no field is left out.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class Estimate(_Strict):
    """One figure with its 95 % interval: Wilson for a share of examples, bootstrap over examples for the rest."""

    property: str
    metric: str
    title: str = Field(description="the metric in words")
    unit: Literal["share", "number"] = Field(description="a share of something, from 0 to 1, reads as a percentage")
    bounds: tuple[float, float] | None = Field(default=None, description="the ends of the metric's scale")
    chance: float | None = Field(default=None, description="what guessing reaches, where that is known")
    dataset: str
    setting: dict[str, str | int | float | bool] = Field(default_factory=dict)
    value: float
    low: float
    high: float
    n: int = Field(ge=1, description="how many examples the figure is over")
    higher_is_better: bool | None = Field(description="null where neither direction is better")
    headline: bool = Field(default=False, description="shown first in the report")


class Skip(_Strict):
    """What could not be measured, and why."""

    property: str
    reason: str


class Subject(_Strict):
    """What was measured."""

    name: str
    architecture: str
    parameters: int
    classes: int
    weights_sha256: str
    training: dict[str, object] | None = Field(default=None, description="the resolved recipe, where hardy trained it")


class Environment(_Strict):
    """Where it was measured."""

    command: str
    hardy: str
    git_commit: str | None
    git_dirty: bool | None
    device: str
    packages: dict[str, str]
    data: dict[str, str] = Field(description="SHA-256 of each dataset's images and labels")


class Scorecard(_Strict):
    """All figures of one evaluation."""

    schema_version: Literal[2] = Field(default=SCHEMA, alias="schema")
    subject: Subject
    environment: Environment
    seed: int
    budget: Literal["quick", "standard", "full"]
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
        write_text(Path(path), self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> Scorecard:
        """Read and check a scorecard.

        Raises:
            RunError: no such file, not a scorecard, or of a newer schema.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"no scorecard at {path}; make one with 'hardy evaluate'") from None
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read the scorecard {path}: {error}") from error
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
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RunError(f"{path} is no scorecard: {place}: {first['msg']}") from error

    def find(self, property: str, metric: str, **setting: object) -> Estimate:
        """The first metric of that name whose setting holds the given values.

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
        raise KeyError(f"no metric {property}/{metric} with {setting}")


def json_schema() -> dict[str, object]:
    """The JSON Schema of a scorecard."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scorecard.model_json_schema(by_alias=True, mode="serialization"),
        "title": "hardy scorecard",
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
