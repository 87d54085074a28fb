"""``bundle.json``: what a bundle says of itself."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hardy.errors import BundleError

SCHEMA = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Model(_Strict):
    """An architecture of :data:`hardy.models.MODELS`, and what to build it with."""

    name: str
    arguments: dict[str, Any]


class Preprocessing(_Strict):
    """How pictures become what the network sees (:mod:`hardy.deployment.preprocessing`)."""

    form: Literal["mnist"] = "mnist"
    polarity: Literal["auto", "dark", "light"] = "auto"


class Rules(_Strict):
    """When to abstain, and on what that was set."""

    suspicion_above: float
    confidence_below: float
    target_refusal: float = Field(gt=0, lt=1, description="share of the validation images that all rules may refuse")
    set_on: str
    validation_refusal: dict[str, float] = Field(description="share refused there, in all and by each rule")


class Promise(_Strict):
    """What share of some kind of picture is refused, and how that may come out when it is measured again."""

    kind: str
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1, description="95 % prediction interval")
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


class Facts(_Strict):
    """The whole of ``bundle.json``."""

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    name: str
    hardy: str
    model: Model
    input: tuple[Literal[1], Literal[28], Literal[28]]
    classes: tuple[str, ...] = Field(min_length=2)
    weights_sha256: str
    training: dict[str, Any]
    preprocessing: Preprocessing
    calibrator: str
    detector: str
    prediction_sets: str
    alpha: float = Field(gt=0, lt=1)
    fitted_on: dict[str, str] = Field(description="what each part was fitted on, in words")
    data: dict[str, str] = Field(description="SHA-256 of each of these datasets")
    rules: Rules
    promises: tuple[Promise, ...]

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> Facts:
        """Read and check ``bundle.json``.

        Raises:
            BundleError: not JSON, no bundle's facts, or of a newer schema.
        """
        try:
            facts = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where} is not JSON: {error}") from None
        schema = facts.get("schema") if isinstance(facts, dict) else None
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise BundleError(f"{where} describes no bundle: it names no schema")
        if schema > SCHEMA:
            raise BundleError(f"{where} is of schema {schema}, and this hardy reads up to {SCHEMA}; upgrade hardy")
        try:
            return cls.model_validate(facts)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{where} describes no bundle: {place}: {first['msg']}") from None
