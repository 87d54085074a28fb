"""Progress on standard error, so that standard output holds results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from hardy.evaluation.evaluate import Progress as EvaluationProgress
    from hardy.studies import Progress as StudyProgress
    from hardy.training import Update


@contextmanager
def training_progress() -> Iterator[Callable[[str, Update], None]]:
    """A bar a part, with loss, validation accuracy, images a second and time left."""
    with Progress(
        TextColumn("training {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        tasks = {}

        def report(part: str, update: Update) -> None:
            validation = "" if update.accuracy is None else f"validation {update.accuracy:.2%}  "
            facts = f"loss {update.loss:.4f}  {validation}{update.images_per_second:,.0f} images/s"
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=update.steps, facts=facts)
            bars.update(tasks[part], completed=update.step, facts=facts)

        yield report


@contextmanager
def evaluation_progress() -> Iterator[Callable[[EvaluationProgress], None]]:
    """One bar over all shards."""
    with Progress(
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        task = bars.add_task("", total=None)

        def report(progress: EvaluationProgress) -> None:
            measurement = progress.measurement
            setting = " ".join(str(value) for _, value in measurement.setting)
            bars.update(
                task,
                total=progress.tasks,
                completed=progress.done,
                description=f"{measurement.function} {setting} on {measurement.dataset}".replace("  ", " "),
            )

        yield report


@contextmanager
def study_progress() -> Iterator[Callable[[StudyProgress], None]]:
    """One bar over all arms that are missing."""
    with Progress(
        TextColumn("study"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        task = bars.add_task("", total=None)

        def report(progress: StudyProgress) -> None:
            bars.update(task, total=progress.arms, completed=progress.done, description=progress.arm)

        yield report
