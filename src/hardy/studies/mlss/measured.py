"""What each network of the study is measured on, as a property of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import nn

from hardy.attacks import ATTACKS, run_attack
from hardy.calibration import fit_calibrator
from hardy.evaluation.framework import (
    Columns,
    EvaluationContext,
    Measurement,
    Metric,
    MetricKind,
    Plan,
    Property,
    Results,
    Shard,
    mean_of,
    share_of,
)
from hardy.evaluation.predictions import measure_predictions, predictions_of
from hardy.evaluation.properties.calibration.metrics import BIASED, BINS, ECE, MAXIMUM, RMS
from hardy.metrics import (
    auroc_interval,
    noise_floors,
    prepared_auroc,
    prepared_ece,
    prepared_max_calibration_error,
    prepared_rms_calibration_error,
)
from hardy.models import predict_logits
from hardy.ood import extract, fit_detector
from hardy.ood.detector import usable
from hardy.ood.logit_scores import max_logit, max_softmax, uniform_cross_entropy
from hardy.ood.odin import GRID, OdinSetting, odin_grid_scores
from hardy.rng import host_generator
from hardy.studies.augmentation_metrics import PUBLISHED, measure_changed
from hardy.threats import ThreatModel

EPS = (0.3, 1.5, 10.0)
# The study's name of each attack, hardy's, and the norm.
ATTACKED: dict[str, tuple[str, str]] = {
    "L2BIA": ("basic-iterative", "l2"),
    "L2AGNA": ("noise", "l2"),
    "L2DFA": ("deepfool", "l2"),
    "L2FGA": ("fast-gradient", "l2"),
    "LinFGA": ("fast-gradient", "linf"),
    "LinPGDA": ("pgd", "linf"),
    "SAPNA": ("salt-and-pepper", "l2"),
}
# Figure 1 of the study.
EXAMPLE_ATTACK, EXAMPLE_THREAT, EXAMPLES = "LinFGA", ("linf", 1.5), 8
SCORES = {"max logit": max_logit, "softmax max": max_softmax, "cross entropy": uniform_cross_entropy}
VIM = "vim"
THEIR_ODIN = OdinSetting(0.33, 0.1)
PLAIN_ODIN = OdinSetting(1.0, 0.0)
OUTSIDE = ("notmnist/test", "fashion-mnist/test")
_FLOOR_DRAWS = 300

ACCURACY = MetricKind.share("accuracy", "Accuracy", higher_is_better=True)
ROBUST_ACCURACY = MetricKind.share("robust_accuracy", "Robust accuracy", higher_is_better=True)
MISTAKEN_ACCURACY = MetricKind.share("mistaken_accuracy", "Robust accuracy with a mistake", higher_is_better=True)
CHANGED_ACCURACY = MetricKind.share("changed_accuracy", "Accuracy on changed images", higher_is_better=True)
CONFIDENCE = MetricKind.share("confidence", "Mean confidence", higher_is_better=None)
SURE_SHARE = MetricKind.share("sure_share", "Share of confidences above 90 %", higher_is_better=None)
AUROC = MetricKind("auroc", "AUROC", higher_is_better=True, bounds=(0.0, 1.0), chance=0.5)


class Sizes(NamedTuple):
    """How many images are measured on; ``corrupted`` is for each of 15 corruptions, ``odin`` for each of its grid.

    ViM is fitted on ``fitted`` training images. The CNN with mistakes is attacked on ``mistaken``, as it is small.
    """

    clean: int
    attacked: int
    mistaken: int
    changed: int
    corrupted: int
    detected: int
    fitted: int
    odin: int


def mlss_properties(sizes: Sizes) -> list[Property]:
    """One property per part of the study, called ``mlss/part``, so that a network may be measured by some of them."""
    functions = {
        "predict": measure_predictions,
        "mlss_attack": measure_attack,
        "mlss_changed": measure_changed,
        "mlss_scores": measure_scores,
        "mlss_odin": measure_odin,
        "mlss_example": measure_example,
    }
    parts: dict[str, tuple[_Planned, _Computed]] = {
        "architecture": (_plan_accuracy, _accuracy),
        "attacks": (_plan_attacks, _attacks),
        "mistakes": (_plan_mistakes, _mistakes),
        "example": (_plan_example, lambda *_: iter(())),
        "calibration": (_plan_calibration, _calibration),
        "augmentation": (_plan_augmentation, _augmentation),
        "detection": (_plan_detection, _detection),
        "odin_grid": (_plan_odin_grid, _odin),
    }

    def made(part: str, planned: _Planned, computed: _Computed) -> Property:
        return Property(
            name=f"mlss/{part}",
            title=f"The study: {part}",
            description="What the study says of its networks.",
            plan=lambda context: Plan(list(planned(context, sizes).values())),
            metrics=lambda results: list(computed(results, planned(results.context, sizes))),
            functions=functions if part == "architecture" else {},
        )

    return [made(part, *functions_of_part) for part, functions_of_part in parts.items()]


_Planned: TypeAlias = Callable[[EvaluationContext, Sizes], dict[str, Measurement]]
_Computed: TypeAlias = Callable[[Results, dict[str, Measurement]], Iterator[Metric]]


def _on(context: EvaluationContext, function: str, dataset: str, at_most: int, **setting: str | int) -> Measurement:
    return Measurement.of(function, dataset, context.examples(dataset, at_most), **setting)


def _plan_accuracy(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    return {"clean": _on(context, "predict", context.dataset, sizes.clean)}


def _plan_attacks(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    return {name: _on(context, "mlss_attack", context.dataset, sizes.attacked, attack=name) for name in ATTACKED}


def _plan_mistakes(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    return _plan_attacks(context, sizes._replace(attacked=sizes.mistaken))


def _plan_example(context: EvaluationContext, _sizes: Sizes) -> dict[str, Measurement]:
    return {"example": _on(context, "mlss_example", context.dataset, EXAMPLES)}


def _plan_calibration(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    if context.validation is None:
        return {}
    return {
        "clean": _on(context, "predict", context.dataset, sizes.clean),
        "validation": _on(context, "predict", context.validation, sizes.clean),
    }


def _plan_augmentation(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    return {
        name: _on(
            context, "mlss_changed", context.dataset, sizes.corrupted if "/" in name else sizes.changed, change=name
        )
        for name in ("rotated", "noisy", *(f"mnist-c/{it}" for it in PUBLISHED))
    }


def _plan_detection(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    train, fitted = context.train or "", sizes.fitted
    scores = {
        f"scores/{name}": _on(context, "mlss_scores", name, sizes.detected, train=train, fitted=fitted)
        for name in _inside_and_outside(context)
    }
    return scores | _plan_odin(context, sizes, "theirs")


def _plan_odin_grid(context: EvaluationContext, sizes: Sizes) -> dict[str, Measurement]:
    return _plan_odin(context, sizes, "all")


def _plan_odin(context: EvaluationContext, sizes: Sizes, settings: str) -> dict[str, Measurement]:
    return {
        f"odin/{name}": _on(context, "mlss_odin", name, sizes.odin, settings=settings)
        for name in _inside_and_outside(context)
    }


def _inside_and_outside(context: EvaluationContext) -> list[str]:
    outside = [it for it in OUTSIDE if it in context.out_of_distribution]
    return [context.dataset, *outside] if outside else []


def measure_attack(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``min_norm``, float64 (N,): the smallest norm that fools; infinity where the attack found nothing."""
    name, norm = ATTACKED[str(measurement.settings["attack"])]
    rng = shard.rng(seed, "mlss", name, norm)
    threats = [ThreatModel(norm, eps) for eps in EPS]  # type: ignore[arg-type]
    outcome = run_attack(classifier, shard.images, shard.labels, ATTACKS[name], threats, rng=rng, batch_size=batch_size)
    return {"min_norm": outcome.min_norm.cpu().numpy()}


def measure_scores(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), and ``vim``, float64 (N,), where the classifier has features that allow it."""
    features = extract(classifier, shard.images, batch_size)
    columns: Columns = {"logits": features.logits}
    train = str(measurement.settings["train"])
    if train and VIM in usable(features):

        def fit():
            source = shard.dataset(train)
            chosen = source.measuring_order()[: int(measurement.settings["fitted"])]
            training = extract(classifier, source.floats(chosen).to(shard.images.device), batch_size)
            return fit_detector(VIM, training, source.labels[chosen].numpy())

        columns[VIM] = shard.memo.get(("mlss", VIM, seed), fit).scores(features)
    return columns


def measure_odin(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, batch_size: int, **_: object
) -> Columns:
    """One float64 (N,) per setting of ODIN's grid, or for the study's and for none alone."""
    settings = GRID if measurement.settings["settings"] == "all" else (THEIR_ODIN, PLAIN_ODIN)
    scores = odin_grid_scores(classifier, shard.images, settings, batch_size)
    return {_column(setting): found for setting, found in scores.items()}


def measure_example(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,  # noqa: ARG001
    *,
    seed: int,
    batch_size: int,
) -> Columns:
    """``adversarial``, float32 (N, C·H·W): the images after figure 1's attack; ``clean`` and ``attacked``, float32
    (N, K), the logits of both."""
    rng = shard.rng(seed, "mlss", "example")
    threat = ThreatModel(*EXAMPLE_THREAT)  # type: ignore[arg-type]
    attack = ATTACKS[ATTACKED[EXAMPLE_ATTACK][0]]
    outcome = run_attack(classifier, shard.images, shard.labels, attack, [threat], rng=rng, batch_size=batch_size)
    adversarial = outcome.images
    return {
        "adversarial": adversarial.flatten(1).cpu().numpy(),
        "clean": predict_logits(classifier, shard.images, batch_size).cpu().numpy(),
        "attacked": predict_logits(classifier, adversarial, batch_size).cpu().numpy(),
    }


def _column(setting: OdinSetting) -> str:
    return f"{setting.temperature:g}/{setting.eps:g}"


def _accuracy(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    clean = predictions_of(results, measurements["clean"])
    yield share_of(ACCURACY, clean.correct, clean.examples, headline=True)


def _attacks(
    results: Results, measurements: dict[str, Measurement], kind: MetricKind = ROBUST_ACCURACY
) -> Iterator[Metric]:
    for name, measurement in measurements.items():
        norm = results.column(measurement, "min_norm")
        for eps in EPS:
            setting = {"attack": name, "eps": eps}
            yield share_of(kind, norm > eps, results.examples(measurement), setting=setting)


def _mistakes(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    yield from _attacks(results, measurements, MISTAKEN_ACCURACY)


def _augmentation(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    for name in ("rotated", "noisy"):
        answers = predictions_of(results, measurements[name])
        yield share_of(CHANGED_ACCURACY, answers.correct, answers.examples, setting={"change": name})
    corrupted = [predictions_of(results, measurements[f"mnist-c/{name}"]) for name in PUBLISHED]
    right = np.mean([it.correct for it in corrupted], axis=0)
    yield mean_of(CHANGED_ACCURACY, right, corrupted[0].examples, setting={"change": "mnist-c"})


def _calibration(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    if not measurements:
        return
    clean, validation = (predictions_of(results, measurements[name]) for name in ("clean", "validation"))
    temperature = fit_calibrator("temperature", validation.logits, validation.labels)
    for calibrator, probabilities in (
        ("none", np.exp(log_softmax(clean.logits.astype(np.float64), axis=1))),
        ("temperature", temperature(clean.logits)),
    ):
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == clean.labels
        floors = noise_floors(confidence, BINS, _FLOOR_DRAWS, rng=host_generator(results.seed, "noise floor"))
        for kind, prepare in (
            (ECE, prepared_ece),
            (RMS, prepared_rms_calibration_error),
            (MAXIMUM, prepared_max_calibration_error),
        ):
            yield Metric(
                kind,
                prepare(confidence, correct, BINS),
                clean.examples,
                {"calibrator": calibrator},
                no_interval=BIASED,
                chance_band=floors[kind.name].band,
            )
        yield mean_of(CONFIDENCE, confidence, clean.examples, setting={"calibrator": calibrator})
        yield share_of(SURE_SHARE, confidence > 0.9, clean.examples, setting={"calibrator": calibrator})


def _detection(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    yield from _odin(results, measurements)
    for inside, outside in _against_inside(results, measurements, "scores"):
        logits = [results.column(it, "logits") for it in (inside, outside)]
        scores: dict[str, list[NDArray[np.float64]]] = {
            name: [score(each) for each in logits] for name, score in SCORES.items()
        }
        if VIM in results.records[inside].columns:
            scores[VIM] = [results.column(it, VIM) for it in (inside, outside)]
        for name, pair in scores.items():
            yield _auroc(results, (inside, outside), pair, {"score": name})


def _odin(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    for inside, outside in _against_inside(results, measurements, "odin"):
        for setting in GRID:
            if _column(setting) in results.records[inside].columns:
                pair = [results.column(it, _column(setting)) for it in (inside, outside)]
                yield _auroc(results, (inside, outside), pair, {"score": "ODIN", **setting._asdict()})


def _against_inside(
    results: Results, measurements: dict[str, Measurement], what: str
) -> Iterator[tuple[Measurement, Measurement]]:
    inside = f"{what}/{results.context.dataset}"
    for name, measurement in measurements.items():
        if name.startswith(f"{what}/") and name != inside:
            yield measurements[inside], measurement


def _auroc(
    results: Results,
    measurements: tuple[Measurement, Measurement],
    pair: Sequence[NDArray[np.float64]],
    setting: dict[str, str | float],
) -> Metric:
    examples = sum((results.examples(it) for it in measurements), ())
    interval = auroc_interval(*pair) if min(map(len, pair)) > 1 else None
    return Metric(AUROC, prepared_auroc(*pair), examples, setting, interval=interval)
