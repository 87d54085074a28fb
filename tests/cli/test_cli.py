"""The command line: what each verb writes where, and that a wrong call ends with status 2 and nothing written."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.bundles import draw_seven
from helpers.cheap import make_budgets_tiny
from helpers.classifiers import write_tiny_data

from hardy import __version__
from hardy.attacks import ATTACKS
from hardy.cli.listing import KINDS, LISTING, registered
from hardy.cli.main import main
from hardy.data import DATASETS, load_dataset
from hardy.evaluation.properties import PROPERTIES
from hardy.evaluation.scorecard import Scorecard
from hardy.training.recipes import RECIPES

VERBS = (
    "demo",
    "train",
    "evaluate",
    "attack",
    "bundle",
    "export",
    "predict",
    "report",
    "compare",
    "study",
    "list",
    "data",
)


class Called(NamedTuple):
    status: int
    out: str
    err: str


Hardy = Callable[..., Called]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HARDY_DATA", raising=False)
    make_budgets_tiny(monkeypatch)


@pytest.fixture
def hardy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hardy:
    """Call the command line in this process."""

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["hardy", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Called(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("cli"))


TINY = {
    "model_arguments": '{"width": 2, "size": 8}',
    "augmentation": "{}",
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.03,
}


def train(hardy: Hardy, data: Path, out: Path, *more: object) -> Called:
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    return hardy("train", "compact", "--out", out, "--data", data, "--device", "cpu", *settings, *more)


def test_a_classifier_is_trained_measured_reported_and_compared(hardy: Hardy, data: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    trained = train(hardy, data, run)
    assert trained.status == 0
    assert f"next: hardy evaluate {run}" in trained.out
    assert {"run.json", "weights.safetensors"} <= {path.name for path in run.iterdir()}

    measured = hardy("evaluate", run, "--data", data, "--device", "cpu", "--limit", 15)
    assert measured.status == 0, measured.err
    assert "report: " in measured.out
    assert "measuring" in measured.err
    expected = {"scorecard.json", "report.html", "README.md", "records"}
    assert expected <= {path.name for path in run.iterdir()}
    assert Scorecard.read(run / "scorecard.json").properties == list(PROPERTIES)

    (run / "report.html").unlink()
    assert hardy("report", run) == (0, f"{run / 'report.html'}\n", "")
    assert (run / "report.html").exists()

    elsewhere = hardy("evaluate", run, "--data", data, "--out", other, "--property", "accuracy", "--seed", 3)
    assert elsewhere.status == 0
    assert Scorecard.read(other / "scorecard.json").properties == ["accuracy"]

    compared = hardy("compare", run, other, "--html", tmp_path / "compare.html")
    assert compared.status == 0
    assert compared.out.startswith("## What differs")
    assert str(tmp_path / "compare.html") in compared.err
    assert (tmp_path / "compare.html").exists()


def test_a_comparison_is_given_as_json(hardy: Hardy, data: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert train(hardy, data, run).status == 0
    for out, limit in ((run, 30), (other, 20)):
        call = ["evaluate", run, "--data", data, "--property", "accuracy", "--limit", limit, "--out", out]
        assert hardy(*call).status == 0
    found = json.loads(hardy("compare", run, other, "--json").out)
    assert found["runs"] == ["run", "other"]
    accuracy = next(it for it in found["figures"] if it["metric"] == "accuracy")
    assert (accuracy["property"], accuracy["dataset"]) == ("accuracy", f"{data}/test")
    first, second = accuracy["runs"]
    assert first["difference"] is None
    difference = second["difference"]
    assert difference["value"] == pytest.approx(second["value"] - first["value"])
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_the_flagship_is_known_by_its_name(hardy: Hardy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_seven(tmp_path / "digit.png")
    answered = hardy("predict", "flagship", "digit.png", "--json")
    assert (answered.status, json.loads(answered.out)["best"]) == (0, "7")
    assert hardy("evaluate", "flagship", "--property", "accuracy", "--limit", 50).status == 0
    assert Scorecard.read(tmp_path / "runs" / "flagship-1" / "scorecard.json").subject.name == "flagship-quick"


@pytest.mark.slow
def test_the_demo_makes_two_runs_and_a_comparison_with_the_flagship_and_can_be_repeated(
    hardy: Hardy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With smaller networks than the real one, and smaller budgets."""
    make_budgets_tiny(monkeypatch)
    small = replace(RECIPES["fast"], model_arguments={"width": 4}, learning_rate=0.02)
    monkeypatch.setitem(RECIPES._items, "compact", replace(small, name="compact"))
    members = tuple(replace(small, name=f"compact-{number}") for number in range(2))
    monkeypatch.setitem(RECIPES._items, "compact-ensemble", replace(RECIPES["compact-ensemble"], members=members))
    assert hardy("demo", "--out", tmp_path / "demo").status == 0
    written = sorted(path.relative_to(tmp_path / "demo").as_posix() for path in (tmp_path / "demo").glob("**/*.html"))
    assert written == ["compact-ensemble/report.html", "compact/report.html", "compare.html", "flagship/report.html"]
    before = (tmp_path / "demo" / "compact" / "scorecard.json").read_text()
    assert hardy("demo", "--out", tmp_path / "demo").status == 0
    again = json.loads((tmp_path / "demo" / "compact" / "scorecard.json").read_text())
    assert again["estimates"] == json.loads(before)["estimates"]


def test_json_is_all_that_is_on_standard_output(hardy: Hardy, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = train(hardy, data, run, "--json")
    assert json.loads(trained.out)["status"] == "trained"
    assert "training" in trained.err
    measured = hardy("evaluate", run, "--data", data, "--property", "accuracy", "--json")
    assert json.loads(measured.out) == json.loads((run / "scorecard.json").read_text())
    assert "measuring" in measured.err
    resumed = hardy("evaluate", run, "--data", data, "--property", "calibration", "--resume", "--json")
    assert json.loads(resumed.out)["properties"] == ["accuracy", "calibration"]


def test_any_importable_classifier_is_measured(hardy: Hardy, tmp_path: Path) -> None:
    subject = (
        "evaluate",
        "helpers.classifiers:small_classifier",
        "--out",
        tmp_path / "run",
        "--limit",
        20,
        "--device",
        "cpu",
    )
    assert hardy(*subject, "--property", "error-detection", "--property", "accuracy").status == 0
    scorecard = Scorecard.read(tmp_path / "run" / "scorecard.json")
    assert scorecard.subject.name == "helpers.classifiers:small_classifier"
    assert scorecard.limit == 20
    assert "hardy evaluate helpers.classifiers:small_classifier" in scorecard.environment.command


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("--nonsense", "No such option"),
        ("train", "Missing argument"),
        ("train compact", "Missing option '--out'"),
        ("train compakt --out OUT", "unknown recipe 'compakt'; did you mean compact"),
        ("train compact --out OUT --set epochs", "--set epochs: a setting is key=value"),
        ("train compact --out OUT --set epoch=3", "unknown setting 'epoch'; did you mean epochs"),
        ("train compact --out OUT --set epochs=many", "epochs is a whole number"),
        ("train compact --out OUT --set epochs=0", "epochs is 0"),
        ("train compact --out OUT --set schedule=square", "unknown value of schedule 'square'"),
        ("train compact --out OUT --set augmentation={", "augmentation is a JSON object"),
        ("train compact --out OUT --seed x", "Invalid value for '--seed'"),
        ("train compact --out OUT --seed -1", "Invalid value for '--seed'"),
        ("train compact --out OUT --data DATA --device gpu", "try auto, cpu or cuda"),
        ("train compact --out OUT --data nowhere", "unknown dataset 'nowhere'"),
        ("train compact --out OUT --data DATA --device abacus", "device 'abacus' cannot be used"),
        ("train compact --out OUT --data-dir nowhere", "nowhere"),
        ("train compact --out DATA --data DATA", "is a file; a run needs a folder"),
        ("evaluate", "name a classifier"),
        ("evaluate nowhere", "no subject 'nowhere'"),
        ("evaluate helpers.classifiers.SmallNet --out OUT", "do you mean helpers.classifiers:SmallNet?"),
        ("evaluate helpers.classifiers:nobody --out OUT", "module 'helpers.classifiers' has no 'nobody'"),
        ("evaluate helpers.classifiers:SmallNet", "--out is missing"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --weights nowhere", "no weights at nowhere"),
        (
            "evaluate helpers.classifiers:SmallNet --out OUT --property acuracy",
            "unknown property 'acuracy'; did you mean accuracy",
        ),
        ("evaluate helpers.classifiers:SmallNet --out OUT --budget all", "unknown budget 'all'"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --limit 0", "limit 0"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --limit few", "Invalid value for '--limit'"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --batch-size 0", "batch size 0"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --data DATA", "fails on float32 images of shape"),
        ("attack helpers.classifiers:SmallNet --attack pgd --eps 0.1 --out OUT", ".safetensors"),
        (
            "attack helpers.classifiers:SmallNet --attack pgd --eps 0.1 --out /proc/x.safetensors",
            "cannot write /proc/x",
        ),
        ("attack helpers.classifiers:SmallNet --attack pgd --eps 8 --out OUT.safetensors", "if you mean 8/255"),
        ("attack helpers.classifiers:SmallNet --attack pgd --eps 8/ --out OUT.safetensors", "a number or a fraction"),
        ("attack helpers.classifiers:SmallNet --attack sigma-zero --norm l0 --out OUT.safetensors", "--eps is missing"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --norm l3", "unknown norm 'l3'"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --eps 8", "if you mean 8/255"),
        ("attack helpers.classifiers:SmallNet --attack pdg --eps 0.1 --out OUT.safetensors", "unknown attack 'pdg'"),
        ("report nowhere", "nowhere is no run of hardy"),
        ("compare nowhere", "at least two runs"),
        ("compare nowhere elsewhere", "nowhere is no run of hardy"),
        ("study", "Missing argument"),
        ("study augmentatio --out OUT", "unknown study 'augmentatio'; did you mean augmentation"),
        ("study augmentation --out OUT --model compat", "unknown recipe 'compat'; did you mean compact"),
        ("study augmentation --out OUT --only rotat", "'rotat'; did you mean rotate"),
        ("study augmentation --out OUT --seeds 0", "seeds 0"),
        ("evaluate --logits nowhere.csv --out OUT", "nowhere.csv"),
        ("evaluate helpers.classifiers:SmallNet --logits DATA --out OUT", "name a classifier, or with --logits"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --ood nowhere", "nor is there a file or folder 'nowhere'"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --validation nowhere", "nowhere"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --adversarial nowhere.safetensors", "nowhere.safetensors"),
        ("evaluate helpers.classifiers:SmallNet --out OUT --probabilities --weights nowhere", "without weights"),
        ("attack", "Missing argument"),
        ("attack nowhere --attack pgd --out OUT.safetensors", "no subject 'nowhere'"),
        (
            "attack helpers.classifiers:SmallNet --attack pgd --limit 0 --out OUT.safetensors",
            "value for '--limit'",
        ),
        ("attack helpers.classifiers:SmallNet --attack pgd --data nowhere --out OUT.safetensors", "unknown dataset"),
        ("attack helpers.classifiers:SmallNet --attack pgd --norm l3 --out OUT.safetensors", "not in l3"),
        ("bundle nowhere --out OUT", "nowhere is no run of hardy"),
        ("bundle nowhere", "Missing option '--out'"),
        ("predict nowhere", "Missing argument"),
        ("predict nowhere a.png", "nowhere is no folder; a bundle is a folder"),
        ("predict nowhere a.png --limit 0", "Invalid value for '--limit'"),
        ("compare nowhere elsewhere --json", "nowhere is no run of hardy"),
        ("study augmentation --out OUT --budget all", "unknown budget 'all'"),
        ("demo --sed 1", "No such option"),
        ("list", "Missing argument"),
        ("list recipe", "unknown kind 'recipe'; did you mean recipes"),
        ("data nonsense", "No such command 'nonsense'"),
        ("data fetch", "Missing argument"),
        ("data fetch mnits", "unknown dataset 'mnits'; did you mean mnist"),
        ("data verify mnits", "unknown dataset 'mnits'; did you mean mnist"),
    ],
)
def test_a_wrong_call_is_told_so_and_writes_nothing(
    hardy: Hardy, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    called = hardy(*call.replace("OUT", str(tmp_path / "out")).replace("DATA", str(data)).split())
    assert called.status == 2
    assert called.out == ""
    # One line and no more: no bar, no box, no trace.
    assert called.err.startswith("hardy: ")
    assert called.err.count("\n") == 1
    assert message in called.err
    assert not list(tmp_path.iterdir())


def test_a_run_is_neither_trained_nor_measured_twice(hardy: Hardy, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(hardy, data, run).status == 0
    again = train(hardy, data, run)
    assert again.status == 2
    assert "--resume" in again.err
    assert train(hardy, data, run, "--resume").status == 0
    assert hardy("evaluate", run, "--data", data, "--property", "accuracy").status == 0
    before = (run / "scorecard.json").read_text()
    again = hardy("evaluate", run, "--data", data, "--property", "accuracy", "--seed", 1)
    assert again.status == 2
    assert "--resume" in again.err
    assert (run / "scorecard.json").read_text() == before
    unmeasured = hardy("report", tmp_path / "other")
    assert unmeasured.status == 2


def test_a_bug_shows_its_trace(hardy: Hardy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_item: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setitem(KINDS, "recipes", KINDS["recipes"]._replace(describe=broken))
    with pytest.raises(ZeroDivisionError):
        hardy("list", "recipes")


def test_what_is_stopped_from_the_keyboard_ends_with_status_1(hardy: Hardy, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_item: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(KINDS, "recipes", KINDS["recipes"]._replace(describe=stopped))
    called = hardy("list", "recipes")
    assert (called.status, called.out) == (1, "")
    assert "continue with --resume" in called.err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_listed(hardy: Hardy, kind: str) -> None:
    shown, listed = hardy("list", kind), hardy("list", kind, "--json")
    assert shown.status == listed.status == 0
    assert shown.err == listed.err == ""
    items = json.loads(listed.out)
    assert items
    for name, text in items.items():
        assert name in shown.out
        assert text.strip()


def test_lists_are_those_of_the_registries(hardy: Hardy) -> None:
    for kind, registry in {
        "recipes": RECIPES,
        "properties": PROPERTIES,
        "attacks": ATTACKS,
        "datasets": DATASETS,
    }.items():
        assert json.loads(hardy("list", kind, "--json").out).keys() >= registry.keys()


def test_without_arguments_the_help_is_printed(hardy: Hardy) -> None:
    called = hardy()
    assert "Usage:" in called.out
    assert called.err == ""


def test_the_version_is_told(hardy: Hardy) -> None:
    assert hardy("--version") == (0, f"hardy {__version__}\n", "")


HELP = """
import sys
from hardy.cli.main import main
for verb in sys.argv[1].split(","):
    sys.argv = ["hardy", *verb.split(), "--help"]
    main()
print(*{"torch", "numpy", "polars", "matplotlib", "scipy", "sklearn"} & set(sys.modules), file=sys.stderr)
"""


def timed(command: list[str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """What a command did, and its seconds of processor time, which a busy machine does not stretch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    calls = ["", *VERBS, "data list", "data fetch", "data verify"]
    done, helping = timed([sys.executable, "-c", HELP, ",".join(calls)])
    assert done.stderr.strip() == ""
    for verb in VERBS:
        assert f"Usage: hardy {verb}" in done.stdout
        assert re.search(rf"\W{verb}\W", done.stdout)
    # All these helps together, beside a yardstick of the same machine: importing torch alone takes twice as long.
    assert helping < 0.7 * timed([sys.executable, "-c", "import torch"])[1]


LIST = """
import sys
from hardy.cli.listing import KINDS, LISTING, registered
from hardy.cli.main import main
for kind in KINDS:
    sys.argv = ["hardy", "list", kind, "--json"]
    main()
print(*{"torch", "numpy", "polars", "matplotlib", "scipy", "sklearn"} & set(sys.modules), file=sys.stderr)
"""


def test_lists_are_quick_because_they_load_nothing_heavy() -> None:
    done, listing = timed([sys.executable, "-c", LIST])
    assert done.stderr.strip() == ""
    assert listing < 0.7 * timed([sys.executable, "-c", "import torch"])[1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_listed_without_loading_anything_is_what_there_is(kind: str) -> None:
    # 'python -m hardy.cli.listing' writes it again.
    assert json.loads(LISTING.read_text(encoding="utf-8"))[kind] == registered(kind)


def test_the_status_reaches_the_shell() -> None:
    done = subprocess.run([sys.executable, "-m", "hardy", "list", "recipe"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hardy: unknown kind 'recipe'")


def test_an_attack_takes_the_data_that_a_run_was_trained_on(hardy: Hardy, data: Path, tmp_path: Path) -> None:
    assert train(hardy, data, tmp_path / "run").status == 0
    call = ["attack", tmp_path / "run", "--attack", "fast-gradient", "--json", "--out", tmp_path / "a.safetensors"]
    attacked = hardy(*call)
    assert attacked.status == 0, attacked.err
    assert json.loads(attacked.out)["dataset"] == f"{data}/test"


def test_an_attack_says_what_makes_its_figure_suspect_and_goes_on(hardy: Hardy, tmp_path: Path) -> None:
    call = ["attack", "helpers.classifiers:rounded_classifier", "--attack", "pgd", "--limit", 12, "--eps"]
    printed = hardy(*call, "3/10", "--out", tmp_path / "a.safetensors")
    assert printed.status == 0, printed.err
    assert "⚠ suspect" in printed.out
    assert "⚠ gradients seem to be masked: the gradient is exactly zero" in printed.out
    assert "worst of all     0.00%" in printed.out
    found = json.loads(hardy(*call, 0.3, "--out", tmp_path / "b.safetensors", "--json").out)
    assert found["eps"] == 0.3
    assert found["robust_accuracy"] > 0.5 > found["around_masking"]["robust_accuracy"]
    assert found["warnings"]


def test_an_export_holds_the_images_in_the_order_of_measuring(hardy: Hardy, tmp_path: Path) -> None:
    out = tmp_path / "verify"
    call = ["export", "helpers.classifiers:rounded_classifier", "--vnnlib", out, "--eps", "1/10"]
    assert hardy(*call, "--norm", "l2").status == 2
    assert hardy(*call, "--start", 10_000).status == 2
    assert not out.exists()
    refused = hardy(*call)
    assert refused.status == 2
    assert "'round' has no form in ONNX" in refused.err
    call[1] = "helpers.classifiers:SmallNet"
    written = hardy(*call, "--start", 2, "--count", 3)
    assert written.status == 0, written.err
    assert "3 properties at linf 0.1" in written.out
    facts = json.loads((out / "export.json").read_text())
    assert [row["index"] for row in facts["images"]] == load_dataset("mnist/test").measuring_order()[2:5].tolist()
    again = hardy(*call)
    assert again.status == 2
    assert "not empty" in again.err
