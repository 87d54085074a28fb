"""The bundle: a folder with all that it takes to answer, or to abstain, for one trained classifier."""

from hardy.deployment.bundle import BUNDLE, Bundle, load_bundle, write_bundle
from hardy.deployment.manifest import Facts, Promise

__all__ = ["BUNDLE", "Bundle", "Facts", "Promise", "load_bundle", "write_bundle"]
