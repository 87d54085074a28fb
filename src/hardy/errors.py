"""The errors that users see. Each message names what was wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class HardyError(Exception):
    """Something failed while running. The command line prints the message and exits with status 1."""

    exit_status = 1


class UsageError(HardyError):
    """The call, or what was passed to it, is wrong. The command line exits with status 2."""

    exit_status = 2


class DataError(UsageError):
    """Data is missing, damaged, or not what its name says."""


class ContractError(UsageError):
    """A classifier or its input breaks the contract of :mod:`hardy.validation`."""


class RunError(UsageError):
    """A run folder is missing, incomplete, of another classifier, or of another schema."""


class BundleError(UsageError):
    """A bundle is missing, incomplete, altered, or of another schema."""


def printable(text: str) -> str:
    """Text from outside as a terminal may show it: control characters, which could move the cursor, as escapes."""
    return "".join(it if it.isprintable() or it in "\n\t" else it.encode("unicode_escape").decode() for it in text)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not registered: it gives the nearest names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UsageError(f"unknown {kind} '{name}'; {hint}")


EXTRAS = {
    **dict.fromkeys(("polars", "scipy", "sklearn", "matplotlib", "jinja2", "PIL"), "eval"),
    "skimage": "corruptions",
}
"""The optional packages, by import name, each with the extra of hardy that installs it."""


@contextmanager
def explain_missing_packages() -> Iterator[None]:
    """Turn the failed import of an optional package into a :class:`UsageError` that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise UsageError(
            f"this needs {package}, which is not installed; get it with: pip install 'hardy[{EXTRAS[package]}]'"
        ) from None
