"""The model card of a bundle: what it answers, when it abstains, and what was measured of that."""

from __future__ import annotations

from hardy.deployment import BundleManifest
from hardy.deployment.abstention import RULES
from hardy.report.markdown import bullets, inline, table

_LIMITS = (
    "It knows its own classes and nothing else: what is refused of other things is as above for those kinds, and "
    "unknown for others. Somebody who wants a wrong answer can get one, unless the network was trained against that. "
    "One picture holds one digit."
)


def bundle_card(manifest: BundleManifest) -> str:
    """The ``README.md`` of a bundle."""
    rules = manifest.rules
    bounds = {"ood_score": f"above {rules.max_ood_score:.6g}", "confidence": f"below {rules.min_confidence:.4f}"}
    what = (
        f"A bundle of hardy {inline(manifest.hardy)}: a {inline(manifest.model.name)} of {len(manifest.classes)} "
        f"classes ({inline(', '.join(manifest.classes))}) that answers with a calibrated confidence and a prediction "
        "set, or abstains and says why. `hardy predict` reads it; `bundle.json` says the same for programs."
    )
    parts_of_it = (
        f"Calibrator: {inline(manifest.calibrator)}. Detector: {inline(manifest.detector)}. Prediction sets: "
        f"{inline(manifest.prediction_sets)}, which miss the true class of images like the validation ones at most "
        f"{manifest.alpha:.2%} of the time. Images are brought to the form of MNIST's: light strokes on black, "
        "in a box of 20x20, centered by mass in 28x28."
    )
    refused = (
        f"All rules together refuse {rules.validation_refusal['all']:.2%} of {inline(rules.fitted_on)}; the target was "
        f"{rules.target_refusal:.2%}."
    )
    parts = [
        f"# {inline(manifest.name)}",
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
            [
                (it.kind, f"{it.rate:.1%}", f"{it.low:.1%} to {it.high:.1%}", f"{it.n:,}")
                for it in manifest.refusal_estimates
            ],
            numeric=(1, 2, 3),
        ),
        "## What it was fitted on",
        bullets(f"{part}: {data}" for part, data in manifest.fitted_on.items()),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"
