"""Classifiers that hardy does not see into: functions that return probabilities, and answers that were given before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.data.answers import log_of_probabilities
from hardy.validation import Images, Logits

ProbabilityFunction: TypeAlias = Callable[[NDArray[np.float32]], Any]
"""From images, a NumPy array (N, C, H, W) in [0, 1], to their probabilities (N, K), an array or a tensor."""


class FromProbabilities(nn.Module):
    """A classifier whose logits are the logarithms of what a function returns. It has no gradients.

    Raises, when it is called:
        ContractError: the function returns no probabilities.
    """

    def __init__(self, function: ProbabilityFunction) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Images) -> Logits:
        found = self.function(images.detach().cpu().numpy())
        found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return torch.from_numpy(log_of_probabilities(found, f"what '{name}' returns")).to(images.device)


class GivenLogits(nn.Module):
    """Takes given logits, (N, 1, 1, K), for images, and returns them, (N, K)."""

    def forward(self, images: Tensor) -> Logits:
        return images.flatten(1)
