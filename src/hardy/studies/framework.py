"""What a study is: arms that are trained and evaluated one by one, and a page made from their results.

Each arm is a run folder with an evaluation, and depends on no other arm: a study that was stopped goes on at the first
arm that is missing, to the same figures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from hardy.devices import choose_device, describe
from hardy.errors import RunError, UsageError, unknown
from hardy.evaluation.budget import BudgetName, find_budget
from hardy.evaluation.evaluate import load_results, measure
from hardy.evaluation.framework import Metric, Property, Results
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.scorecard import Scorecard
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
        hardened: recipes, or folders of runs or bundles, for the columns of hardened networks of a study that has them;
            its own where it is empty.
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
    hardened: tuple[str, ...] = ()
    device: str = "auto"
    data_dir: Path | None = None


class Prepared(NamedTuple):
    """A study ready to run.

    Attributes:
        arms: names of arms, which are file names too, in order.
        facts: what the figures depend on besides the options, as JSON values: datasets and their hashes.
        train: trains one arm; asks now and then whether to stop.
        properties: what arms are evaluated by.
        measured: names of the properties of one arm; None is all of them.
        arm_facts: what the figures of single arms depend on, as JSON values.
        plan: what will be done and about how long that takes, in words.
        random: arms whose classifier answers differently each time, which is what is studied.
    """

    arms: Sequence[str]
    facts: dict[str, Any]
    train: Callable[[str, Callable[[], bool]], nn.Module]
    properties: Sequence[Property]
    measured: Callable[[str], Sequence[str]] | None = None
    arm_facts: Mapping[str, Any] = MappingProxyType({})
    plan: str = ""
    random: frozenset[str] = frozenset()


class Page(NamedTuple):
    """What a study found: all figures as JSON values, and the page in Markdown and perhaps in HTML."""

    figures: dict[str, Any]
    markdown: str
    html: str = ""


class Measured(NamedTuple):
    """What is known of an arm: its metrics, and the records that they come from."""

    metrics: Sequence[Metric]
    results: Results


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
        summarize: from the options, what is known of each arm and what the manifest says of the study (its
            ``environment``, its ``seconds``) to the page; trains and measures nothing.
        takes_epochs: whether ``epochs`` may be set.
        takes_seeds: whether each arm may be trained several times.
        takes_hardened: whether ``hardened`` may be set.
        grows: whether its page can be made of some of its arms, so that it is written after each, and a study that is
            resumed may ask for other parts and columns.
    """

    name: str
    description: str
    model: str
    parts: tuple[str, ...]
    prepare: Callable[[Options, Path], Prepared]
    summarize: Callable[[Options, Mapping[str, Measured], Mapping[str, Any]], Page]
    takes_epochs: bool = False
    takes_seeds: bool = True
    takes_hardened: bool = False
    grows: bool = False


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
    asked = {
        "name": study.name,
        "options": _as_json(options),
        "facts": prepared.facts,
        "arms": dict(prepared.arm_facts),
    }
    if found is not None:
        _check_same(study, out, found, asked)
        asked["arms"] = found.get("arms", {}) | asked["arms"]
    described = describe(choose_device(options.device))
    before = (found or {}).get("seconds", 0.0)
    run.manifest["study"] = asked | {"environment": environment(described, prepared.facts.get("data", {}))}
    run.manifest["study"]["seconds"] = before
    run.save()

    names = [it.name for it in prepared.properties]
    wanted = {arm: prepared.measured(arm) if prepared.measured else names for arm in prepared.arms}
    folder = out / "arms"
    sources = sources_of("mnist", data_dir=options.data_dir)

    def write() -> Page:
        finished = sorted(folder.glob("*/scorecard.json"), key=_place_in(prepared.arms))
        found = {it.parent.name: _measured(it.parent, options) for it in finished}
        page = study.summarize(options, found, run.manifest["study"])
        write_json(out / "study.json", {"schema": SCHEMA, **asked, "figures": page.figures})
        write_text(out / "study.md", page.markdown)
        if page.html:
            write_text(out / "study.html", page.html)
        return page

    with ExitStack() as held:
        for prop in prepared.properties:
            held.enter_context(PROPERTIES.holding(prop))
        missing = [arm for arm in prepared.arms if not set(wanted[arm]) <= set(_finished(folder / arm))]
        if prepared.plan and missing:
            announce(prepared.plan)
        stop = held.enter_context(stop_on_signal())
        for done, arm in enumerate(missing):
            report(Progress(done, len(missing), arm))
            if stop():
                left = len(missing) - done
                raise Stopped(f"stopped with {left} of {len(prepared.arms)} arms to go; go on with --resume")
            started = time.monotonic()
            measure(
                dataclasses.replace(subject_of(prepared.train(arm, stop)), name=arm),
                sources,
                properties=wanted[arm],
                budget=options.budget,
                limit=options.limit,
                out=folder / arm,
                seed=options.seed,
                device=options.device,
                resume=True,
                allow_random=arm in prepared.random,
                progress=False,
            )
            run.manifest["study"]["seconds"] += time.monotonic() - started
            run.save()
            if study.grows:
                write()
        report(Progress(len(missing), len(missing), ""))
        return write()


def _check_same(study: Study, out: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise :class:`RunError` where the folder's study differs in what its figures depend on."""
    may_grow = ("only", "hardened") if study.grows else ()
    options = [{key: it for key, it in each["options"].items() if key not in may_grow} for each in (found, asked)]
    arms = found.get("arms", {})
    different = {
        "name": found["name"] != asked["name"],
        "options": options[0] != options[1],
        "datasets": found["facts"] != asked["facts"],
        "networks": any(arms.get(arm, it) != it for arm, it in asked["arms"].items()),
    }
    for what, differs in different.items():
        if differs:
            raise RunError(f"{out} holds a study with other {what}; resume with the same, or choose another --out")


def _place_in(arms: Sequence[str]) -> Callable[[Path], tuple[int, str]]:
    places = {arm: number for number, arm in enumerate(arms)}
    return lambda path: (places.get(path.parent.name, len(places)), path.parent.name)


def _finished(path: Path) -> list[str]:
    """Names of the properties by which an arm has been evaluated."""
    scorecard = path / "scorecard.json"
    return Scorecard.read(scorecard).properties if scorecard.exists() else []


def _measured(path: Path, options: Options) -> Measured:
    # By what its scorecard has: the records of what it is being measured by now are not all there.
    properties, results = load_results(Run.open(path), options.data_dir, _finished(path))
    return Measured([metric for prop in properties for metric in prop.metrics(results)], results)


def _check(study: Study, options: Options) -> None:
    for part in options.only:
        if part not in study.parts:
            raise unknown(f"part of the study '{study.name}'", part, study.parts)
    find_budget(options.budget)
    if options.epochs is not None and not study.takes_epochs:
        raise UsageError(f"the study '{study.name}' takes no epochs: its budgets say how long it trains")
    if options.epochs is not None and options.epochs < 1:
        raise UsageError(f"epochs {options.epochs}: a network is trained for at least one")
    if options.hardened and not study.takes_hardened:
        raise UsageError(f"the study '{study.name}' has no columns of hardened networks; leave out hardened")
    if options.seeds > 1 and not study.takes_seeds:
        raise UsageError(f"the study '{study.name}' trains each network once; leave out seeds")
    if options.seeds < 1:
        raise UsageError(f"seeds {options.seeds}: a study takes at least one")
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"limit {options.limit}: at least one example is measured")


def _as_json(options: Options) -> dict[str, Any]:
    """The options that figures depend on."""
    values = dataclasses.asdict(options) | {"only": list(options.only), "hardened": list(options.hardened)}
    return {name: value for name, value in values.items() if name not in ("device", "data_dir")}
