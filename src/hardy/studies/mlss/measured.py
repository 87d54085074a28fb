"""What each network of the study is measured on, as a property of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
from hardy.ood import extract, fit_detector, odin_scores
from hardy.ood.detector import usable
from hardy.ood.logit_scores import max_logit, max_softmax, uniform_cross_entropy
from hardy.ood.odin import GRID, OdinSetting
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
SCORES = {"max logit": max_logit, "softmax max": max_softmax, "cross entropy": uniform_cross_entropy}
VIM = "vim"
THEIR_ODIN = OdinSetting(0.33, 0.1)
OUTSIDE = ("notmnist/test", "fashion-mnist/test")
_FITTED_ON = 5000
_FLOOR_DRAWS = 300

ACCURACY = MetricKind.share("accuracy", "Accuracy", higher_is_better=True)
ROBUST_ACCURACY = MetricKind.share("robust_accuracy", "Robust accuracy", higher_is_better=True)
CHANGED_ACCURACY = MetricKind.share("changed_accuracy", "Accuracy on changed images", higher_is_better=True)
SURE_SHARE = MetricKind.share("sure_share", "Share of confidences above 90 %", higher_is_better=None)
AUROC = MetricKind("auroc", "AUROC", higher_is_better=True, bounds=(0.0, 1.0), chance=0.5)


class Sizes(NamedTuple):
    """How many images are measured on; ``corrupted`` is for each of 15 corruptions, ``odin`` for each of its grid."""

    clean: int
    attacked: int
    changed: int
    corrupted: int
    detected: int
    odin: int


def mlss_property(parts: Sequence[str], sizes: Sizes) -> Property:
    """The figures of these parts of the study."""
    return Property(
        name="mlss",
        title="The study",
        description="What the study says of its networks.",
        plan=lambda context: Plan(list(measurements_of(context, parts, sizes).values())),
        metrics=lambda results: list(_metrics(results, measurements_of(results.context, parts, sizes))),
        functions={
            "predict": measure_predictions,
            "mlss_attack": measure_attack,
            "mlss_changed": measure_changed,
            "mlss_scores": measure_scores,
            "mlss_odin": measure_odin,
        },
    )


def measurements_of(context: EvaluationContext, parts: Sequence[str], sizes: Sizes) -> dict[str, Measurement]:
    """By what they are for."""

    def on(function: str, dataset: str, at_most: int, **setting: str | int) -> Measurement:
        return Measurement.of(function, dataset, context.examples(dataset, at_most), **setting)

    found = {"clean": on("predict", context.dataset, sizes.clean)}
    if context.validation and "calibration" in parts:
        found["validation"] = on("predict", context.validation, sizes.clean)
    if "attacks" in parts:
        found |= {
            f"attack/{name}": on("mlss_attack", context.dataset, sizes.attacked, attack=name) for name in ATTACKED
        }
    if "augmentation" in parts:
        for name in ("rotated", "noisy", *(f"mnist-c/{it}" for it in PUBLISHED)):
            size = sizes.corrupted if "/" in name else sizes.changed
            found[f"changed/{name}"] = on("mlss_changed", context.dataset, size, change=name)
    if "detection" in parts:
        for name in (context.dataset, *(it for it in OUTSIDE if it in context.out_of_distribution)):
            found[f"scores/{name}"] = on("mlss_scores", name, sizes.detected, train=context.train or "")
            found[f"odin/{name}"] = on("mlss_odin", name, sizes.odin)
    return found


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
            chosen = source.measuring_order()[:_FITTED_ON]
            training = extract(classifier, source.floats(chosen).to(shard.images.device), batch_size)
            return fit_detector(VIM, training, source.labels[chosen].numpy())

        columns[VIM] = shard.memo.get(("mlss", VIM, seed), fit).scores(features)
    return columns


def measure_odin(
    classifier: nn.Module,
    shard: Shard,
    measurement: Measurement,  # noqa: ARG001
    *,
    batch_size: int,
    **_: object,
) -> Columns:
    """One float64 (N,) per setting of ODIN's grid."""
    return {_column(setting): odin_scores(classifier, shard.images, setting, batch_size) for setting in GRID}


def _column(setting: OdinSetting) -> str:
    return f"{setting.temperature:g}/{setting.eps:g}"


def _metrics(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
    clean = predictions_of(results, measurements["clean"])
    yield share_of(ACCURACY, clean.correct, clean.examples, headline=True)
    if "validation" in measurements:
        yield from _calibration(results, measurements)
    for name, measurement in measurements.items():
        kind, _, what = name.partition("/")
        if kind == "attack":
            norm = results.column(measurement, "min_norm")
            for eps in EPS:
                setting = {"attack": what, "eps": eps}
                yield share_of(ROBUST_ACCURACY, norm > eps, results.examples(measurement), setting=setting)
        elif name in ("changed/rotated", "changed/noisy"):
            answers = predictions_of(results, measurement)
            yield share_of(CHANGED_ACCURACY, answers.correct, answers.examples, setting={"change": what})
        elif kind == "scores" and what != results.context.dataset:
            yield from _detection(results, measurements[f"scores/{results.context.dataset}"], measurement)
        elif kind == "odin" and what != results.context.dataset:
            yield from _odin(results, measurements[f"odin/{results.context.dataset}"], measurement)
    corrupted = [predictions_of(results, it) for name, it in measurements.items() if name.startswith("changed/mnist-c")]
    if corrupted:
        right = np.mean([it.correct for it in corrupted], axis=0)
        yield mean_of(CHANGED_ACCURACY, right, corrupted[0].examples, setting={"change": "mnist-c"})


def _calibration(results: Results, measurements: dict[str, Measurement]) -> Iterator[Metric]:
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
        yield share_of(SURE_SHARE, confidence > 0.9, clean.examples, setting={"calibrator": calibrator})


def _detection(results: Results, inside: Measurement, outside: Measurement) -> Iterator[Metric]:
    logits = [results.column(it, "logits") for it in (inside, outside)]
    scores: dict[str, list[NDArray[np.float64]]] = {
        name: [score(each) for each in logits] for name, score in SCORES.items()
    }
    if VIM in results.records[inside].columns:
        scores[VIM] = [results.column(it, VIM) for it in (inside, outside)]
    for name, pair in scores.items():
        yield _auroc(results, (inside, outside), pair, {"score": name})


def _odin(results: Results, inside: Measurement, outside: Measurement) -> Iterator[Metric]:
    for setting in GRID:
        pair = [results.column(it, _column(setting)) for it in (inside, outside)]
        yield _auroc(results, (inside, outside), pair, {"score": "ODIN", **setting._asdict()})


def _auroc(
    results: Results,
    measurements: tuple[Measurement, Measurement],
    pair: Sequence[NDArray[np.float64]],
    setting: dict[str, str | float],
) -> Metric:
    examples = sum((results.examples(it) for it in measurements), ())
    interval = auroc_interval(*pair) if min(map(len, pair)) > 1 else None
    return Metric(AUROC, prepared_auroc(*pair), examples, setting, interval=interval)
