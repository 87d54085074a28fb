"""The run folder: what a command writes, and ``run.json``, which says how it came about."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from hardy import __version__
from hardy.errors import RunError
from hardy.files import remove_half_written, sha256_of, write_json
from hardy.models import build_model
from hardy.models.weights import load_weights

SCHEMA = 1
MANIFEST = "run.json"
WEIGHTS = "weights.safetensors"
PACKAGES = ("torch", "numpy", "safetensors", "polars", "scipy", "scikit-learn", "matplotlib")


class Run:
    """A folder with a manifest.

    Attributes:
        path: the folder.
        manifest: the content of ``run.json``; :meth:`save` writes it back.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path) -> Run:
        """A new run in a folder that is missing or empty. Nothing is written before :meth:`save`.

        Raises:
            RunError: the folder holds something.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; a run needs a folder")
        if (path / MANIFEST).exists():
            raise RunError(f"{path} already holds a run; go on with it by --resume, or choose another --out")
        remove_half_written(path, MANIFEST)
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path} is not empty and is no run of hardy; choose another --out")
        return cls(path, {"schema": SCHEMA})

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run that is there.

        Raises:
            RunError: no run, damaged, or of a newer schema.
        """
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path} is no run of hardy: it has no {MANIFEST}") from None
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {path / MANIFEST}: {error}") from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if not isinstance(schema, int):
            raise RunError(f"{path / MANIFEST} is not a manifest of hardy: it names no schema")
        if schema > SCHEMA:
            raise RunError(f"{path} is of schema {schema}, and this hardy reads up to {SCHEMA}; upgrade hardy")
        return cls(path, manifest)

    @classmethod
    def open_or_create(cls, path: Path) -> Run:
        """The run to go on with, cleared of what a kill left half written; a new one where there is none."""
        if not (path / MANIFEST).exists():
            return cls.create(path)
        for folder in (path, *path.glob("*/")):
            remove_half_written(folder)
        return cls.open(path)

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    def save(self) -> None:
        write_json(self.path / MANIFEST, self.manifest)


def load_trained(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier that a run trained, and the run's manifest.

    Raises:
        RunError: the run is not trained to its end, or its weights are not those it was trained to.
    """
    run = Run.open(path)
    if "model" not in run.manifest:
        raise RunError(f"{path} holds an evaluation of something else and no classifier of its own")
    if run.manifest["training"]["status"] != "trained":
        raise RunError(f"the training in {path} is not finished; go on with 'hardy train … --out {path} --resume'")
    if not run.weights.exists():
        raise RunError(f"{run.weights} is missing; train the run again")
    if sha256_of(run.weights) != run.manifest["weights_sha256"]:
        raise RunError(f"{run.weights} is not what was trained: its hash differs from the one in {MANIFEST}")
    model = run.manifest["model"]
    classifier = build_model(model["name"], **model["arguments"])
    load_weights(classifier, run.weights)
    return classifier, run.manifest


def training_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What is said of a training wherever its classifier goes."""
    return {key: manifest["training"][key] for key in ("recipe", "seed", "data")}


def environment(device: str, data: dict[str, str]) -> dict[str, Any]:
    """What a figure depends on besides recipe and seed, as JSON values."""
    commit, dirty = _git()
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "hardy": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "device": device,
        "packages": packages,
        "data": data,
    }


def _git() -> tuple[str | None, bool | None]:
    """The commit of hardy's own checkout, and whether it differs from that; None where it is installed without one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # A virtual environment inside somebody else's checkout must not lend hardy that commit.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
