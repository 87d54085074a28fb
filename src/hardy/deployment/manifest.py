"""``bundle.json``: what a bundle contains, when it abstains, and what was measured of that."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hardy.errors import BundleError
from hardy.files import parse_json

SCHEMA = 3


Form: TypeAlias = Literal["mnist", "resize"]
Role: TypeAlias = Literal["answer", "fitted", "held out"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


Side: TypeAlias = Annotated[int, Field(ge=1, le=4096)]


class Model(_Frozen):
    """An architecture of :data:`hardy.models.MODELS`, and its arguments."""

    name: str
    arguments: dict[str, Any]


class Preprocessing(_Frozen):
    """How images become what the network sees: as MNIST's were made (:mod:`hardy.deployment.preprocessing`), or
    resized and cropped (:mod:`hardy.deployment.resizing`)."""

    form: Form = "mnist"
    polarity: Literal["auto", "dark", "light"] = "auto"


class Rules(_Frozen):
    """When to abstain, and the images that the thresholds were fitted on."""

    max_ood_score: float
    min_confidence: float
    target_refusal: float = Field(gt=0, lt=1, description="share of the validation images that all rules may refuse")
    fitted_on: str
    validation_refusal: dict[str, float] = Field(description="share refused of them, by all rules and by each")


class RefusalEstimate(_Frozen):
    """The share of some kind of image that is refused, and where the share of a new measurement would lie."""

    kind: str
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1, description="95 % prediction interval")
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    role: Role = Field(
        description="whether it should be answered, or else refused; of the latter, whether anything was fitted on it"
    )


class BundleManifest(_Frozen):
    """The whole of ``bundle.json``."""

    schema_version: Literal[3] = Field(default=SCHEMA, alias="schema")
    name: str
    hardy: str
    model: Model
    input: tuple[Literal[1, 3], Side, Side]
    classes: tuple[str, ...] = Field(min_length=2)
    weights_sha256: str
    training: dict[str, Any]
    preprocessing: Preprocessing
    calibrator: str
    detector: str
    prediction_sets: str
    alpha: float = Field(gt=0, lt=1)
    fitted_on: dict[str, str] = Field(description="what each part was fitted on")
    data: dict[str, str] = Field(description="SHA-256 of each of these datasets")
    rules: Rules
    refusal_estimates: tuple[RefusalEstimate, ...]

    def worst(self) -> RefusalEstimate:
        """Of the kinds of images that should be refused and that nothing was fitted on, what is refused the least."""
        return min((it for it in self.refusal_estimates if it.role == "held out"), key=lambda it: it.rate)

    def mean_refusal(self) -> float:
        """The mean over the kinds of images that should be refused and that nothing was fitted on."""
        rates = [it.rate for it in self.refusal_estimates if it.role == "held out"]
        return sum(rates) / len(rates)

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> BundleManifest:
        """Read and check ``bundle.json``.

        Raises:
            BundleError: not JSON, not the manifest of a bundle, or of another schema.
        """
        found = parse_json(content, where, BundleError)
        schema = found.get("schema") if isinstance(found, dict) else None
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise BundleError(f"{where} describes no bundle: it names no schema")
        if schema > SCHEMA:
            raise BundleError(f"{where} is of schema {schema}, and this hardy reads up to {SCHEMA}; upgrade hardy")
        if schema < SCHEMA:
            raise BundleError(
                f"{where} is of schema {schema}, which is no longer read; make it again: hardy bundle RUN"
            )
        try:
            manifest = cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{where} describes no bundle: {place}: {first['msg']}") from None
        if manifest.preprocessing.form == "mnist" and manifest.input != (1, 28, 28):
            raise BundleError(f"{where} describes no bundle: input: images in MNIST's form are (1, 28, 28)")
        return manifest
