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
from hardy.contracts import left_untouched
from hardy.datasets import Dataset, load_dataset
from hardy.devices import choose_device, describe
from hardy.door import Admitted, admit_on
from hardy.errors import RunError, UsageError
from hardy.metrics import bootstrap, wilson
from hardy.models import member_count, parameter_count
from hardy.planning import make_plan, plan_from_json, plan_to_json, planned_cells
from hardy.properties import (
    MEASURES,
    PROPERTIES,
    Cell,
    Evidence,
    Property,
    Shard,
    Skipped,
    Statistic,
    get_property,
)
from hardy.properties.framework import Budget
from hardy.randomness import host_generator
from hardy.records import RecordStore, frame
from hardy.runs import Run, environment
from hardy.scorecard import Environment, Metric, Scorecard, Skip
from hardy.scorecard import Subject as SubjectFacts
from hardy.subjects import Subject

# Part of what a record means, so not a setting: random streams do not depend on it, but which images are kept does.
SHARD = 500
RESAMPLES = 500
# Some hundred figures get an interval each, which is most of what a quick evaluation takes.
QUICK_RESAMPLES = 200


class Task(NamedTuple):
    """One shard of one cell, to be measured."""

    cell: Cell
    number: int


class Progress(NamedTuple):
    """What an evaluation reports while it runs."""

    done: int
    tasks: int
    cell: Cell


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
    out: Path,
    *,
    properties: Sequence[str] = (),
    budget: Budget = "standard",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    data: str = "mnist",
    data_dir: Path | None = None,
    adversarial: Sequence[Path] = (),
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
        UsageError: unknown property, budget or dataset; a limit below 1; held-out images to fit on that are in the test
            split.
    """
    names = _in_order(get_property(name).name for name in properties)
    if budget not in get_args(Budget):
        raise UsageError(f"unknown budget '{budget}'; known: {', '.join(get_args(Budget))}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: at least one example is measured")
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: at least one image at once")
    run = _open(subject, out, resume)
    on = choose_device(device)
    classifier = subject.classifier.to(on)

    dataset = cache(lambda name: load_dataset(name, data_dir=data_dir))
    test = dataset(f"{data}/test")
    admitted = admit_on(classifier, test, on, allow_random=allow_random)
    plan = make_plan(test, dataset, data_dir, admitted.classes, budget, limit, adversarial, member_count(classifier))
    hashes = {name: dataset(name).sha256 for name in plan.sizes}
    settings = {"seed": seed, "weights_sha256": subject.weights_sha256, "plan": plan_to_json(plan), "data": hashes}
    names = _agree(run, settings, names)
    chosen = [PROPERTIES[name] for name in names]
    cells, skipped = planned_cells(chosen, plan)
    if plan.held_out is not None and plan.held_out in {cell.dataset for cell in cells}:
        check_disjoint(dataset(plan.held_out), test)
    run.manifest["evaluation"] = settings | {
        "properties": names,
        "environment": environment(describe(on), hashes),
        "subject": _facts(subject, admitted).model_dump(),
        "warnings": admitted.warnings,
    }
    run.save()

    store = RecordStore(run.path / "records")
    with left_untouched(classifier):
        measure = _measurer(classifier, dataset, on, seed, batch_size)
        _measure_missing(cells, store, measure, executor, report)
    evidence = Evidence(plan, store.load(cells), dataset, seed)
    scorecard = _scorecard(run, chosen, evidence, skipped)
    scorecard.write(run.path / "scorecard.json")
    return scorecard


def load_evidence(run: Run, data_dir: Path | None = None) -> tuple[list[Property], Evidence]:
    """The properties and the evidence of an evaluation that was finished before.

    Raises:
        RunError: the run holds no evaluation, or records are missing.
    """
    evaluation = run.manifest.get("evaluation")
    if evaluation is None:
        raise RunError(f"{run.path} holds no evaluation; make one with 'hardy evaluate {run.path}'")
    chosen = [get_property(name) for name in evaluation["properties"]]
    plan = plan_from_json(evaluation["plan"])
    cells, _ = planned_cells(chosen, plan)
    records = RecordStore(run.path / "records").load(cells)
    dataset = cache(lambda name: load_dataset(name, data_dir=data_dir))
    return chosen, Evidence(plan, records, dataset, evaluation["seed"])


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


def _facts(subject: Subject, admitted: Admitted) -> SubjectFacts:
    return SubjectFacts(
        name=subject.name,
        architecture=subject.architecture,
        parameters=parameter_count(subject.classifier),
        classes=admitted.classes,
        weights_sha256=subject.weights_sha256,
        training=subject.training,
    )


def _measurer(
    classifier: nn.Module, dataset: Callable[[str], Dataset], device: torch.device, seed: int, batch_size: int
) -> Callable[[Task], pl.DataFrame]:
    def measure(task: Task) -> pl.DataFrame:
        cell = task.cell
        source = dataset(cell.dataset)
        chosen = source.measuring_order()[: cell.examples][task.number * SHARD : (task.number + 1) * SHARD]
        on_device = (source.floats(chosen).to(device), source.labels[chosen].to(device), chosen.to(device))
        shard = Shard(*on_device, dataset=dataset)
        columns = MEASURES[cell.measure](classifier, shard, cell, seed=seed, batch_size=batch_size)
        return frame(chosen.numpy(), source.labels[chosen].numpy(), columns)

    return measure


def _measure_missing(
    cells: Sequence[Cell],
    store: RecordStore,
    measure: Callable[[Task], pl.DataFrame],
    executor: Executor,
    report: Callable[[Progress], None],
) -> None:
    shards = {cell: -(-cell.examples // SHARD) for cell in cells}
    tasks = [Task(cell, number) for cell in cells for number in store.missing(cell, shards[cell])]
    left = {cell: sum(task.cell == cell for task in tasks) for cell in cells}
    for cell in cells:
        if not left[cell]:
            store.finish(cell, shards[cell])
    for done, (task, records) in enumerate(executor(tasks, measure), start=1):
        store.write(task.cell, task.number, records)
        left[task.cell] -= 1
        if not left[task.cell]:
            store.finish(task.cell, shards[task.cell])
        report(Progress(done, len(tasks), task.cell))


def _scorecard(run: Run, chosen: Sequence[Property], evidence: Evidence, skipped: Sequence[Skipped]) -> Scorecard:
    evaluation = run.manifest["evaluation"]
    metrics, undefined = [], []
    resamples = resamples_of(evidence.plan.budget)
    for prop in chosen:
        for statistic in prop.statistics(evidence):
            metric = figure(prop.name, statistic, evidence.seed, resamples)
            if metric is None:
                undefined.append(Skip(property=prop.name, reason=_not_defined(statistic)))
            else:
                metrics.append(metric)
    warnings = [*evaluation["warnings"], *(warning for prop in chosen for warning in prop.warnings(evidence))]
    return Scorecard(
        subject=SubjectFacts(**evaluation["subject"]),
        environment=Environment(**evaluation["environment"]),
        seed=evidence.seed,
        budget=evidence.plan.budget,
        limit=evidence.plan.limit,
        properties=[prop.name for prop in chosen],
        metrics=metrics,
        warnings=warnings,
        skipped=[Skip(property=skip.property, reason=skip.reason) for skip in skipped] + undefined,
    )


def resamples_of(budget: str) -> int:
    """How many resamples an interval is made of."""
    return min(RESAMPLES, QUICK_RESAMPLES) if budget == "quick" else RESAMPLES


def figure(prop: str, statistic: Statistic, seed: int, resamples: int | None = None) -> Metric | None:
    """One figure with its interval, of so many resamples (``RESAMPLES`` if None); None where it is not defined."""
    value = statistic.compute(np.ones(statistic.n))
    if not np.isfinite(value):
        return None
    if statistic.interval is not None:
        low, high = statistic.interval
    elif statistic.successes is not None:
        low, high = wilson(int(statistic.successes.sum()), statistic.n)
    else:
        strata = [len(indices) for _, indices in statistic.examples]
        low, high = bootstrap(
            statistic.compute, strata, host_generator(seed, "bootstrap"), resamples=resamples or RESAMPLES
        )
    if not np.isfinite([low, high]).all():
        return None
    return Metric(
        property=prop,
        metric=statistic.metric,
        dataset=statistic.dataset,
        setting=dict(statistic.setting),
        value=value,
        low=low,
        high=high,
        n=statistic.n,
        higher_is_better=statistic.higher_is_better,
        headline=statistic.headline,
    )


def _not_defined(statistic: Statistic) -> str:
    setting = ", ".join(f"{key} {value}" for key, value in statistic.setting.items())
    return (
        f"{statistic.metric}{f' ({setting})' if setting else ''} on {statistic.dataset} is not defined on these "
        f"{statistic.n} examples"
    )
