"""Evaluation: plan, measure what is missing shard by shard, and make the scorecard from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import polars as pl
import torch
from torch import nn

from hardy.calibration import check_disjoint
from hardy.data import Dataset, load_dataset
from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError
from hardy.evaluation.context import context_from_json, context_to_json, make_context, planned_measurements
from hardy.evaluation.framework import Budget, Memo
from hardy.evaluation.properties import (
    MEASUREMENT_FUNCTIONS,
    PROPERTIES,
    Measurement,
    Metric,
    Property,
    Results,
    Shard,
    Skipped,
    get_property,
)
from hardy.evaluation.records import RecordStore, frame
from hardy.evaluation.scorecard import Environment, Estimate, Scorecard, Skip
from hardy.evaluation.scorecard import Subject as SubjectFacts
from hardy.evaluation.subject import Subject, check_on_dataset
from hardy.metrics import bootstrap, wilson
from hardy.models import member_count, parameter_count
from hardy.rng import host_generator
from hardy.runs import Run, environment
from hardy.validation import ClassifierInfo, frozen_evaluation

# Part of what a record means, so not a setting: random streams do not depend on it, but which images are kept does.
SHARD = 500
RESAMPLES = 500
# Some hundred figures get an interval each, which is most of what a quick evaluation takes.
QUICK_RESAMPLES = 200


class Task(NamedTuple):
    """One shard of one cell, to be measured."""

    measurement: Measurement
    number: int


class Progress(NamedTuple):
    """What an evaluation reports while it runs."""

    done: int
    tasks: int
    measurement: Measurement


Executor = Callable[[Sequence[Task], Callable[[Task], pl.DataFrame]], Iterable[tuple[Task, pl.DataFrame]]]
"""Measures tasks, in any order and anywhere, and gives each back with its records."""


def in_this_process(
    tasks: Sequence[Task], measure: Callable[[Task], pl.DataFrame]
) -> Iterator[tuple[Task, pl.DataFrame]]:
    """The executor that measures one task after another."""
    for task in tasks:
        yield task, measure(task)


def evaluate(
    subject: Subject,
    out: str | Path,
    *,
    properties: Sequence[str] = (),
    budget: Budget = "standard",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    data: str = "mnist",
    data_dir: str | Path | None = None,
    adversarial: Sequence[str | Path] = (),
    batch_size: int = SHARD,
    resume: bool = False,
    allow_random: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    executor: Executor = in_this_process,
) -> Scorecard:
    """Measure a classifier into the run folder ``out``: ``records/``, then ``scorecard.json``.

    Args:
        subject: the classifier; left as it was.
        out: a folder that is missing or empty, or the subject's own run. With ``resume`` an evaluation in it goes on,
            and properties that it did not have are added.
        properties: which; if empty all, or those of the evaluation that goes on.
        budget: how much the costly properties may spend.
        limit: at most so many examples a cell.
        seed: all random numbers come from it.
        device: ``auto``, ``cpu``, ``cuda``, …
        data: the dataset; its ``test`` split is measured on.
        data_dir: where to look for datasets first.
        adversarial: saved sets of adversarial images, made of the test split, to score besides.
        batch_size: images at once; the records do not depend on it.
        resume: go on with the evaluation in ``out``.
        allow_random: measure a classifier that answers differently each time.
        report: called after each shard.
        executor: where tasks are measured.

    Raises:
        ContractError: the classifier does not keep its contract.
        RunError: the folder holds something else, or an evaluation with other settings.
        UsageError: unknown property, budget or dataset; a limit below 1; validation images to fit on that are in
            the test split.
    """
    names = _in_order(get_property(name).name for name in properties)
    if budget not in get_args(Budget):
        raise UsageError(f"unknown budget '{budget}'; known: {', '.join(get_args(Budget))}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: at least one example is measured")
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: at least one image at once")
    data_dir = Path(data_dir) if data_dir is not None else None
    run = _open(subject, Path(out), resume)
    on = choose_device(device)
    classifier = subject.classifier.to(on)

    dataset = cache(lambda name: load_dataset(name, data_dir=data_dir))
    test = dataset(f"{data}/test")
    info = check_on_dataset(classifier, test, on, allow_random=allow_random)
    context = make_context(test, dataset, data_dir, info.classes, budget, limit, adversarial, member_count(classifier))
    hashes = {name: dataset(name).sha256 for name in context.sizes}
    settings = {
        "seed": seed,
        "weights_sha256": subject.weights_sha256,
        "plan": context_to_json(context),
        "data": hashes,
    }
    names = _agree(run, settings, names)
    chosen = [PROPERTIES[name] for name in names]
    measurements, skipped = planned_measurements(chosen, context)
    if context.validation is not None and context.validation in {measurement.dataset for measurement in measurements}:
        check_disjoint(dataset(context.validation), test)
    run.manifest["evaluation"] = settings | {
        "properties": names,
        "environment": environment(describe(on), hashes),
        "subject": _facts(subject, info).model_dump(),
        "warnings": info.warnings,
    }
    run.save()

    store = RecordStore(run.path / "records")
    with frozen_evaluation(classifier):
        measure = _measurer(classifier, dataset, on, seed, batch_size)
        _measure_missing(measurements, store, measure, executor, report)
    results = Results(context, store.load(measurements), dataset, seed)
    scorecard = _scorecard(run, chosen, results, skipped)
    scorecard.write(run.path / "scorecard.json")
    return scorecard


def load_results(run: Run, data_dir: Path | None = None) -> tuple[list[Property], Results]:
    """The properties and the evidence of an evaluation that was finished before.

    Raises:
        RunError: the run holds no evaluation, or records are missing.
    """
    evaluation = run.manifest.get("evaluation")
    if evaluation is None:
        raise RunError(f"{run.path} holds no evaluation; make one with 'hardy evaluate {run.path}'")
    chosen = [get_property(name) for name in evaluation["properties"]]
    context = context_from_json(evaluation["plan"])
    measurements, _ = planned_measurements(chosen, context)
    records = RecordStore(run.path / "records").load(measurements)
    dataset = cache(lambda name: load_dataset(name, data_dir=data_dir))
    return chosen, Results(context, records, dataset, evaluation["seed"])


def _open(subject: Subject, out: Path, resume: bool) -> Run:
    own = subject.run is not None and out.resolve() == subject.run.resolve()
    run = Run.open_or_create(out) if resume or own else Run.create(out)
    if "evaluation" in run.manifest and not resume:
        raise RunError(f"{out} already holds an evaluation; go on with it by --resume, or choose another --out")
    if "model" in run.manifest and not own:
        raise RunError(f"{out} is the run of another classifier; choose another --out")
    return run


def _agree(run: Run, settings: dict[str, Any], names: list[str]) -> list[str]:
    """The properties of this evaluation and of the one it goes on with, which must have the same settings."""
    before = run.manifest.get("evaluation")
    if before is None:
        return names or list(PROPERTIES)
    for key, value in settings.items():
        if before[key] != value:
            what = {"plan": "plan (budget, limit, or datasets at hand)", "weights_sha256": "classifier"}.get(key, key)
            raise RunError(
                f"{run.path} was evaluated with another {what}; resume with the same, or choose another --out"
            )
    return _in_order([*names, *before["properties"]])


def _in_order(names: Iterable[str]) -> list[str]:
    """Properties in the order of the registry, each once."""
    chosen = set(names)
    return [name for name in PROPERTIES if name in chosen]


def _facts(subject: Subject, info: ClassifierInfo) -> SubjectFacts:
    return SubjectFacts(
        name=subject.name,
        architecture=subject.architecture,
        parameters=parameter_count(subject.classifier),
        classes=info.classes,
        weights_sha256=subject.weights_sha256,
        training=subject.training,
    )


def _measurer(
    classifier: nn.Module, dataset: Callable[[str], Dataset], device: torch.device, seed: int, batch_size: int
) -> Callable[[Task], pl.DataFrame]:
    memo = Memo()

    def measure(task: Task) -> pl.DataFrame:
        measurement = task.measurement
        source = dataset(measurement.dataset)
        chosen = source.measuring_order()[: measurement.examples][task.number * SHARD : (task.number + 1) * SHARD]
        on_device = (source.floats(chosen).to(device), source.labels[chosen].to(device), chosen.to(device))
        shard = Shard(*on_device, dataset, memo)
        columns = MEASUREMENT_FUNCTIONS[measurement.function](
            classifier, shard, measurement, seed=seed, batch_size=batch_size
        )
        return frame(chosen.numpy(), source.labels[chosen].numpy(), columns)

    return measure


def _measure_missing(
    measurements: Sequence[Measurement],
    store: RecordStore,
    measure: Callable[[Task], pl.DataFrame],
    executor: Executor,
    report: Callable[[Progress], None],
) -> None:
    shards = {measurement: -(-measurement.examples // SHARD) for measurement in measurements}
    tasks = [
        Task(measurement, number)
        for measurement in measurements
        for number in store.missing(measurement, shards[measurement])
    ]
    left = {measurement: sum(task.measurement == measurement for task in tasks) for measurement in measurements}
    for measurement in measurements:
        if not left[measurement]:
            store.finish(measurement, shards[measurement])
    for done, (task, records) in enumerate(executor(tasks, measure), start=1):
        store.write(task.measurement, task.number, records)
        left[task.measurement] -= 1
        if not left[task.measurement]:
            store.finish(task.measurement, shards[task.measurement])
        report(Progress(done, len(tasks), task.measurement))


def _scorecard(run: Run, chosen: Sequence[Property], results: Results, skipped: Sequence[Skipped]) -> Scorecard:
    evaluation = run.manifest["evaluation"]
    estimates, undefined = [], []
    resamples = resamples_of(results.context.budget)
    for prop in chosen:
        for metric in prop.metrics(results):
            found = estimate(prop.name, metric, results.seed, resamples)
            if found is None:
                undefined.append(Skip(property=prop.name, reason=_not_defined(metric)))
            else:
                estimates.append(found)
    warnings = [*evaluation["warnings"], *(warning for prop in chosen for warning in prop.warnings(results))]
    return Scorecard(
        subject=SubjectFacts(**evaluation["subject"]),
        environment=Environment(**evaluation["environment"]),
        seed=results.seed,
        budget=results.context.budget,
        limit=results.context.limit,
        properties=[prop.name for prop in chosen],
        estimates=estimates,
        warnings=warnings,
        skipped=[Skip(property=skip.property, reason=skip.reason) for skip in skipped] + undefined,
    )


def resamples_of(budget: str) -> int:
    """How many resamples an interval is made of."""
    return min(RESAMPLES, QUICK_RESAMPLES) if budget == "quick" else RESAMPLES


def estimate(prop: str, metric: Metric, seed: int, resamples: int | None = None) -> Estimate | None:
    """One figure with its interval, of so many resamples (``RESAMPLES`` if None); None where it is not defined."""
    value = metric.compute(np.ones(metric.n))
    if not np.isfinite(value):
        return None
    if metric.interval is not None:
        low, high = metric.interval
    elif metric.successes is not None:
        low, high = wilson(int(metric.successes.sum()), metric.n)
    else:
        strata = [len(indices) for _, indices in metric.examples]
        low, high = bootstrap(
            metric.compute, strata, host_generator(seed, "bootstrap"), resamples=resamples or RESAMPLES
        )
    if not np.isfinite([low, high]).all():
        return None
    return Estimate(
        property=prop,
        metric=metric.metric,
        title=metric.metric.replace("_", " "),
        unit="number",
        dataset=metric.dataset,
        setting=dict(metric.setting),
        value=value,
        low=low,
        high=high,
        n=metric.n,
        higher_is_better=metric.higher_is_better,
        headline=metric.headline,
    )


def _not_defined(metric: Metric) -> str:
    setting = ", ".join(f"{key} {value}" for key, value in metric.setting.items())
    return (
        f"{metric.metric}{f' ({setting})' if setting else ''} on {metric.dataset} is not defined on these "
        f"{metric.n} examples"
    )
