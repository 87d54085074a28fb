"""The model card of a bundle: what it answers, when it abstains, and what was measured of that."""

from __future__ import annotations

from hardy.deployment import Facts
from hardy.deployment.abstention import RULES
from hardy.report.markdown import bullets, inline, table

_LIMITS = (
    "It knows its own classes and nothing else: what is refused of other things is as above for those kinds, and "
    "unknown for others. Somebody who wants a wrong answer can get one, unless the network was trained against that. "
    "One picture holds one digit."
)


def bundle_card(facts: Facts) -> str:
    """The ``README.md`` of a bundle."""
    rules = facts.rules
    bounds = {"suspicion": f"above {rules.suspicion_above:.6g}", "confidence": f"below {rules.confidence_below:.4f}"}
    what = (
        f"A bundle of hardy {inline(facts.hardy)}: a {inline(facts.model.name)} of {len(facts.classes)} classes "
        f"({inline(', '.join(facts.classes))}) that answers with a calibrated confidence and a prediction set, or "
        "abstains and says why. `hardy predict` reads it; `bundle.json` says the same for programs."
    )
    parts_of_it = (
        f"Calibrator: {inline(facts.calibrator)}. Detector: {inline(facts.detector)}. Prediction sets: "
        f"{inline(facts.prediction_sets)}, which miss the true class of images like the validation ones at most "
        f"{facts.alpha:.2%} of the time. Pictures are brought to the form of MNIST's: light ink on black, in a box of "
        "20x20, centred by mass in 28x28."
    )
    refused = (
        f"All rules together refuse {rules.validation_refusal['all']:.2%} of {inline(rules.set_on)}; the target was "
        f"{rules.target_refusal:.2%}."
    )
    parts = [
        f"# {inline(facts.name)}",
        what,
        "## How it decides",
        parts_of_it,
        table(
            ("It abstains where", "Rule", "Threshold", "Validation images refused by it"),
            [
                (text, rule, bounds.get(rule, ""), f"{rules.validation_refusal[rule]:.2%}")
                for rule, text in RULES.items()
            ],
            numeric=(3,),
        ),
        refused,
        "## What it refuses",
        "Measured from the picture to the answer. The interval is that of measuring as many again.",
        table(
            ("Pictures", "Refused", "95 % interval", "Pictures measured"),
            [(it.kind, f"{it.rate:.1%}", f"{it.low:.1%} to {it.high:.1%}", f"{it.n:,}") for it in facts.promises],
            numeric=(1, 2, 3),
        ),
        "## What it was fitted on",
        bullets(f"{part}: {data}" for part, data in facts.fitted_on.items()),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"
