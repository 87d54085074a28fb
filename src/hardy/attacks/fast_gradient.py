"""The fast gradient attack: one step."""

from __future__ import annotations

from torch import Tensor

from hardy.attacks.attack import steepest
from hardy.attacks.public import register
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="fast gradient",
    norms=("linf", "l2"),
    reference="Goodfellow, Shlens and Szegedy, ICLR 2015, arXiv:1412.6572",
)
def fast_gradient(
    classifier: Classifier,  # noqa: ARG001
    images: Images,
    labels: Labels,  # noqa: ARG001
    threat: ThreatModel,
    *,
    clean_gradient: Tensor,
) -> Images:
    """One step of length eps in the direction in which the cross-entropy rises most."""
    return images + threat.eps * steepest(clean_gradient, threat.norm)
