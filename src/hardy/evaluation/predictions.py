"""What most properties measure: the logits that the classifier, or each member of an ensemble, answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn

from hardy.errors import ContractError
from hardy.evaluation.framework import Columns, EvaluationContext, Examples, Measurement, Results, Shard, view
from hardy.models import Ensemble, predict_logits


def measure_predictions(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, batch_size: int, **_: object
) -> Columns:
    """``logits``, float32 (N, K).

    Raises:
        ContractError: logits that are not finite.
    """
    return {"logits": _finite(predict_logits(classifier, shard.images, batch_size), shard, measurement)}


def measure_members(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, batch_size: int, **_: object
) -> Columns:
    """``logits``, float32 (N, MK): what each member of an ensemble answers, one member after another.

    Raises:
        ContractError: no ensemble, or logits that are not finite.
    """
    if not isinstance(classifier, Ensemble):
        raise ContractError(f"{type(classifier).__name__} has no members; only an ensemble's members can be measured")
    with torch.no_grad():
        members = torch.cat([classifier.member_logits(batch).float() for batch in shard.images.split(batch_size)], 1)
    return {"logits": _finite(members.transpose(0, 1).flatten(1), shard, measurement)}


def _finite(logits: Tensor, shard: Shard, measurement: Measurement) -> NDArray[np.float32]:
    # check_classifier sees only some of the images.
    broken = shard.indices[~logits.isfinite().all(1)]
    if len(broken):
        raise ContractError(
            f"the classifier returns NaN or infinity for {len(broken)} of {len(logits)} images of "
            f"{measurement.dataset}, the first at index {int(broken[0])}; logits are finite"
        )
    return logits.cpu().numpy()


PREDICTION_FUNCTIONS = {"predict": measure_predictions, "predict_members": measure_members}


def test_measurement(context: EvaluationContext) -> Measurement:
    """The predictions on the test split, one measurement for all properties that read them."""
    return prediction_measurement(context, context.dataset)


def prediction_measurement(context: EvaluationContext, dataset: str) -> Measurement:
    """The predictions on one dataset."""
    return Measurement.of("predict", dataset, context.examples(dataset))


def members_measurement(context: EvaluationContext, dataset: str) -> Measurement:
    """The members' predictions on one dataset."""
    return Measurement.of("predict_members", dataset, context.examples(dataset))


@dataclass(frozen=True)
class Predictions:
    """The records of a measurement of predictions as arrays, one entry per example.

    Attributes:
        examples: the dataset and the indices.
        labels: int64 (N,).
        logits: float32 (N, K).
    """

    examples: Examples
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def dataset(self) -> str:
        return self.examples[0][0]

    @property
    def indices(self) -> NDArray[np.int64]:
        """int64 (N,)."""
        return self.examples[0][1]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (N,)."""
        return self.logits.argmax(axis=1)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """bool (N,)."""
        return self.predicted == self.labels

    @cached_property
    def log_probabilities(self) -> NDArray[np.float64]:
        """float64 (N, K)."""
        return log_softmax(self.logits.astype(np.float64), axis=1)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """float64 (N,): the probability of the predicted class."""
        return np.exp(self.log_probabilities.max(axis=1))

    def at(self, places: NDArray) -> Predictions:
        """Some of them, by a flag per example, bool (N,), or by their places."""
        return Predictions(((self.dataset, self.indices[places]),), self.labels[places], self.logits[places])


@view
def predictions_of(results: Results, measurement: Measurement) -> Predictions:
    """Read the records of a measurement of predictions."""
    labels, logits = (results.column(measurement, name) for name in ("label", "logits"))
    return Predictions(results.examples(measurement), labels, logits)


def member_logits_of(results: Results, dataset: str) -> NDArray[np.float32]:
    """Read the records of the members' predictions on a dataset: float32 (M, N, K)."""
    logits = results.column(members_measurement(results.context, dataset), "logits")
    return logits.reshape(len(logits), results.context.members, -1).transpose(1, 0, 2)
