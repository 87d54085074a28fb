"""Deployment: a bundle is a trained classifier with everything that it takes to answer, or to abstain."""

from hardy.deployment.attack import attack_system
from hardy.deployment.bundle import BUNDLE, Bundle, load_bundle, write_bundle
from hardy.deployment.manifest import BundleManifest, RefusalEstimate
from hardy.deployment.predict import Answer
from hardy.deployment.shipped import load, located, shipped

__all__ = [
    "BUNDLE",
    "Answer",
    "Bundle",
    "BundleManifest",
    "RefusalEstimate",
    "attack_system",
    "load",
    "load_bundle",
    "located",
    "shipped",
    "write_bundle",
]
