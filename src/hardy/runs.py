"""The run folder: what a command writes, and ``run.json``, which says how it was made."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NotRequired, ParamSpec, TypeVar

from torch import nn

# torch brings typing_extensions, and pydantic reads no other TypedDict before Python 3.12.
from typing_extensions import TypedDict

from hardy import __version__
from hardy.errors import RunError, UsageError, printable
from hardy.files import read_json, remove_half_written, sha256_of, write_json
from hardy.models.weights import build_from_file

SCHEMA = 2
MANIFEST = "run.json"
WEIGHTS = "weights.safetensors"
LOCK = ".lock"
PACKAGES = ("torch", "numpy", "safetensors", "polars", "scipy", "scikit-learn", "matplotlib")


class _RecipeFacts(TypedDict):
    name: str


class _Network(TypedDict):
    name: str
    validation_accuracy: float


class _Training(TypedDict):
    recipe: _RecipeFacts
    seed: int
    data: str
    hashes: dict[str, str]
    status: Literal["training", "trained"]
    networks: NotRequired[list[_Network]]


class _Model(TypedDict):
    name: str
    arguments: dict[str, Any]


class _Manifest(TypedDict):
    """What others rely on of ``run.json``; it may hold more."""

    schema: int
    model: NotRequired[_Model]
    classes: NotRequired[list[str]]
    input: NotRequired[list[int]]
    weights_sha256: NotRequired[str]
    training: NotRequired[_Training]
    evaluation: NotRequired[dict[str, Any]]
    study: NotRequired[dict[str, Any]]


class Run:
    """A folder with a manifest.

    Attributes:
        path: the folder.
        manifest: the content of ``run.json``; :meth:`save` writes it back.
    """

    def __init__(self, path: str | Path, manifest: dict[str, Any]) -> None:
        self.path = Path(path)
        self.manifest = manifest

    @classmethod
    def create(cls, path: str | Path) -> Run:
        """A new run in a folder that is missing or empty. Nothing is written before :meth:`save`.

        Raises:
            RunError: the folder holds something.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; a run needs a folder")
        if (path / MANIFEST).exists():
            raise RunError(f"{path} already holds a run; go on with it by --resume, or choose another --out")
        remove_half_written(path, MANIFEST)
        if path.exists() and any(it.name != LOCK for it in path.iterdir()):
            raise RunError(f"{path} is not empty and is no run of hardy; choose another --out")
        return cls(path, {"schema": SCHEMA})

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run. One of an older schema is converted in memory; what it was evaluated to is left out.

        Raises:
            RunError: no run, damaged, of a newer schema, or of an older one that cannot be converted.
        """
        path = Path(path)
        try:
            manifest = read_json(path / MANIFEST, RunError)
        except FileNotFoundError:
            raise RunError(f"{path} is no run of hardy: it has no {MANIFEST}") from None
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise RunError(f"{path / MANIFEST} is not a manifest of hardy: it names no schema")
        if schema > SCHEMA:
            raise RunError(f"{path} is of schema {schema}, and this hardy reads up to {SCHEMA}; upgrade hardy")
        manifest = _from_schema_1(manifest, path) if schema < SCHEMA else manifest
        _check(manifest, path / MANIFEST)
        return cls(path, manifest)

    @classmethod
    def open_or_create(cls, path: str | Path) -> Run:
        """The run to continue, cleared of what a kill left half written; a new one where there is none."""
        path = Path(path)
        if not (path / MANIFEST).exists():
            return cls.create(path)
        for folder in (path, *path.glob("*/")):
            remove_half_written(folder)
        run = cls.open(path)
        if "training" in run.manifest and "evaluation" not in run.manifest:
            # Records of an evaluation of an older schema must not pass for those of the next one.
            shutil.rmtree(path / "records", ignore_errors=True)
        return run

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    def save(self) -> None:
        write_json(self.path / MANIFEST, self.manifest)


def _check(manifest: dict[str, Any], where: Path) -> None:
    try:
        from pydantic import TypeAdapter, ValidationError
    except ModuleNotFoundError:
        # Where only trainings run it may be missing; they read nothing but what they wrote.
        return
    try:
        TypeAdapter(_Manifest).validate_python(manifest, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"{where} is damaged: {place}: {first['msg']}; make the run again") from None


@contextmanager
def hold(path: str | Path) -> Iterator[None]:
    """Hold a run folder alone while it is written. The lock of a process that died is no lock.

    Raises:
        RunError: another process, or another thread, writes there.
        UsageError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder")
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{path} is being written by another process; wait until it is done, or choose another --out"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error
    try:
        yield
    finally:
        # While the lock is held: who waits for the removed file sees that it is another one.
        with suppress(OSError):
            (path / LOCK).unlink()
        lock.release()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


P = ParamSpec("P")
T = TypeVar("T")


def holds_out(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function whose argument ``out`` is the folder of a run: it holds that folder, if there is one."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def holding(*args: P.args, **kwargs: P.kwargs) -> T:
        out = signature.bind(*args, **kwargs).arguments.get("out")
        if out is None:
            return function(*args, **kwargs)
        with hold(out):
            return function(*args, **kwargs)

    return holding


def _from_schema_1(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """Schema 1 called the validation split held-out, and the networks of a training its parts."""
    training = manifest.get("training")
    if not isinstance(training, dict):
        raise RunError(f"{path} was made by an older hardy; evaluate or study again into another --out")
    if training.get("status") != "trained":
        raise RunError(f"the training in {path} was started by an older hardy; train again into another --out")

    text = json.dumps({key: value for key, value in manifest.items() if key != "evaluation"})
    for old, new in (("held_out_accuracy", "validation_accuracy"), ("held-out", "validation"), ("parts", "networks")):
        text = text.replace(f'{old}":', f'{new}":')
    return json.loads(text) | {"schema": SCHEMA}


def load_trained(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier that a run trained, and the run's manifest.

    Raises:
        RunError: the run is not trained to its end, or its weights are not those it was trained to.
    """
    run = Run.open(path)
    path = run.path
    if "model" not in run.manifest:
        raise RunError(f"{path} has no classifier of its own: it holds the evaluation of another one, or a study")
    for key in ("training", "classes", "input"):
        if key not in run.manifest:
            raise RunError(f"{path / MANIFEST} is damaged: '{key}' is missing; train the run again")
    if run.manifest["training"]["status"] != "trained":
        raise RunError(f"the training in {path} is not finished; go on with 'hardy train … --out {path} --resume'")
    if "weights_sha256" not in run.manifest:
        raise RunError(f"{path / MANIFEST} is damaged: 'weights_sha256' is missing; train the run again")
    if not run.weights.exists():
        raise RunError(f"{run.weights} is missing; train the run again")
    if sha256_of(run.weights) != run.manifest["weights_sha256"]:
        raise RunError(f"{run.weights} is not what was trained: its hash differs from the one in {MANIFEST}")
    return build_from_file(**run.manifest["model"], path=run.weights), run.manifest


def new_folder(name: str) -> Path:
    """The first of ``runs/NAME-1``, ``runs/NAME-2``, … that does not exist."""
    numbered = (Path("runs") / f"{name}-{number}" for number in itertools.count(1))
    return next(folder for folder in numbered if not folder.exists())


def training_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a scorecard and a bundle say of how their classifier was trained."""
    training = manifest["training"]
    facts = {key: training[key] for key in ("recipe", "seed", "data")}
    return facts | ({"seen": training["seen"]} if "seen" in training else {})


def environment(device: str, data: dict[str, str]) -> dict[str, Any]:
    """What a figure depends on besides recipe and seed (command, versions, commit, device, data), as JSON values."""
    commit, dirty = _git()
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": printable(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "hardy": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "device": device,
        "packages": packages,
        "data": data,
    }


def _git() -> tuple[str | None, bool | None]:
    """The commit of hardy's own checkout, and whether files differ from it; None where hardy is no checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # In a virtual environment inside another project's checkout, that project's commit would be the answer.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
