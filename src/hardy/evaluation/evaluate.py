"""Evaluation: plan, measure what is missing shard by shard, and make the scorecard from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import nn

from hardy.calibration import check_disjoint
from hardy.data import Dataset
from hardy.deployment import Bundle
from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError
from hardy.evaluation.budget import Budget, find_budget
from hardy.evaluation.context import make_context, planned_measurements, within_reach
from hardy.evaluation.framework import (
    Measurement,
    Memo,
    Metric,
    Property,
    Results,
    Shard,
    Skipped,
    interval_of,
    resampled,
)
from hardy.evaluation.manifest import EvaluationManifest
from hardy.evaluation.properties import PROPERTIES, measurement_functions
from hardy.evaluation.records import MemoryStore, RecordStore, frame
from hardy.evaluation.scorecard import Environment, Estimate, Scorecard, Skip
from hardy.evaluation.scorecard import Subject as SubjectFacts
from hardy.evaluation.seen import seen_in_training
from hardy.evaluation.sources import Data, OutOfDistribution, Sources, sources_of
from hardy.evaluation.subject import Subject, check_on_dataset, subject_of
from hardy.models import member_count, parameter_count
from hardy.progress import progress_bars
from hardy.rng import host_generator
from hardy.runs import Run, environment, holds_out
from hardy.validation import ClassifierInfo, frozen_evaluation

# Part of what a record means, so not a setting: random streams do not depend on it, but which images are kept does.
SHARD = 500
_MOST_NAMED = 5


class Task(NamedTuple):
    """One shard of one measurement, to be done."""

    measurement: Measurement
    number: int


class Progress(NamedTuple):
    """What an evaluation reports while it runs."""

    done: int
    tasks: int
    measurement: Measurement

    @property
    def text(self) -> str:
        """What was measured last, in a few words."""
        setting = [str(value) for _, value in self.measurement.setting if value != ""]
        return " ".join([self.measurement.function, *setting, "on", self.measurement.dataset])


class Evaluation(NamedTuple):
    """A scorecard with what it was made of.

    Attributes:
        scorecard: the figures.
        properties: what was measured.
        results: the records, for charts.
    """

    scorecard: Scorecard
    properties: Sequence[Property]
    results: Results


Executor = Callable[[Sequence[Task], Callable[[Task], pl.DataFrame]], Iterable[tuple[Task, pl.DataFrame]]]
"""Measures tasks, in any order and anywhere, and gives each back with its records."""


def in_this_process(
    tasks: Sequence[Task], measure: Callable[[Task], pl.DataFrame]
) -> Iterator[tuple[Task, pl.DataFrame]]:
    """The executor that measures one task after another."""
    for task in tasks:
        yield task, measure(task)


def evaluate(
    model: nn.Module | Subject | str | Path,
    data: Data | None = None,
    *,
    train: Data | None = None,
    validation: Data | None = None,
    ood: OutOfDistribution | None = None,
    classes: Sequence[str] | None = None,
    properties: Sequence[str] = (),
    budget: str | Budget = "quick",
    limit: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    data_dir: str | Path | None = None,
    adversarial: Sequence[str | Path] = (),
    norm: str | None = None,
    eps: float | str | Sequence[float | str] | None = None,
    batch_size: int = SHARD,
    resume: bool = False,
    allow_random: bool = False,
    progress: bool = True,
    report: Callable[[Progress], None] | None = None,
    executor: Executor = in_this_process,
) -> Scorecard:
    """Measure a classifier, in memory or into a run folder.

    Args:
        model: an ``nn.Module`` from images (N, C, H, W), float32 in [0, 1], to logits (N, K); or the folder of a run or
            of a bundle, or ``package.module:callable``. It is left as it was.
        data: what is measured on: a ``DataLoader`` of (images, labels), a pair of tensors or arrays, a dataset; or the
            name or path of one, which brings its validation and training split too. By default what the model was
            trained on, where a run says so, else MNIST.
        train: the images that it was trained on, which detectors are fitted on. Without them those are skipped.
        validation: images that it was not trained on, which calibrators, prediction sets and thresholds are fitted on.
            Without them those are skipped.
        ood: names or paths of out-of-distribution datasets, or images by name; by default all at hand of the same
            shape.
        classes: names of the classes; by default their numbers.
        properties: names of what is measured; all if empty, or those of the evaluation that goes on.
        budget: ``quick``, ``standard``, ``full`` or one of your own: how much the costly properties may spend.
        limit: at most so many examples per measurement.
        out: a folder for ``records/``, ``run.json`` and ``scorecard.json``: missing, empty, or the model's own run. By
            default nothing is written.
        seed: all random numbers come from it.
        device: ``auto``, ``cpu``, ``cuda``, …
        data_dir: where to look for datasets first.
        adversarial: files of adversarial images of the test split, as ``hardy attack`` writes, to be scored as well.
        norm: which norm attacks are held to; by default several, each with radii that are usual for such images.
        eps: the radius or radii in it, as numbers or as text like ``8/255``.
        batch_size: images at once; the records do not depend on it.
        resume: go on with the evaluation in ``out``, and add properties that it does not have.
        allow_random: measure a classifier that answers differently each time.
        progress: draw a progress bar, in a terminal or a notebook.
        report: called after each shard, in place of the bar.
        executor: where shards are measured.

    Raises:
        ContractError: the classifier does not keep its contract.
        DataError: what is no images with labels.
        RunError: the folder holds something else, or an evaluation with other settings.
        UsageError: unknown property, budget or dataset; a limit below 1; a norm or a radius that makes no sense;
            validation images that are test images too.

    Example:
        >>> import hardy, torch
        >>> images, labels = torch.rand(60, 3, 16, 16), torch.arange(60) % 3
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
        >>> card = hardy.evaluate(model, (images, labels), properties=["accuracy"], progress=False)
        >>> card["accuracy"].n
        60
    """
    subject = subject_of(model)
    return measure(
        subject,
        sources_of(subject.data(data), train=train, validation=validation, ood=ood, classes=classes, data_dir=data_dir),
        properties=properties,
        budget=budget,
        limit=limit,
        out=out,
        seed=seed,
        device=device,
        adversarial=adversarial,
        norm=norm,
        eps=eps,
        batch_size=batch_size,
        resume=resume,
        allow_random=allow_random,
        progress=progress,
        report=report,
        executor=executor,
    ).scorecard


@holds_out
def measure(
    subject: Subject,
    sources: Sources,
    *,
    properties: Sequence[str] = (),
    budget: str | Budget = "quick",
    limit: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    adversarial: Sequence[str | Path] = (),
    norm: str | None = None,
    eps: float | str | Sequence[float | str] | None = None,
    batch_size: int = SHARD,
    resume: bool = False,
    allow_random: bool = False,
    progress: bool = True,
    report: Callable[[Progress], None] | None = None,
    executor: Executor = in_this_process,
) -> Evaluation:
    """:func:`evaluate`, with what its report is made of."""
    names = _in_order(PROPERTIES.find(name.replace("-", "_")).name for name in properties)
    budget = find_budget(budget)
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: at least one example is measured")
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: at least one image at once")
    run = None if out is None else _open(subject, Path(out), resume)
    on = choose_device(device)
    sources = sources.for_classes(subject.classes)
    test = sources(sources.test)
    with _moved_to(on, subject.classifier) as classifier:
        if subject.access == "logits":
            info = ClassifierInfo(test.images.shape[-1], [])
        else:
            info = check_on_dataset(classifier, test, on, allow_random=allow_random)
        members, access = member_count(classifier), subject.access
        deployed = "" if subject.bundle is None else subject.bundle.fingerprint
        context = make_context(
            sources, info.classes, budget, limit, adversarial, members, access, deployed, norm=norm, eps=eps
        )
        hashes = {name: sources(name).sha256 for name in dict.fromkeys([*context.sizes, *sources.in_memory])}
        manifest = EvaluationManifest(
            seed=seed,
            weights_sha256=subject.weights_sha256,
            context=context,
            data=hashes,
            in_memory=sources.in_memory,
            aliases=dict(sources.aliases),
            classes=sources.classes,
            properties=names or list(PROPERTIES),
            environment=Environment(**environment(describe(on), hashes)),
            subject=_facts(subject, info),
            warnings=[*info.warnings, *skipped_files(sources(name) for name in hashes)],
        )
        before = None if run is None else EvaluationManifest.of(run)
        if run is not None and before is not None:
            _check_same(run, before, manifest)
            manifest = manifest.model_copy(update={"properties": _in_order([*names, *before.properties])})
        chosen, beyond = within_reach([PROPERTIES[name] for name in manifest.properties], context.access)
        measurements, skipped = planned_measurements(chosen, context)
        skipped += beyond
        if context.validation is not None and context.validation in {it.dataset for it in measurements}:
            check_disjoint(sources(context.validation), test)
        if run is not None:
            manifest.save(run)

        store = MemoryStore() if run is None else RecordStore(run.path / "records")
        with frozen_evaluation(classifier), progress_bars("measuring", progress and report is None) as draw:
            _measure_missing(
                measurements,
                store,
                _measurer(classifier, sources, on, seed, batch_size, subject.bundle),
                executor,
                report or (lambda now: draw(now.done, now.tasks, now.text)),
            )
    results = Results(context, store.load(measurements), sources, seed)
    scorecard = _scorecard(manifest, chosen, results, skipped)
    if run is not None:
        scorecard.write(run.path / "scorecard.json")
    return Evaluation(scorecard, chosen, results)


def load_results(
    run: Run, data_dir: str | Path | None = None, properties: Sequence[str] = ()
) -> tuple[list[Property], Results]:
    """The properties, all of them or those named, and the results of an evaluation that was finished before.

    Raises:
        RunError: the run holds no evaluation, one by another version of hardy, or records are missing.
    """
    manifest = EvaluationManifest.of(run)
    if manifest is None:
        raise RunError(f"{run.path} holds no evaluation; make one with 'hardy evaluate {run.path}'")
    context = manifest.context
    chosen, _ = within_reach([PROPERTIES.find(name) for name in properties or manifest.properties], context.access)
    measurements, _ = planned_measurements(chosen, context)
    records = RecordStore(run.path / "records").load(measurements)
    directory = Path(data_dir) if data_dir is not None else None
    sources = Sources(
        context.dataset,
        context.validation,
        context.train,
        in_memory=manifest.in_memory,
        aliases=manifest.aliases,
        classes=manifest.classes,
        data_dir=directory,
    )
    return chosen, Results(context, records, sources, manifest.seed)


def skipped_files(datasets: Iterable[Dataset]) -> list[str]:
    """A warning for the files among a user's images that are no images."""
    files = list(dict.fromkeys(file for dataset in datasets for file in dataset.skipped))
    if not files:
        return []
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    return [f"skipped, being no images: {', '.join(files[:_MOST_NAMED])}{more}"]


def _open(subject: Subject, out: Path, resume: bool) -> Run:
    own = subject.run is not None and out.resolve() == subject.run.resolve()
    run = Run.open_or_create(out) if resume or own else Run.create(out)
    if "evaluation" in run.manifest and not resume:
        raise RunError(f"{out} already holds an evaluation; go on with it by --resume, or choose another --out")
    if "model" in run.manifest and not own:
        raise RunError(f"{out} is the run of another classifier; choose another --out")
    return run


@contextmanager
def _moved_to(device: torch.device, classifier: nn.Module) -> Iterator[nn.Module]:
    """Yield the classifier on a device, and move it back to where it was."""
    before = next((it.device for it in [*classifier.parameters(), *classifier.buffers()]), device)
    try:
        yield classifier.to(device)
    finally:
        classifier.to(before)


def _check_same(run: Run, before: EvaluationManifest, now: EvaluationManifest) -> None:
    different = {
        "seed": before.seed != now.seed,
        "classifier": before.weights_sha256 != now.weights_sha256,
        "plan (budget, limit, norm and radii, or datasets at hand)": before.context != now.context,
        "data": before.data != now.data,
    }
    for what, differs in different.items():
        if differs:
            raise RunError(
                f"{run.path} was evaluated with another {what}; resume with the same, or choose another --out"
            )


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
    classifier: nn.Module,
    dataset: Callable[[str], Dataset],
    device: torch.device,
    seed: int,
    batch_size: int,
    bundle: Bundle | None,
) -> Callable[[Task], pl.DataFrame]:
    functions, memo = measurement_functions(), Memo()

    def measure(task: Task) -> pl.DataFrame:
        measurement = task.measurement
        source = dataset(measurement.dataset)
        chosen = source.measuring_order()[: measurement.examples][task.number * SHARD : (task.number + 1) * SHARD]
        on_device = (source.floats(chosen).to(device), source.labels[chosen].to(device), chosen.to(device))
        shard = Shard(*on_device, dataset, memo, bundle)
        columns = functions[measurement.function](classifier, shard, measurement, seed=seed, batch_size=batch_size)
        return frame(chosen.numpy(), source.labels[chosen].numpy(), columns)

    return measure


def _measure_missing(
    measurements: Sequence[Measurement],
    store: RecordStore | MemoryStore,
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


def _scorecard(
    manifest: EvaluationManifest, chosen: Sequence[Property], results: Results, skipped: Sequence[Skipped]
) -> Scorecard:
    estimates, undefined = [], []
    for prop in chosen:
        for metric in prop.metrics(results):
            found = estimate(prop.name, metric, results.seed, results.context.budget.resamples)
            if found is None:
                undefined.append(Skip(property=prop.name, reason=_not_defined(metric)))
            else:
                seen = seen_in_training(manifest.subject.training, found.dataset, found.setting, manifest.data)
                estimates.append(found.model_copy(update={"warnings": (*found.warnings, *seen)}))
    skipped = [*skipped, *(skip for prop in chosen for skip in prop.skipped(results))]
    warnings = [*manifest.warnings, *(warning for prop in chosen for warning in prop.warnings(results))]
    return Scorecard(
        subject=manifest.subject,
        environment=manifest.environment,
        seed=results.seed,
        budget=results.context.budget.name,
        limit=results.context.limit,
        properties=[prop.name for prop in chosen],
        estimates=estimates,
        warnings=warnings,
        skipped=[Skip(property=skip.property, reason=skip.reason) for skip in skipped] + undefined,
    )


def estimate(prop: str, metric: Metric, seed: int, resamples: int = 500) -> Estimate | None:
    """One figure, with its interval of so many bootstrap resamples if it has one; None where it is not defined."""
    value = metric.compute(np.ones(metric.n))
    if not np.isfinite(value):
        return None
    interval = interval_of(metric, value, lambda: resampled(metric, host_generator(seed, "bootstrap"), resamples))
    if interval is None and not metric.no_interval:
        return None
    kind = metric.kind
    return Estimate(
        property=prop,
        metric=kind.name,
        title=kind.title,
        question=kind.question,
        unit=kind.unit,
        bounds=kind.bounds,
        chance=kind.chance,
        dataset=metric.dataset,
        setting=dict(metric.setting),
        value=value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        no_interval=metric.no_interval,
        chance_band=metric.chance_band,
        n=metric.n,
        higher_is_better=kind.higher_is_better,
        headline=metric.headline,
        warnings=metric.warnings,
    )


def _not_defined(metric: Metric) -> str:
    setting = ", ".join(f"{key} {value}" for key, value in metric.setting.items())
    return (
        f"{metric.kind.name}{f' ({setting})' if setting else ''} on {metric.dataset} is not defined on these "
        f"{metric.n} examples"
    )
