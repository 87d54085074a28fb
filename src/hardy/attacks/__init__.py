"""Attacks by name, the suites made of them, and the functions that run them on a model.

>>> import hardy, torch
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
>>> images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 1])
>>> result = hardy.attacks.pgd(model, images, labels, norm="linf", eps=8 / 255, steps=10)
>>> result.min_norm.shape
torch.Size([4])
"""

from __future__ import annotations

from hardy.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from hardy.attacks.attack import Attack, Suite
from hardy.attacks.autoattack import STANDARD, autoattack
from hardy.attacks.carlini_wagner import carlini_wagner
from hardy.attacks.deepfool import deepfool
from hardy.attacks.engine import AttackResult, run_attack, run_attacks
from hardy.attacks.fab import fab, fab_t
from hardy.attacks.fast_gradient import fast_gradient
from hardy.attacks.fmn import fmn
from hardy.attacks.hop_skip_jump import hop_skip_jump
from hardy.attacks.momentum_iterative import momentum_iterative
from hardy.attacks.noise import noise, repeated_noise
from hardy.attacks.pgd import basic_iterative, pgd
from hardy.attacks.public import ATTACKS, PublicAttack, register
from hardy.attacks.salt_and_pepper import salt_and_pepper
from hardy.attacks.sigma_zero import sigma_zero
from hardy.attacks.smoothed_pgd import smoothed_pgd
from hardy.attacks.square import square
from hardy.errors import UsageError, unknown
from hardy.registry import Registry

__all__ = [
    "ATTACKS",
    "SUITES",
    "Attack",
    "AttackResult",
    "PublicAttack",
    "Suite",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "autoattack",
    "basic_iterative",
    "carlini_wagner",
    "deepfool",
    "fab",
    "fab_t",
    "fast_gradient",
    "fmn",
    "get_attacks",
    "hop_skip_jump",
    "momentum_iterative",
    "noise",
    "pgd",
    "register",
    "repeated_noise",
    "run_attack",
    "run_attacks",
    "salt_and_pepper",
    "sigma_zero",
    "smoothed_pgd",
    "square",
]

SUITES: Registry[Suite] = Registry("suite of attacks", (STANDARD,))


def get_attacks(name: str, norm: str) -> tuple[Attack, ...]:
    """The attacks of a suite, or the attack of that name alone.

    Raises:
        UsageError: there is neither, or it does not work in ``norm``.
    """
    if name not in {**SUITES, **ATTACKS}:
        raise unknown("attack", name, {**SUITES, **ATTACKS})
    attacks = SUITES[name].attacks if name in SUITES else (ATTACKS[name],)
    for each in attacks:
        if norm not in each.norms:
            raise UsageError(f"attack '{each.name}' works in {', '.join(each.norms)}, not in {norm}")
    return attacks
