"""Scores: how suspicious an input is; higher means more suspicious."""

from hardy.ood.detector import (
    COMBINATION,
    DETECTORS,
    Detector,
    fit_combination,
    fit_detector,
    lacking,
    restore_detector,
    usable,
)
from hardy.ood.features import Features, Head, Member, extract
from hardy.ood.logit_scores import SCORES
from hardy.ood.odin import OdinSetting, choose_odin, odin_scores

__all__ = [
    "COMBINATION",
    "DETECTORS",
    "SCORES",
    "Detector",
    "Features",
    "Head",
    "Member",
    "OdinSetting",
    "choose_odin",
    "extract",
    "fit_combination",
    "fit_detector",
    "lacking",
    "odin_scores",
    "restore_detector",
    "usable",
]
