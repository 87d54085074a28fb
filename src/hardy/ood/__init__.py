"""Out-of-distribution detection: scores of how suspicious an input is; higher is more suspicious.

``hardy.ood.vim(model, train_loader)`` fits a detector, and calling it scores images. There is one such function per
method of :data:`DETECTORS`; :func:`detector` takes the name, also of a method that :func:`register` added.
"""

from hardy.ood.detector import (
    BASELINE,
    COMBINATION,
    DETECTORS,
    HEADLINE,
    Detector,
    fit_combination,
    fit_detector,
    fit_exposed,
    lacking,
    register,
    restore_detector,
    usable,
)
from hardy.ood.features import Features, Head, Member, extract
from hardy.ood.functions import ModelDetector, combination, detector, discriminator, odin, with_fit, without_fit
from hardy.ood.logit_scores import SCORES
from hardy.ood.method import Method
from hardy.ood.odin import OdinSetting, choose_odin, odin_scores

max_softmax = without_fit("max_softmax")
max_logit = without_fit("max_logit")
margin = without_fit("margin")
entropy = without_fit("entropy")
energy = without_fit("energy")
uniform_cross_entropy = without_fit("uniform_cross_entropy")
generalized_entropy = without_fit("generalized_entropy")
kl_matching = with_fit("kl_matching")
mutual_information = without_fit("mutual_information")
disagreement = without_fit("disagreement")
react = with_fit("react")
mahalanobis = with_fit("mahalanobis")
relative_mahalanobis = with_fit("relative_mahalanobis")
nearest_neighbours = with_fit("nearest_neighbours")
vim = with_fit("vim")
vim_per_member = with_fit("vim_per_member")
layers = with_fit("layers")
learned = with_fit("learned")

__all__ = [
    "BASELINE",
    "COMBINATION",
    "DETECTORS",
    "HEADLINE",
    "SCORES",
    "Detector",
    "Features",
    "Head",
    "Member",
    "Method",
    "ModelDetector",
    "OdinSetting",
    "choose_odin",
    "combination",
    "detector",
    "disagreement",
    "discriminator",
    "energy",
    "entropy",
    "extract",
    "fit_combination",
    "fit_detector",
    "fit_exposed",
    "generalized_entropy",
    "kl_matching",
    "lacking",
    "layers",
    "learned",
    "mahalanobis",
    "margin",
    "max_logit",
    "max_softmax",
    "mutual_information",
    "nearest_neighbours",
    "odin",
    "odin_scores",
    "react",
    "register",
    "relative_mahalanobis",
    "restore_detector",
    "uniform_cross_entropy",
    "usable",
    "vim",
    "vim_per_member",
]
