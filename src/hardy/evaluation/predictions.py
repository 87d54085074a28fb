"""The measure that most properties share: what the classifier answers, as logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn

from hardy.errors import ContractError
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Results, Shard
from hardy.models import Ensemble


def measure_predictions(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,
    *,
    seed: int,  # noqa: ARG001
    batch_size: int,
) -> Columns:
    """``logits``, float32 (N, K).

    Raises:
        ContractError: logits that are not finite.
    """
    with torch.no_grad():
        logits = torch.cat([classifier(batch).float() for batch in shard.images.split(batch_size)])
    return {"logits": finite_logits(logits, shard, measurement)}


def measure_members(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,
    *,
    seed: int,  # noqa: ARG001
    batch_size: int,
) -> Columns:
    """``logits``, float32 (N, MK): what each member of an ensemble answers, one member after another.

    Raises:
        ContractError: no ensemble, or logits that are not finite.
    """
    if not isinstance(classifier, Ensemble):
        raise ContractError(f"{type(classifier).__name__} has no members; the answers of members are an ensemble's")
    with torch.no_grad():
        members = torch.cat([classifier.member_logits(batch).float() for batch in shard.images.split(batch_size)], 1)
    return {"logits": finite_logits(members.transpose(0, 1).flatten(1), shard, measurement)}


def finite_logits(logits: Tensor, shard: Shard, measurement: Measurement) -> NDArray[np.float32]:
    """The logits on the host; :class:`ContractError` where they are not finite, which the door sees of some only."""
    broken = shard.indices[~logits.isfinite().all(1)]
    if len(broken):
        raise ContractError(
            f"the classifier returns NaN or infinity for {len(broken)} of {len(logits)} images of "
            f"{measurement.dataset}, the first at index {int(broken[0])}; logits are finite"
        )
    return logits.cpu().numpy()


MEASUREMENT_FUNCTIONS = {"predict": measure_predictions, "predict_members": measure_members}


def test_measurement(context: EvaluationContext) -> Measurement:
    """The predictions on the test split: one cell for all properties that read them."""
    return prediction_measurement(context, context.dataset)


def prediction_measurement(context: EvaluationContext, dataset: str) -> Measurement:
    """The predictions on one dataset."""
    return Measurement.of("predict", dataset, context.examples(dataset))


def members_measurement(context: EvaluationContext, dataset: str) -> Measurement:
    """The members' predictions on one dataset."""
    return Measurement.of("predict_members", dataset, context.examples(dataset))


class Predictions(NamedTuple):
    """The records of a prediction cell as arrays, one entry an example.

    Attributes:
        indices: int64 (N,).
        labels: int64 (N,).
        log_probabilities: float64 (N, K).
        predicted: int64 (N,).
        correct: bool (N,).
        logits: float32 (N, K).
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    log_probabilities: NDArray[np.float64]
    predicted: NDArray[np.int64]
    correct: NDArray[np.bool_]
    logits: NDArray[np.float32]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """float64 (N,): the probability of the predicted class."""
        return np.exp(self.log_probabilities.max(axis=1))


def predictions_of(results: Results, measurement: Measurement) -> Predictions:
    """Read the records of a prediction cell."""
    records: pl.DataFrame = results.records[measurement]
    logits = records["logits"].to_numpy()
    labels = records["label"].to_numpy()
    predicted = logits.argmax(axis=1)
    return Predictions(
        indices=records["index"].to_numpy(),
        labels=labels,
        log_probabilities=log_softmax(logits.astype(np.float64), axis=1),
        predicted=predicted,
        correct=predicted == labels,
        logits=logits,
    )


def member_logits_of(results: Results, dataset: str) -> NDArray[np.float32]:
    """Read the records of a cell of members' predictions: float32 (M, N, K)."""
    logits = results.records[members_measurement(results.context, dataset)]["logits"].to_numpy()
    return logits.reshape(len(logits), results.context.members, -1).transpose(1, 0, 2)
