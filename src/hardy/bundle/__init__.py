"""The bundle: a folder with all that it takes to answer, or to abstain, for one trained classifier."""

from hardy.bundle.facts import Facts, Promise
from hardy.bundle.store import BUNDLE, Bundle, load_bundle, write_bundle

__all__ = ["BUNDLE", "Bundle", "Facts", "Promise", "load_bundle", "write_bundle"]
