"""AutoAttack: the suite by which robustness is commonly compared."""

from __future__ import annotations

from hardy.attacks.apgd import apgd_ce, apgd_t
from hardy.attacks.attack import Suite
from hardy.attacks.fab import fab_t
from hardy.attacks.public import public
from hardy.attacks.square import square

STANDARD = Suite(
    name="standard",
    title="AutoAttack, standard version",
    attacks=tuple(attack for each in (apgd_ce, apgd_t, fab_t, square) for attack in each.attacks),
    reference="Croce and Hein, ICML 2020, arXiv:2003.01690",
)
autoattack = public(
    "autoattack",
    __name__,
    """AutoAttack, standard version: Auto-PGD untargeted and targeted, FAB and Square, each on what the others leave.

    What it does not break within the radius counts as robust in the field's tables.
    """,
    STANDARD.attacks,
    STANDARD.reference,
)
