"""The model card of a bundle: what it answers, when it abstains, and what was measured of that."""

from __future__ import annotations

from hardy.deployment import Facts
from hardy.deployment.abstention import RULES
from hardy.report.page import render


def bundle_card(facts: Facts) -> str:
    """The ``README.md`` of a bundle."""
    return render("bundle.md.j2", facts=facts, rules=facts.rules, rule_titles=RULES)
