"""The page of the study: its tables with the published figures beside ours, and an answer to each of its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hardy.evaluation.framework import Metric
from hardy.evaluation.properties.calibration.metrics import ECE, MAXIMUM, RMS
from hardy.evaluation.scorecard import Estimate
from hardy.ood.odin import EPS as ODIN_EPS
from hardy.ood.odin import TEMPERATURES
from hardy.report.markdown import table
from hardy.studies.framework import Options, Page
from hardy.studies.mlss.claims import CLAIMS, FASHION, NOT
from hardy.studies.mlss.figures import Figures, published
from hardy.studies.mlss.measured import (
    ACCURACY,
    ATTACKED,
    AUROC,
    CHANGED_ACCURACY,
    EPS,
    ROBUST_ACCURACY,
    SCORES,
    SURE_SHARE,
    THEIR_ODIN,
    VIM,
)
from hardy.studies.mlss.networks import EFFORTS, NETWORKS

_HARDENED = tuple(name for name, it in NETWORKS.items() if "hardened" in it.parts)
_ABSENT = "–"
_ATTACKS = (
    "Robust accuracy: right, and still right after the attack. Published in percent. `there` is the study's "
    "adversarial training (weights 0.1, 0.5 and 0.75 in turn) on its CNN, `right` the same search on adversarial "
    "images alone with a radius that grows."
)
_CHANGED = (
    "Rotated by up to 20 degrees; Gaussian noise of standard deviation 0.25; the mean over the 15 corruptions of "
    "MNIST-C. What augmentation, MixUp and CutMix add is in `hardy study augmentation`."
)


def make_page(options: Options, metrics: Mapping[str, Sequence[Metric]]) -> Page:
    """All figures and answers, as JSON values and as Markdown."""
    figures = Figures(metrics)
    answers = [
        {"part": claim.part, "claim": claim.text, **claim.judge(figures)._asdict()}
        for claim in CLAIMS
        if not options.only or claim.part in options.only
    ]
    parts = [
        "# The study, run again",
        _what_was_measured(options),
        "## Its claims",
        "From the figures below and their 95 % intervals over images, of one training each.",
        table(
            ("Part", "The study says", "Answer", "Because"),
            [(it["part"], it["claim"], f"**{it['answer']}**", it["why"]) for it in answers],
        ),
        *_attacks(figures),
        *_calibration(figures),
        *_detection(figures),
        *_architecture(figures),
        *_augmentation(figures),
    ]
    return Page({"answers": answers, "networks": _as_json(figures)}, "\n\n".join(parts) + "\n")


def _what_was_measured(options: Options) -> str:
    effort = EFFORTS[options.budget]
    sizes = effort.sizes
    images = min(effort.images, options.limit or effort.images)
    return (
        f"Budget {options.budget}: trained on {images:,} images for {options.epochs or effort.epochs} epochs, seed "
        f"{options.seed}; attacked on {sizes.attacked:,} test images, accuracy and calibration on {sizes.clean:,}, "
        f"detection on {sizes.detected:,} of each dataset. Published figures are in parentheses. A dash: not measured, "
        "as the images are not at hand or the part was not asked for."
    )


def _columns(figures: Figures, *names: str) -> list[str]:
    return [name for name in (*names, *_HARDENED) if name in figures.metrics]


def _cell(found: Estimate | None, theirs: float | None = None) -> str:
    if found is None:
        text = _ABSENT
    else:
        share = found.unit == "share"
        form = "{:.1%}" if share else "{:.3f}"
        text = form.format(found.value)
        if found.low is not None and found.high is not None:
            low, high = (form.format(it) for it in (found.low, found.high))
            text += f" [{low}, {high}]"
        elif found.chance_band is not None:
            text += f" [by chance {found.chance_band[0]:.1%} to {found.chance_band[1]:.1%}]"
    return text if theirs is None else f"{text} ({theirs:g})"


def _attacks(figures: Figures) -> list[str]:
    their = published()["attacks"]
    rows = {(row[0], row[1]): dict(zip(their["columns"], row[2:], strict=True)) for row in their["rows"]}
    trainings = [name for name in NETWORKS if name.endswith(("-there", "-right"))]
    names = _columns(figures, *their["columns"], *trainings)
    if not any(figures.metric(name, ROBUST_ACCURACY) for name in names):
        return []
    body = [
        (
            attack,
            f"{eps:g}",
            *(
                _cell(figures.estimate(name, ROBUST_ACCURACY, attack=attack, eps=eps), rows[attack, eps].get(name))
                for name in names
            ),
        )
        for attack in ATTACKED
        for eps in EPS
    ]
    return [
        "## II. Attacks",
        _ATTACKS,
        table(("Attack", "eps", *names), body, range(1, 2 + len(names))),
    ]


def _calibration(figures: Figures) -> list[str]:
    their = published()["calibration"]
    rows = []
    for name in _columns(figures, "cnn", "ensemble", "ensemble5", "ensemble-relu"):
        for calibrator in ("none", "temperature"):
            key = name if calibrator == "none" else f"{name}, temperature"
            cells = [
                _cell(figures.estimate(name, kind, calibrator=calibrator), their.get(key, {}).get(kind.name))
                for kind in (ECE, RMS, MAXIMUM)
            ]
            sure = _cell(figures.estimate(name, SURE_SHARE, calibrator=calibrator))
            rows.append((name, calibrator, *cells, sure))
    if all(row[2] == _ABSENT for row in rows):
        return []
    return [
        "## III. Calibration",
        "Errors over 15 bins; chance alone makes them as large as the range beside them.",
        table(("Network", "Calibrator", "ECE", "RMS", "Maximum", "Confidence above 90 %"), rows, range(2, 6)),
    ]


def _detection(figures: Figures) -> list[str]:
    their = published()["detection"]
    rows = {row[0]: dict(zip(their["columns"], row[1:], strict=True)) for row in their["rows"]}
    names = _columns(figures, "cnn", *their["columns"], "ensemble-oe-synthetic")
    if not any(figures.metric(name, AUROC) for name in names):
        return []
    parts = ["## IV. Out-of-distribution detection", "AUROC of what is no digit, positive."]
    for dataset, title in ((NOT, "notMNIST"), (FASHION, "Fashion-MNIST")):
        body = [
            (
                score,
                *(
                    _cell(
                        figures.estimate(name, AUROC, dataset, score=score),
                        rows.get(score, {}).get(name) if dataset == NOT else None,
                    )
                    for name in names
                ),
            )
            for score in (*SCORES, VIM)
        ]
        odin = {"score": "ODIN", **THEIR_ODIN._asdict()}
        cells = [
            _cell(figures.estimate(name, AUROC, dataset, **odin), rows["ODIN"].get(name) if dataset == NOT else None)
            for name in names
        ]
        body.append(("ODIN", *cells))
        parts += [f"### {title}", table(("Score", *names), body, range(1, 1 + len(names)))]
    grid = [
        (
            f"{temperature:g}",
            *(
                _cell(figures.estimate("ensemble", AUROC, NOT, score="ODIN", temperature=temperature, eps=eps))
                for eps in ODIN_EPS
            ),
        )
        for temperature in TEMPERATURES
    ]
    return [
        *parts,
        "### ODIN's grid, ensemble, notMNIST",
        table(("Temperature", *(f"eps {eps:g}" for eps in ODIN_EPS)), grid, range(5)),
    ]


def _architecture(figures: Figures) -> list[str]:
    rows = [(name, _cell(figures.estimate(name, ACCURACY))) for name in figures.metrics]
    return ["## V. Architecture", table(("Network", "Accuracy"), rows, (1,))]


def _augmentation(figures: Figures) -> list[str]:
    rows = []
    for name in figures.metrics:
        changes = [figures.estimate(name, CHANGED_ACCURACY, change=it) for it in ("rotated", "noisy", "mnist-c")]
        if any(changes):
            rows.append((name, *map(_cell, changes)))
    if not rows:
        return []
    return [
        "## VI. Changed images",
        _CHANGED,
        table(("Network", "Rotated", "Noisy", "MNIST-C"), rows, (1, 2, 3)),
    ]


def _as_json(figures: Figures) -> dict[str, Any]:
    return {
        name: [
            found.model_dump(mode="json", include={"metric", "dataset", "setting", "value", "low", "high", "n"})
            for metric in metrics
            if (found := figures.estimate(name, metric.kind, metric.dataset, **metric.setting))
        ]
        for name, metrics in figures.metrics.items()
    }
