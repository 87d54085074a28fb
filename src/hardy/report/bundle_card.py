"""The model card of a bundle: what it answers, when it abstains, and what was measured of that."""

from __future__ import annotations

from hardy.deployment import BundleManifest
from hardy.deployment.abstention import RULES
from hardy.report.page import render


def bundle_card(manifest: BundleManifest) -> str:
    """The ``README.md`` of a bundle."""
    return render("bundle.md.j2", manifest=manifest, rules=manifest.rules, rule_titles=RULES)
