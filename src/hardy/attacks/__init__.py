"""Attacks, by name, the suites made of them, and the engine that runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hardy.attacks.apgd import APGD_CE, APGD_DLR, APGD_TARGETED
from hardy.attacks.attack import Attack
from hardy.attacks.carlini_wagner import CARLINI_WAGNER
from hardy.attacks.decision import HOP_SKIP_JUMP
from hardy.attacks.deepfool import DEEPFOOL
from hardy.attacks.engine import Outcome, run_attack, run_attacks
from hardy.attacks.fab import FAB, FAB_TARGETED
from hardy.attacks.fmn import FMN
from hardy.attacks.gradient_steps import FAST_GRADIENT, PGD, SMOOTHED_PGD
from hardy.attacks.iterative import BASIC_ITERATIVE, MOMENTUM_ITERATIVE
from hardy.attacks.noise import ADDITIVE_NOISE, REPEATED_NOISE, SALT_AND_PEPPER
from hardy.attacks.sparse import SIGMA_ZERO
from hardy.attacks.square import SQUARE
from hardy.errors import UsageError, unknown

__all__ = [
    "ATTACKS",
    "SUITES",
    "Attack",
    "Outcome",
    "get_attack",
    "get_attacks",
    "run_attack",
    "run_attacks",
    "with_settings",
]

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        FAST_GRADIENT,
        PGD,
        BASIC_ITERATIVE,
        MOMENTUM_ITERATIVE,
        SMOOTHED_PGD,
        ADDITIVE_NOISE,
        REPEATED_NOISE,
        SALT_AND_PEPPER,
        DEEPFOOL,
        CARLINI_WAGNER,
        FMN,
        APGD_CE,
        APGD_DLR,
        APGD_TARGETED,
        FAB,
        FAB_TARGETED,
        SQUARE,
        SIGMA_ZERO,
        HOP_SKIP_JUMP,
    )
}
SUITES: dict[str, tuple[Attack, ...]] = {
    # AutoAttack's standard version: Croce and Hein, ICML 2020, arXiv:2003.01690.
    "standard": (APGD_CE, APGD_TARGETED, FAB_TARGETED, SQUARE),
}


def get_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]


def get_attacks(name: str, norm: str) -> list[Attack]:
    """The attacks of a suite, or the attack of that name alone.

    Raises:
        UsageError: there is neither, or it does not work in ``norm``.
    """
    if name not in {**SUITES, **ATTACKS}:
        raise unknown("attack", name, {**SUITES, **ATTACKS})
    attacks = list(SUITES.get(name, ())) or [ATTACKS[name]]
    for attack in attacks:
        if norm not in attack.norms:
            raise UsageError(f"attack '{attack.name}' works in {', '.join(attack.norms)}, not in {norm}")
    return attacks


def with_settings(attack: Attack, **settings: Any) -> Attack:
    """The attack with some settings changed.

    Raises:
        UsageError: it has no such setting.
    """
    for name in settings:
        if name not in attack.settings:
            raise unknown(f"setting of {attack.name}", name, attack.settings)
    return replace(attack, settings={**attack.settings, **settings})
