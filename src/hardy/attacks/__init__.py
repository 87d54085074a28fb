"""Attacks, by name, and the engine that runs them."""

from __future__ import annotations

from hardy.attacks.attack import Attack
from hardy.attacks.engine import Outcome, run_attack
from hardy.attacks.gradient_steps import FAST_GRADIENT, PGD
from hardy.errors import unknown

__all__ = ["ATTACKS", "Attack", "Outcome", "get_attack", "run_attack"]

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (FAST_GRADIENT, PGD)}


def get_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]
