"""An ensemble of classifiers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hardy.validation import Images, Logits


class Ensemble(nn.Module):
    """Averages its members' probabilities; the logits are the logarithm of that mean.

    So the softmax of the logits is the mean probability, and its confidence is the ensemble's.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def member_logits(self, images: Images) -> Tensor:
        """float32 (M, N, K): what each member answers."""
        return torch.stack([member(images) for member in self.members])

    def forward(self, images: Images) -> Logits:
        return combined_logits(self.member_logits(images))


def combined_logits(member_logits: Tensor) -> Logits:
    """From float (M, N, K), what each member answers, to the logarithm of the mean probability, float32 (N, K)."""
    log_probabilities = member_logits.float().log_softmax(dim=-1)
    return log_probabilities.logsumexp(dim=0) - math.log(len(member_logits))
