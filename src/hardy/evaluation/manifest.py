"""What ``run.json`` says of an evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from hardy.errors import RunError
from hardy.evaluation.framework import EvaluationContext
from hardy.evaluation.scorecard import Environment, Strict, Subject, first_problem
from hardy.runs import MANIFEST, Run

SCHEMA = 2
_KEY = "evaluation"


class EvaluationManifest(Strict):
    """What the figures of an evaluation follow from, besides its records."""

    schema_version: Literal[2] = Field(default=SCHEMA, alias="schema")
    seed: int
    weights_sha256: str
    context: EvaluationContext
    data: dict[str, str] = Field(description="SHA-256 of each dataset's images and labels")
    in_memory: tuple[str, ...] = Field(description="datasets that were handed in, and cannot be loaded again")
    aliases: dict[str, str] = Field(default_factory=dict, description="by a dataset's name, what it is loaded by")
    classes: tuple[str, ...] = Field(default=(), description="the class names that labels are counted by")
    properties: list[str]
    environment: Environment
    subject: Subject
    warnings: list[str] = Field(description="of the classifier, before anything was measured")

    @classmethod
    def of(cls, run: Run) -> EvaluationManifest | None:
        """What a run holds; None where it was not evaluated.

        Raises:
            RunError: the evaluation was made by an older or newer hardy, or what is stored of it is damaged.
        """
        found = run.manifest.get(_KEY)
        if found is None:
            return None
        schema = found.get("schema", 1) if isinstance(found, dict) else None
        if isinstance(schema, int) and schema != SCHEMA:
            age = "older" if schema < SCHEMA else "newer"
            raise RunError(
                f"{run.path} holds an evaluation by {'an' * (age == 'older') or 'a'} {age} hardy; evaluate again into "
                "another folder with --out"
            )
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise RunError(f"{run.path / MANIFEST} is damaged: {_KEY}.{first_problem(error)}") from error

    def save(self, run: Run) -> None:
        """Write it into the run's manifest."""
        run.manifest[_KEY] = self.model_dump(mode="json", by_alias=True)
        run.save()
