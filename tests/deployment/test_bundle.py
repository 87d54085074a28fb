"""The bundle: it answers as what it was made of, and whatever was changed in it is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import small_bundle, write_small_bundle, write_small_run
from safetensors.numpy import load_file, save_file

from hardy.data import load_dataset
from hardy.deployment import Bundle, load_bundle, write_bundle
from hardy.deployment.bundle import SUMS
from hardy.deployment.preprocessing import Preprocessed, in_form
from hardy.errors import BundleError, RunError, UsageError
from hardy.evaluation.scorecard import Scorecard
from hardy.evaluation.subject import load_subject
from hardy.training import Recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick: Recipe) -> Path:
    return write_small_run(tmp_path_factory.mktemp("bundle"), quick)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("made"), run)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be broken."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def sign(folder: Path) -> None:
    """List what is in the folder, as somebody would who wants an altered bundle to pass."""
    names = sorted(file.name for file in folder.iterdir() if file.name != SUMS)
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / SUMS).write_text("".join(lines))


def digits(count: int = 100) -> Preprocessed:
    test = load_dataset("mnist/test")
    return in_form(test.floats(slice(0, count)))


def test_what_is_read_answers_as_what_was_written(run: Path, made: Path, tmp_path: Path) -> None:
    loaded = load_bundle(made)
    write_bundle(tmp_path / "again", loaded, "card")
    again = load_bundle(tmp_path / "again")
    assert again.manifest == loaded.manifest
    for one, other in zip(loaded.answer(digits()), again.answer(digits()), strict=True):
        assert np.array_equal(one, other)
    own = load_subject(str(run)).classifier.eval()(digits().images).argmax(1)
    assert np.array_equal(loaded.answer(digits()).best, own.numpy())
    assert (tmp_path / "again" / SUMS).read_text().count("\n") == len(list(made.iterdir())) - 1


def test_it_mostly_answers_and_is_then_mostly_right(made: Path) -> None:
    decisions = load_bundle(made).answer(digits())
    labels = load_dataset("mnist/test").labels[:100].numpy()
    assert decisions.answered.mean() > 0.4
    assert (decisions.best == labels)[decisions.answered].mean() > (decisions.best == labels).mean() - 0.02
    assert decisions.sets[np.arange(100), labels].mean() > 0.75


def test_an_answer_does_not_depend_on_the_batch_or_the_neighbours(made: Path) -> None:
    bundle = load_bundle(made)
    together, apart = bundle.answer(digits(30)), bundle.answer(digits(30), batch_size=7)
    alone = bundle.answer(in_form(digits(30).images[29:]))
    assert np.allclose(together.ood_score, apart.ood_score, rtol=1e-4)
    assert np.array_equal(together.sets, apart.sets)
    assert np.allclose(together.ood_score[29], alone.ood_score, rtol=1e-4)
    assert np.array_equal(together.sets[29:], alone.sets)


def test_it_says_what_it_was_fitted_on_and_what_it_refuses(made: Path) -> None:
    manifest = load_bundle(made).manifest
    assert manifest.classes == tuple("0123456789")
    assert manifest.fitted_on["detector"].endswith("1,800 images")
    assert set(manifest.rules.validation_refusal) == {
        "all",
        "no_foreground",
        "several_objects",
        "ood_score",
        "confidence",
        "prediction_set",
    }
    assert len(manifest.data) == 2
    for estimate in manifest.refusal_estimates:
        assert estimate.low <= estimate.rate <= estimate.high
    kinds = {estimate.kind: estimate for estimate in manifest.refusal_estimates}
    assert kinds["photos of blank paper"].rate == 1.0
    assert kinds["photos of blank paper"].low < 1.0
    card = (made / "README.md").read_text()
    assert all(estimate.kind in card for estimate in manifest.refusal_estimates)
    held_out = [it for it in manifest.refusal_estimates if it.role == "held out"]
    assert manifest.worst() in held_out
    assert manifest.worst().rate == min(it.rate for it in held_out)
    assert f"{manifest.mean_refusal():.1%} are refused on average" in card


def test_a_scorecard_comes_along(run: Path, tmp_path: Path) -> None:
    (tmp_path / "scorecard.json").write_text("{}")
    write_bundle(tmp_path / "bundle", small_bundle(run, alpha=0.1), "card", tmp_path / "scorecard.json")
    assert (tmp_path / "bundle" / "scorecard.json").read_text() == "{}"
    assert load_bundle(tmp_path / "bundle").manifest.detector == "discriminator"


def test_a_bundle_is_a_subject(made: Path, run: Path) -> None:
    subject = load_subject(str(made))
    assert subject.weights_sha256 == load_subject(str(run)).weights_sha256
    assert subject.run is None
    with pytest.raises(UsageError, match="leave out --weights"):
        load_subject(str(made), made / "weights.safetensors")


def test_a_folder_that_holds_something_is_not_written_to(made: Path, tmp_path: Path) -> None:
    bundle = load_bundle(made)
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(BundleError, match="choose another --out"):
        write_bundle(tmp_path, bundle, "card")
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


def test_a_failed_write_leaves_nothing(made: Path, tmp_path: Path) -> None:
    bundle = load_bundle(made)
    with pytest.raises(UsageError, match="cannot write"):
        write_bundle(tmp_path / "out", bundle, "card", tmp_path / "no scorecard")
    assert not list(tmp_path.iterdir())


def test_any_changed_byte_is_refused(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        # Every byte of the list, some of each other file.
        places = range(len(content)) if file.name == SUMS else rng.integers(0, len(content), 5).tolist()
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(changed)
            with pytest.raises(BundleError):
                load_bundle(folder)
        file.write_bytes(content)
    assert isinstance(load_bundle(folder), Bundle)


def _edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))
        sign(folder)

    return edit


def _link(folder: Path) -> None:
    outside = folder.parent / "outside.md"
    outside.write_bytes((folder / "README.md").read_bytes())
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(outside)


def _list(line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / SUMS).write_text(f"{(folder / SUMS).read_text()}{'0' * 64}  {line}\n")


def _without_a_threshold(folder: Path) -> None:
    arrays = load_file(folder / "fitted.safetensors")
    arrays.pop("conformal/threshold")
    save_file(arrays, folder / "fitted.safetensors")
    sign(folder)


def _absurd(file: str, name: str, value: float) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        arrays = load_file(folder / file)
        arrays[name] = np.full_like(arrays[name], value)
        save_file(arrays, folder / file)
        sign(folder)

    return edit


def _added(folder: Path) -> None:
    (folder / "run_me.py").write_text("import this")


def _added_and_listed(folder: Path) -> None:
    _added(folder)
    sign(folder)


BROKEN = {
    "no bundle": (lambda folder: (folder / SUMS).unlink(), "is no bundle: it has no SHA256SUMS"),
    "missing file": (lambda folder: (folder / "fitted.safetensors").unlink(), "lacks fitted.safetensors"),
    "file not listed": (_added, "run_me.py, which SHA256SUMS does not list"),
    "file of no use": (_added_and_listed, "run_me.py, which does not belong in a bundle"),
    "path upwards": (_list("../run.json"), "leaves the folder"),
    "path of its own": (_list("/etc/passwd"), "leaves the folder"),
    "folder inside": (_list("a/b"), "leaves the folder"),
    "link": (_link, "is a link or a folder"),
    "list cut off": (lambda folder: (folder / SUMS).write_text((folder / SUMS).read_text()[:-1]), "cut off"),
    "list empty": (lambda folder: (folder / SUMS).write_text(""), "cut off"),
    "list twice": (
        lambda folder: (folder / SUMS).write_text((folder / SUMS).read_text() * 2),
        "twice",
    ),
    "newer schema": (_edit("bundle.json", lambda found: found.update(schema=4)), "schema 4.*upgrade hardy"),
    "older schema": (
        _edit("bundle.json", lambda found: found.update(schema=2)),
        "schema 2, which is no longer read; make it again: hardy bundle RUN",
    ),
    "no schema": (_edit("bundle.json", lambda found: found.pop("schema")), "names no schema"),
    "field unknown": (_edit("bundle.json", lambda found: found.update(more=1)), "more: Extra"),
    "field missing": (_edit("bundle.json", lambda found: found.pop("rules")), "rules: Field required"),
    "model unknown": (_edit("bundle.json", lambda found: found["model"].update(name="os.system")), "unknown model"),
    "model of another size": (
        _edit("bundle.json", lambda found: found["model"]["arguments"].update(width=9)),
        "do not fit",
    ),
    "model that fills the memory": (
        _edit("bundle.json", lambda found: found["model"]["arguments"].update(width=10**7)),
        "do not fit",
    ),
    "detector unknown": (_edit("bundle.json", lambda found: found.update(detector="vimm")), "unknown detector"),
    "calibrator of another kind": (
        _edit("bundle.json", lambda found: found.update(calibrator="vector")),
        "calibrator 'vector'",
    ),
    "classes lost": (_edit("bundle.json", lambda found: found["classes"].pop()), "9 class names for 10 classes"),
    "array missing": (_without_a_threshold, "do not fit"),
    "weights not finite": (_absurd("weights.safetensors", "head.bias", np.nan), "array 'head.bias' is not of finite"),
    "weights infinite": (_absurd("weights.safetensors", "hidden.weight", np.inf), "'hidden.weight' is not of finite"),
    "weights absurd": (
        _absurd("weights.safetensors", "hidden.weight", 1e30),
        "'hidden.weight' has values up to 1e\\+",
    ),
    "fitted array not finite": (
        _absurd("fitted.safetensors", "ood_score/reference", np.nan),
        "'ood_score/reference' is not of finite",
    ),
    "fitted array absurd": (
        _absurd("fitted.safetensors", "calibrator/temperature", 1e300),
        "'calibrator/temperature' has values up to 1e\\+300",
    ),
    "logits absurd": (_absurd("weights.safetensors", "head.bias", 9e5), "logits up to 9.*; a classifier's are below"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_bundle_is_refused_by_name(folder: Path, kind: str) -> None:
    damage, message = BROKEN[kind]
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no folder"):
        load_bundle(tmp_path / "gone")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector": "vimm"}, "unknown detector of a bundle 'vimm'; did you mean vim"),
        ({"detector": "odin"}, "unknown detector of a bundle"),
        ({"target_refusal": 0.0}, "target refusal 0"),
        ({"alpha": 1.5}, "alpha: 1.5"),
        ({"alpha": 0.001}, r"alpha 0\.001: 100 validation images are too few.*at least 0\.0099"),
    ],
)
def test_a_bundle_is_not_fitted_with_wrong_settings(run: Path, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small_bundle(run, **settings)


def test_images_of_another_shape_are_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = json.loads((copy / "run.json").read_text())
    manifest["input"] = [3, 32, 32]
    (copy / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"takes images of \[3, 32, 32\], and those of .*/validation are \[1, 28, 28\]"):
        small_bundle(copy)


def test_a_validation_image_in_the_test_split_is_refused(tmp_path: Path, quick: Recipe) -> None:
    run = write_small_run(tmp_path, quick)
    content = dict(np.load(tmp_path / "digits.npz"))
    content["test_images"] = content["train_images"]
    content["test_labels"] = content["train_labels"]
    np.savez(tmp_path / "digits.npz", **content)
    with pytest.raises(UsageError, match="must not be what it is measured on"):
        small_bundle(run)


def test_a_bundle_can_be_evaluated(made: Path, run: Path, tmp_path: Path) -> None:
    from hardy.evaluation.evaluate import evaluate

    evaluate(made, run.parent / "digits.npz", out=tmp_path / "out", properties=["accuracy"], device="cpu")
    assert Scorecard.read(tmp_path / "out" / "scorecard.json").subject.name == load_bundle(made).manifest.name
