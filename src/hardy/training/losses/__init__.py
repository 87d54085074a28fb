"""Losses by name, one file per family."""

from __future__ import annotations

from hardy.training.losses.adversarial import adversarial, free, mart, trades
from hardy.training.losses.clean import cross_entropy
from hardy.training.losses.consistency import consistency
from hardy.training.losses.exposure import energy_margin, exposure
from hardy.training.losses.interval import guaranteed_exposure, interval
from hardy.training.losses.loss import LOSSES, Batch, Loss, LossFunction, register_loss
from hardy.training.losses.multi_norm import eat, mean_norm, msd, worst_norm
from hardy.training.losses.smoothing import randomized_smoothing
from hardy.training.losses.views import views

__all__ = [
    "LOSSES",
    "Batch",
    "Loss",
    "LossFunction",
    "adversarial",
    "consistency",
    "cross_entropy",
    "eat",
    "energy_margin",
    "exposure",
    "free",
    "guaranteed_exposure",
    "interval",
    "mart",
    "mean_norm",
    "msd",
    "randomized_smoothing",
    "register_loss",
    "trades",
    "views",
    "worst_norm",
]
