"""The command line. Only what every call needs is imported here; each command imports the rest when it runs."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from hardy.cli import attack, bundle, compare, data, demo, evaluate, export, listing, predict, report, study, train
from hardy.errors import HardyError, explain_missing_packages, printable

# What Typer makes of an interruption from the keyboard.
INTERRUPTED = 130

app = typer.Typer(
    name="hardy",
    help="Train an image classifier that holds up, and measure how far that is true.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("attack")(attack.attack)
app.command("bundle")(bundle.bundle)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("study")(study.study)
app.command("list")(listing.list_)
app.add_typer(data.app, name="data")


def version(show: bool) -> None:
    if show:
        from hardy import __version__

        typer.echo(f"hardy {__version__}")
        raise typer.Exit


@app.callback()
def hardy(
    _version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            envvar="HARDY_IMPORT",
            help="Import a module that registers attacks, properties, datasets, … of your own; may be repeated.",
        ),
    ] = None,
) -> None:
    if modules:
        from hardy.evaluation.subject import import_from_here

        for module in modules:
            import_from_here(module)


def main() -> None:
    """Run the command line: exit status 0 done, 1 failed or stopped while running, 2 the call is wrong."""
    # A request to end is answered as Ctrl-C is, also before and after a loop that asks for it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with explain_missing_packages():
            status = app(standalone_mode=False)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except HardyError as error:
        _fail(str(error), error.exit_status)
    except Exception as error:
        # Typer's own usage errors know what to say; anything else is a bug and shows its trace.
        message, status = getattr(error, "format_message", None), getattr(error, "exit_code", None)
        if message is None or status is None:
            raise
        said = " ".join(message().split()).rstrip(".")
        if not said:
            # Without arguments the help has been printed already.
            sys.exit(status)
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context else app.info.name
        _fail(f"{said}; see '{path} --help'", status)
    if status == INTERRUPTED:
        _fail("stopped; what is finished is kept; continue with --resume", 1)


def _fail(message: str, status: int) -> NoReturn:
    # Whoever asks again while it ends gets no trace of the ending.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    typer.echo(f"hardy: {printable(message)}", err=True)
    sys.exit(status)
