"""The errors that users see. Each message names what was wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HardyError(Exception):
    """Something failed while running. The command line prints the message and exits with status 1."""

    exit_status = 1


class UsageError(HardyError):
    """The call, or something handed in with it, is wrong. The command line exits with status 2."""

    exit_status = 2


class DataError(UsageError):
    """A file or folder of data is missing, damaged or not what it says it is."""


class ContractError(UsageError):
    """A classifier or its input does not keep the contract of :mod:`hardy.validation`."""


class RunError(UsageError):
    """A run folder is missing, incomplete, somebody else's, or of a newer schema."""


class BundleError(UsageError):
    """A bundle is missing, incomplete, altered, or of a newer schema."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no registry holds: it names the nearest ones."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UsageError(f"unknown {kind} '{name}'; {hint}")
