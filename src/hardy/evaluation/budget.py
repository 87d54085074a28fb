"""What an evaluation may spend: one value with a field for each of its costly parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from hardy.corruptions import PUBLISHED
from hardy.errors import unknown

BudgetName: TypeAlias = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Budget:
    """How much an evaluation may spend. Of examples, None takes all that there are and 0 leaves the part out."""

    name: str
    resamples: int = 500  # of each bootstrap interval
    simple_attacks: int | None = 1000  # examples under each single attack
    standard_attacks: int | None = 500  # examples under the standard suite of attacks
    standard_norms: tuple[str, ...] = ("linf", "l2", "l1")  # which the suite runs in
    masking: int = 128  # examples that are checked for masked gradients
    surrogate: bool = True  # whether a network is trained to transfer attacks from
    # Queries of the black-box attack per image, where gradients seem to be masked.
    around_queries: int = 3000
    # By attack, settings that differ from its own.
    attack_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attacked_predictions: int | None = 500  # examples whose confidence under attack is measured
    certified: int | None = 500  # examples that are certified
    certificate_nodes: int = 64  # problems per example in branch and bound, of networks that are small
    system: int | None = 200  # examples on which a whole bundle is attacked, for each goal
    system_outliers: int | None = 100  # outliers of each kind that are moved to be answered
    system_steps: int = 50  # of each search along gradients
    system_targets: int = 3  # wrong classes that it is led to
    system_queries: int = 1000  # of the black box
    corrupted: int | None = 2000  # examples under each corruption
    corruptions: tuple[str, ...] | None = None  # by name; None is every one
    every_severity: bool = False  # of each corruption, not the default alone
    sequences: int | None = 1000  # examples that move a little from frame to frame
    detector_training: int = 10_000  # training images that OOD detectors are fitted on
    detector_validation: int = 1000  # validation images that ODIN and the combination of detectors are fitted on
    in_distribution: int | None = 2000  # test images, and validation images for thresholds, that get OOD scores
    out_of_distribution: int | None = 2000  # images of each other dataset that get OOD scores
    transformed: int | None = 500  # test images that each transform makes outliers of
    perturbed: int | None = 100  # images of each OOD dataset that are perturbed until they are answered with confidence
    odin: bool = True  # whether ODIN is measured
    all_ood_metrics: bool = True  # for every score, not the AUROC alone


_STANDARD = Budget("standard")
BUDGETS: dict[str, Budget] = {
    "quick": Budget(
        "quick",
        # Some hundred figures get an interval each, which is most of what a quick evaluation takes.
        resamples=200,
        simple_attacks=100,
        standard_attacks=50,
        standard_norms=("linf",),
        masking=0,
        around_queries=1000,
        attacked_predictions=100,
        certified=100,
        certificate_nodes=0,
        system=25,
        system_outliers=15,
        system_steps=20,
        system_targets=2,
        system_queries=200,
        corrupted=500,
        corruptions=tuple(PUBLISHED),
        sequences=100,
        detector_training=2000,
        detector_validation=300,
        in_distribution=1000,
        out_of_distribution=300,
        transformed=100,
        perturbed=0,
        odin=False,
        all_ood_metrics=False,
    ),
    "standard": _STANDARD,
    "full": replace(
        _STANDARD,
        name="full",
        simple_attacks=None,
        standard_attacks=None,
        around_queries=10_000,
        attacked_predictions=1000,
        certified=None,
        system=1000,
        system_outliers=500,
        system_steps=100,
        system_targets=9,
        system_queries=5000,
        corrupted=None,
        every_severity=True,
        sequences=None,
        in_distribution=None,
        out_of_distribution=None,
        transformed=2000,
        perturbed=500,
    ),
}


def find_budget(budget: str | Budget) -> Budget:
    """The budget itself, or that of the name.

    Raises:
        UsageError: no budget has the name.
    """
    if isinstance(budget, Budget):
        return budget
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    return BUDGETS[budget]
