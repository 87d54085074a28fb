"""The page of the study: its tables with the published figures beside ours, and an answer to each of its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hardy.evaluation.charts import Chart, Table
from hardy.evaluation.properties.calibration.metrics import ECE, MAXIMUM, RMS
from hardy.evaluation.scorecard import Estimate
from hardy.ood.odin import EPS as ODIN_EPS
from hardy.ood.odin import TEMPERATURES
from hardy.report.page import Section, sections_html, sections_markdown
from hardy.studies.framework import Measured, Options, Page
from hardy.studies.mlss.claims import CLAIMS, FASHION, NOT, Judged
from hardy.studies.mlss.figures import Figures, published
from hardy.studies.mlss.measured import (
    ACCURACY,
    ATTACKED,
    AUROC,
    CHANGED_ACCURACY,
    CONFIDENCE,
    EPS,
    ROBUST_ACCURACY,
    SCORES,
    SURE_SHARE,
    THEIR_ODIN,
    VIM,
)
from hardy.studies.mlss.networks import ALL_IMAGES, EFFORTS, MISTAKES, NETWORKS, PARTS
from hardy.studies.mlss.pictures import confidence_bars, example_gallery

_ABSENT = "–"
_TITLE = "The study, run again"
_READING = "Each cell: ours in percent [95 % interval over images] (the study's). A dash: not measured."


def make_page(options: Options, arms: Mapping[str, Measured], study: Mapping[str, Any]) -> Page:
    """All figures and answers, as JSON values, in Markdown and in HTML."""
    figures = Figures({name: arm.metrics for name, arm in arms.items()})
    images = min(EFFORTS[options.budget].images, options.limit or ALL_IMAGES)
    answers = [(claim, claim.judged(figures, images)) for claim in CLAIMS]
    sections = [
        it
        for it in (
            _claims(answers),
            _attacks(figures, arms),
            _eighty_one(figures),
            _calibration(figures, arms),
            _detection(figures),
            _architecture(figures),
            _augmentation(figures),
            _how(options, study),
        )
        if it is not None
    ]
    said = [{"part": claim.part, "claim": claim.text, **judged._asdict()} for claim, judged in answers]
    lede = _what_was_measured(options, figures)
    return Page(
        {"answers": said, "networks": _as_json(figures)},
        sections_markdown(_TITLE, lede, sections, "study.html"),
        sections_html(_TITLE, lede, sections),
    )


def _what_was_measured(options: Options, figures: Figures) -> str:
    effort = EFFORTS[options.budget]
    sizes, epochs = effort.sizes, options.epochs or effort.epochs
    images = min(effort.images, options.limit or effort.images)
    left = [name for name in NETWORKS if name not in figures.metrics]
    left += ["hardened networks"] if set(figures.metrics) <= set(NETWORKS) else []
    little = (
        "The study's saw all of MNIST one to five times: where large networks are right less often here, too little "
        "training is the first reason. "
    )
    return (
        f"Budget {options.budget}, seed {options.seed}, one training each: {epochs} epoch{'s' * (epochs > 1)}, large "
        f"networks on {images:,} images and the CNN on {ALL_IMAGES:,}; attacked on {sizes.attacked:,} test images, "
        f"accuracy and calibration on {sizes.clean:,}, detection on {sizes.detected:,} of each dataset. "
        + little * (images < ALL_IMAGES)
        + (f"Not measured yet, so left out: {', '.join(left)}." if left else "Every network was measured.")
    )


def _section(name: str, title: str, description: str, charts: Sequence[Chart]) -> Section | None:
    return Section(name, title, description, charts) if charts else None


def _claims(answers: Sequence[tuple[Any, Judged]]) -> Section | None:
    open_ones = [it for it in answers if it[1].answer == "not measured"]
    ordered = [it for it in answers if it not in open_ones] + open_ones
    rows = tuple((claim.part, claim.text, judged.answer, judged.why) for claim, judged in ordered)
    table = Table("Claims", "", ("Part", "The study says", "Answer", "Because"), rows)
    return _section(
        "claims",
        "What it claims",
        "Answered from the figures below and their 95 % intervals over images, of one training each; intervals do not "
        "cover what another training would give.",
        [table],
    )


def _columns(figures: Figures, *names: str) -> list[str]:
    """Those that were measured, and the hardened ones."""
    hardened = [name for name in figures.metrics if name not in NETWORKS]
    return [name for name in names if name in figures.metrics] + hardened


def _cell(found: Estimate | None, theirs: float | None = None) -> str:
    """Shares in percent, with as many digits as their number of images bears; other figures to three digits."""
    if found is None:
        text = _ABSENT
    else:
        factor, form = (100.0, "{:.0f}" if found.n < 1000 else "{:.1f}") if found.unit == "share" else (1.0, "{:.3f}")
        text = form.format(factor * found.value)
        if found.low is not None and found.high is not None:
            low, high = (form.format(factor * it) for it in (found.low, found.high))
            text += f" [{low}, {high}]"
        elif found.chance_band is not None:
            low, high = (form.format(factor * it) for it in found.chance_band)
            text += f" [chance: {low} to {high}]"
    return text if theirs is None else f"{text} ({theirs:g})"


def _attacks(figures: Figures, arms: Mapping[str, Measured]) -> Section | None:
    their = published()["attacks"]
    rows = {(row[0], row[1]): dict(zip(their["columns"], row[2:], strict=True)) for row in their["rows"]}
    trainings = [name for name in NETWORKS if name.endswith(("-there", "-right"))]
    charts: list[Chart] = []
    for title, names in (
        ("Robust accuracy", _columns(figures, *their["columns"])),
        ("The CNN trained against attacks", [name for name in ("cnn", *trainings) if name in figures.metrics]),
    ):
        names = [name for name in names if figures.metric(name, ROBUST_ACCURACY)]
        body = tuple(
            (
                f"{attack}, {eps:g}",
                *(
                    _cell(figures.estimate(name, ROBUST_ACCURACY, attack=attack, eps=eps), rows[attack, eps].get(name))
                    for name in names
                ),
            )
            for attack in ATTACKED
            for eps in EPS
        )
        # The CNN stands in the second table to compare with.
        if len(names) > (title != "Robust accuracy"):
            charts.append(Table(title, _READING, ("Attack, eps", *names), body))
    outside = [
        f"{name} under {attack} at {eps:g} ({theirs[name]:g})"
        for (attack, eps), theirs in rows.items()
        for name in theirs
        if (found := figures.estimate(name, ROBUST_ACCURACY, attack=attack, eps=eps)) is not None
        and (ends := found.interval()) is not None
        and not ends[0] <= theirs[name] / 100 <= ends[1]
    ]
    explained = (
        f" The study's figure lies outside our interval for {', '.join(outside)}. Those of the CNN are the "
        "subject of the next section; the others are unexplained, and large networks' shorter training may be behind "
        "them."
        if outside
        else " Every figure of the study lies in our interval."
    )
    gallery = example_gallery(arms)
    return _section(
        "attacks",
        "II. Adversarial attacks",
        "Robust accuracy: right, and still right after the attack. 'there' is the study's adversarial training "
        "(weights 0.1, 0.5 and 0.75 in turn) on its CNN, 'right' the same search on adversarial images alone, with a "
        "radius that grows." + explained,
        [*charts, *([gallery] if gallery and charts else [])],
    )


def _eighty_one(figures: Figures) -> Section | None:
    names = [name for name in ("cnn", *MISTAKES) if figures.mistake(name) is not None]
    columns = {"L2AGNA, 0.3": ("L2AGNA", 0.3), "L2BIA, 1.5": ("L2BIA", 1.5), "SAPNA, 10": ("SAPNA", 10.0)}
    body = []
    for name in names:
        found = figures.mistake(name)
        assert found is not None
        cells = [_cell(found.cells[cell]) for cell in columns.values()]
        ece = _cell(figures.estimate(name, ECE, calibrator="none"))
        accuracy = _cell(figures.estimate(name, ACCURACY))
        body.append((name, accuracy, *cells, ece, f"{100 * found.distance:.1f}"))
    theirs = {(row[0], row[1]): row[2] for row in published()["attacks"]["rows"]}
    cells = [f"{theirs[cell]:g}" for cell in columns.values()]
    body.append(("the study", _ABSENT, *cells, f"{100 * published()['calibration']['cnn']['ece']:g}", "0"))
    table = Table(
        "The CNN with one mistake each",
        "Distance: the mean over the study's 21 cells of how far robust accuracy is from it, in points.",
        ("Network", "Accuracy", *columns, "ECE", "Distance"),
        tuple(body),
    )
    return _section(
        "mistakes",
        "Where the CNN's 81 % comes from",
        "The study's CNN is right on 81 % under noise that changes nothing, which such a network exceeds by far. Each "
        "row makes one mistake or two: dropout left on; plain gradient descent for one epoch; 30 to 50 steps of "
        "training; images normalized in training but not under attack, or once more than in training.",
        [table] if len(names) > 1 else [],
    )


def _calibration(figures: Figures, arms: Mapping[str, Measured]) -> Section | None:
    their = published()["calibration"]
    rows = []
    for name in _columns(figures, *NETWORKS):
        if figures.metric(name, ECE) is None:
            continue
        for calibrator in ("none", "temperature"):
            key = name if calibrator == "none" else f"{name}, temperature"
            known = {kind: 100 * value for kind, value in their.get(key, {}).items()}
            cells = [
                _cell(figures.estimate(name, kind, calibrator=calibrator), known.get(kind.name))
                for kind in (ECE, RMS, MAXIMUM)
            ]
            others = [_cell(figures.estimate(name, kind, calibrator=calibrator)) for kind in (CONFIDENCE, SURE_SHARE)]
            rows.append((name, calibrator, *cells, *others))
    table = Table(
        "Calibration errors",
        "In percent over 15 bins; chance alone makes them as large as the range in brackets. In parentheses the "
        "study's.",
        ("Network", "Calibrator", "ECE", "RMS", "Maximum", "Mean confidence", "Above 90 %"),
        tuple(rows),
    )
    return _section(
        "calibration",
        "III. Calibration",
        "Before and after one temperature, fitted on validation images. The networks of An et al. end in a batch "
        "normalization, whose gain begins at 1: while it is near 1, the logits of ten classes have a standard "
        "deviation near 1, and where one class stands out the softmax gives it about e^3 / (e^3 + 9 e^(-1/3)) = 76 %. "
        "So after short training they are less sure than right, however good they are, which one temperature mends.",
        [table, *confidence_bars(arms)] if rows else [],
    )


def _detection(figures: Figures) -> Section | None:
    their = published()["detection"]
    rows = {row[0]: dict(zip(their["columns"], row[1:], strict=True)) for row in their["rows"]}
    names = _columns(figures, "cnn", *their["columns"], "ensemble-oe-synthetic")
    names = [name for name in names if figures.metric(name, AUROC)]
    charts: list[Chart] = []
    for dataset, title in ((NOT, "notMNIST"), (FASHION, "Fashion-MNIST")) if names else ():
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
        body.append(("ODIN, temperature 0.33, eps 0.1", *cells))
        charts.append(Table(title, "AUROC of what is no digit, positive.", ("Score", *names), tuple(body)))
    grid = tuple(
        (
            f"{temperature:g}",
            *(
                _cell(figures.estimate("ensemble", AUROC, NOT, score="ODIN", temperature=temperature, eps=eps))
                for eps in ODIN_EPS
            ),
        )
        for temperature in TEMPERATURES
    )
    if any(cell != _ABSENT for row in grid for cell in row[1:]):
        header = ("Temperature", *(f"eps {eps:g}" for eps in ODIN_EPS))
        charts.append(Table("ODIN's grid", "AUROC of the ensemble on notMNIST.", header, grid))
    return _section("detection", "IV. Out-of-distribution detection", "", charts)


def _architecture(figures: Figures) -> Section | None:
    rows = tuple((name, _cell(figures.estimate(name, ACCURACY))) for name in figures.metrics)
    table = Table("Accuracy", "In percent, on test images as they are.", ("Network", "Accuracy"), rows)
    return _section("architecture", "V. Architecture and training", "", [table] if rows else [])


def _augmentation(figures: Figures) -> Section | None:
    rows = []
    for name in figures.metrics:
        changes = [figures.estimate(name, CHANGED_ACCURACY, change=it) for it in ("rotated", "noisy", "mnist-c")]
        if any(changes):
            rows.append((name, *map(_cell, changes)))
    header = ("Network", "Rotated", "Noisy", "MNIST-C")
    table = Table("Accuracy on changed images", "In percent [95 % interval].", header, tuple(rows))
    return _section(
        "augmentation",
        "VI. Changed images",
        "Rotated by up to 20 degrees; Gaussian noise of standard deviation 0.25; the mean over the 15 corruptions of "
        "MNIST-C. What augmentation, MixUp and CutMix add is in 'hardy study augmentation'.",
        [table] if rows else [],
    )


def _how(options: Options, study: Mapping[str, Any]) -> Section:
    environment = study["environment"]
    commands = (
        ("hardy study mlss --out RUN --budget quick", "all of it; the plan and its time are printed first"),
        ("… --resume", "after a kill: within a training, at the next network or at the next measurement"),
        ("… --only attacks --only architecture", f"some parts: {', '.join(PARTS)}; --resume may ask for others"),
        ("… --epochs 10", "longer trainings of the study's networks"),
        ("… --hardened flagship-run --hardened trades", "hardened columns: runs or bundles, or recipes to train"),
        ("… --data-dir data", "where Fashion-MNIST and notMNIST are; 'hardy data fetch' gets them"),
    )
    budgets = tuple(
        (
            name,
            f"{it.images:,}",
            f"{it.epochs}",
            f"{it.hardened_epochs or 'as the recipe'}",
            f"{it.sizes.attacked:,}",
            f"{it.sizes.clean:,}",
            f"{it.sizes.detected:,}",
        )
        for name, it in EFFORTS.items()
    )
    header = ("Budget", "Training images", "Epochs", "Hardened", "Attacked", "Accuracy", "Detection")
    return Section(
        "how",
        "How it was made",
        f"By the first command below with --budget {options.budget} and --seed {options.seed}, hardy "
        f"{environment['hardy']} at commit {environment['git_commit'] or 'unknown'}, on {environment['device']} with "
        f"torch {environment['packages']['torch']}, in {study['seconds'] / 60:.0f} minutes of training and measuring, "
        "whatever else ran on the machine. Every figure with its interval is in study.json. What the study did not say "
        "is chosen here: how shallow the two further "
        "members are (seven and four convolutions), the radius of its adversarial training (0.3), the recipe of its "
        "CNN (AdamW with one cycle), and that its adversarial training is shown on the CNN.",
        [
            Table("Commands", "", ("Command", "What it does"), commands),
            Table("Budgets", "How many images are trained and measured on.", header, budgets),
        ],
    )


def _as_json(figures: Figures) -> dict[str, Any]:
    return {
        name: [
            found.model_dump(mode="json", include={"metric", "dataset", "setting", "value", "low", "high", "n"})
            for metric in metrics
            if (found := figures.estimate(name, metric.kind, metric.dataset, **metric.setting))
        ]
        for name, metrics in figures.metrics.items()
    }
