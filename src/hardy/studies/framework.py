"""What a study is: arms that are trained and evaluated one by one, and a page made from their results.

Each arm is a run folder with an evaluation, and depends on no other arm: a study that was stopped goes on at the first
arm that is missing, to the same figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError, unknown
from hardy.evaluation.budget import BudgetName, find_budget
from hardy.evaluation.evaluate import load_results, measure
from hardy.evaluation.framework import Metric, Property
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.sources import sources_of
from hardy.evaluation.subject import subject_of
from hardy.files import write_json, write_text
from hardy.runs import Run, environment, holds_out
from hardy.training.interrupt import stop_on_signal
from hardy.training.loop import Stopped

SCHEMA = 3


@dataclass(frozen=True)
class Options:
    """What every study takes.

    Attributes:
        model: the recipe whose network and optimizer are used.
        seeds: how many trainings each arm has.
        seed: the first of them.
        budget: how much is trained and measured.
        only: names of the parts of the study that are wanted; all where it is empty.
        limit: at most so many training images, and test images per figure.
        epochs: how long networks are trained, in studies that leave that open; None is as the budget says.
        device: ``auto``, ``cpu``, ``cuda``, …
        data_dir: where to look for datasets first.
    """

    model: str
    seeds: int = 5
    seed: int = 0
    budget: BudgetName = "standard"
    only: tuple[str, ...] = ()
    limit: int | None = None
    epochs: int | None = None
    device: str = "auto"
    data_dir: Path | None = None


class Prepared(NamedTuple):
    """A study ready to run.

    Attributes:
        arms: names of arms, which are file names too, in order.
        facts: what the figures depend on besides the options, as JSON values: datasets and their hashes.
        train: trains one arm; asks now and then whether to stop.
        measured: what each trained arm is evaluated by.
        plan: what will be done and about how long that takes, in words.
        random: arms whose classifier answers differently each time, which is what is studied.
    """

    arms: Sequence[str]
    facts: dict[str, Any]
    train: Callable[[str, Callable[[], bool]], nn.Module]
    measured: Callable[[str], Property]
    plan: str = ""
    random: frozenset[str] = frozenset()


class Page(NamedTuple):
    """What a study found: all figures as JSON values, and the page in Markdown."""

    figures: dict[str, Any]
    markdown: str


class Progress(NamedTuple):
    """What a study reports before each arm, and at its end."""

    done: int
    arms: int
    arm: str


@dataclass(frozen=True)
class Study:
    """A table of arms. Registered in :mod:`hardy.studies`.

    Attributes:
        name: what the command line calls it.
        description: one line for the user.
        model: the recipe it uses unless another is named.
        parts: what ``only`` may name.
        prepare: loads what all arms share; is given the study's folder, for what it keeps there.
        summarize: from the options and each arm's metrics to the page; trains and measures nothing.
        takes_epochs: whether ``epochs`` may be set.
        takes_seeds: whether each arm may be trained several times.
    """

    name: str
    description: str
    model: str
    parts: tuple[str, ...]
    prepare: Callable[[Options, Path], Prepared]
    summarize: Callable[[Options, Mapping[str, Sequence[Metric]]], Page]
    takes_epochs: bool = False
    takes_seeds: bool = True


@holds_out
def run_study(
    study: Study,
    out: str | Path,
    options: Options,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
) -> Page:
    """Run what is missing of a study in the run folder ``out``: ``arms/``, then ``study.json`` and ``study.md``.

    Raises:
        Stopped: SIGINT or SIGTERM came; finished arms are kept.
        RunError: the folder holds something else, or a study with other options.
        UsageError: unknown part, budget or device; fewer than one seed or example.
    """
    _check(study, options)
    out = Path(out)
    run = Run.open_or_create(out) if resume else Run.create(out)
    found = run.manifest.get("study")
    if found is None and len(run.manifest) > 1:
        raise RunError(f"{out} holds a run that is no study; choose another --out")
    prepared = study.prepare(options, out)
    asked = {"name": study.name, "options": _as_json(options), "facts": prepared.facts}
    for key, value in asked.items():
        if found is not None and found[key] != value:
            what = "datasets" if key == "facts" else key
            raise RunError(f"{out} holds a study with other {what}; resume with the same, or choose another --out")
    described = describe(choose_device(options.device))
    run.manifest["study"] = asked | {"environment": environment(described, prepared.facts.get("data", {}))}
    run.save()

    runs = {arm: out / "arms" / arm for arm in prepared.arms}
    missing = [arm for arm, path in runs.items() if not (path / "scorecard.json").exists()]
    sources = sources_of("mnist", data_dir=options.data_dir)
    if prepared.plan and missing:
        announce(prepared.plan)
    with stop_on_signal() as stop:
        for done, arm in enumerate(missing):
            report(Progress(done, len(missing), arm))
            if stop():
                raise Stopped(f"stopped with {len(missing) - done} of {len(runs)} arms to go; go on with --resume")
            measured = prepared.measured(arm)
            with PROPERTIES.holding(measured):
                measure(
                    dataclasses.replace(subject_of(prepared.train(arm, stop)), name=arm),
                    sources,
                    properties=[measured.name],
                    budget=options.budget,
                    limit=options.limit,
                    out=runs[arm],
                    seed=options.seed,
                    device=options.device,
                    resume=True,
                    allow_random=arm in prepared.random,
                    progress=False,
                )
        report(Progress(len(missing), len(missing), ""))
    page = study.summarize(
        options, {arm: _metrics(prepared.measured(arm), path, options) for arm, path in runs.items()}
    )
    write_json(out / "study.json", {"schema": SCHEMA, **asked, "figures": page.figures})
    write_text(out / "study.md", page.markdown)
    return page


def _metrics(measured: Property, path: Path, options: Options) -> list[Metric]:
    with PROPERTIES.holding(measured):
        return measured.metrics(load_results(Run.open(path), options.data_dir)[1])


def _check(study: Study, options: Options) -> None:
    for part in options.only:
        if part not in study.parts:
            raise unknown(f"part of the study '{study.name}'", part, study.parts)
    find_budget(options.budget)
    if options.epochs is not None and not study.takes_epochs:
        raise UsageError(f"the study '{study.name}' takes no epochs: its budgets say how long it trains")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"epochs {options.epochs}: a network is trained for at least one")
    if options.seeds > 1 and not study.takes_seeds:
        raise UsageError(f"the study '{study.name}' trains each network once; leave out seeds")
    if options.seeds < 1:
        raise UsageError(f"seeds {options.seeds}: a study takes at least one")
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"limit {options.limit}: at least one example is measured")


def _as_json(options: Options) -> dict[str, Any]:
    """The options that figures depend on."""
    values = dataclasses.asdict(options) | {"only": list(options.only)}
    return {name: value for name, value in values.items() if name not in ("device", "data_dir")}
