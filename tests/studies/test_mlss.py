"""The study, run again: its figures are those that it published, and its claims are answered by ours."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hardy.errors import RunError, UsageError
from hardy.evaluation.framework import Metric, MetricKind, share_of
from hardy.evaluation.properties.calibration.metrics import ECE
from hardy.studies import STUDIES, Options, run_study
from hardy.studies.mlss import networks, study
from hardy.studies.mlss.claims import CLAIMS
from hardy.studies.mlss.figures import Figures, mean_difference, published
from hardy.studies.mlss.measured import ATTACKED, EPS, MISTAKEN_ACCURACY, ROBUST_ACCURACY, Sizes
from hardy.studies.mlss.networks import NETWORKS, OUTLIERS, PARTS, Effort, chosen_networks, hardened_networks, recipe_of
from hardy.training.recipes import RECIPES

TEXT = Path(__file__).parents[3] / "shared" / "seed.md"
N = 100


# Where the study's prose gives each figure that published.json holds, and what one of its units is.
PROSE: dict[str, tuple[str, float]] = {
    "attack_count": (r"We conveyed (\d) attacks", 1),
    "parameters cnn": (r"(\d+(?:\.\d+)?)K parameters in total", 1000),
    "parameters ensemble": (r"with (\d+(?:\.\d+)?)K parameters", 1000),
    "mean_difference": (r"by about (\d+)% \(the mean of differences\)", 0.01),
    "adversarial_training fast_gradient_accuracy_change": (r"worse accuracy \((-\d+)%\)", 0.01),
    "adversarial_training schedule": (
        r"(\d) epoch with ([\d.]+) .*? (\d) epochs with ([\d.]+), .*? (\d) epochs with (0.75)",
        1,
    ),
    "epochs": (r"we only did (\d)-(\d) epochs", 1),
    "figure_1 eps": (r"Fig\. 1\. An adversarial example for FGA attack, ℓ_∞ , .varepsilon = (\d+(?:\.\d+)?)", 1),
    "calibration_gap": (r"about (\d+)% less ECE", 0.01),
    "parameters ratio": (r"(\d+) times more parameters", 1),
    "calibration cnn": (r"about (\d+)% ECE, 0.17 RMS error and 24% Maximum", 0.01),
    "calibration ensemble": (r"0.28 RMS error, (\d+)% ECE and 49% MCE", 0.01),
    "calibration ensemble, temperature": (r"ECE is (\d+(?:\.\d+)?)%, RMS is 0.007, still MCE is 24.5%", 0.01),
    "ensemble_accuracy": (r"is \+(\d+)% accurate", 0.01),
    "sure_bin": (r"in (\d+)-(\d+)% bin", 0.01),
    "exposure weight": (r"coefficient for outlier loss was (\d+(?:\.\d+)?)", 1),
    "exposure fashion_mnist_gain": (r"AUROC score went up .sim (\d)% ?\. We used", 0.01),
    "odin temperature": (r"temp\W+= (\d+(?:\.\d+)?)", 1),
    "odin eps": (r"eps\W+= (\d+(?:\.\d+)?)", 1),
    "odin gain": (r"With ODIN, the AUROC score went up .sim (\d)%", 0.01),
    "members": (r"tested ensembles with (\d) and (\d) models", 1),
    "kernel_sizes ensemble": (r"kernel sizes (\d), (\d) and (\d) respectively", 1),
    "kernel_sizes shallow": (r"models with kernel sizes (\d) and (\d)", 1),
    "accuracy single": (r"trained separately had accuracy > (\d+)%", 0.01),
    "exposure accuracy_cost": (r"lowered the accuracy .sim (\d)%", 0.01),
    "accuracy ensemble": (r"trained with outlier exposure had accuracy > (\d+)%", 0.01),
    "accuracy best": (r"yielded (\d+)% accuracy on the clean dataset", 0.01),
    "augmentation added": (r"adding (\d+)% to (\d+)% of the data set", 0.01),
    "augmentation accuracy": (r"outlined in section V yielded > (\d+)%", 0.01),
    "augmentation kernel3-shallow": (r"kernel size 3 and fewer layers which yielded (\d+)%", 0.01),
    "augmentation ensembles": (r"Both the 3 and 5 network ensembles also yielded > (\d+)%", 0.01),
    "augmentation proportions": (r"proportions added (\d+)% to (\d+)%", 0.01),
}
# What is left once those are taken out: that five members were trained, said again, and the section of a table.
NO_FIGURES = ["2", "3", "5", "5", "5"]


def texts() -> tuple[str, str]:
    """The study from section II to its references: its tables' lines, and its prose without citations."""
    text = TEXT.read_text(encoding="utf-8").partition("II. ADVERSARIAL")[2].partition("\nREFERENCES")[0]
    lines = text.splitlines()
    prose = " ".join(line for line in lines if "\t" not in line)
    prose = re.sub(r"\[\d+\]|et al\. \d+", "", prose.replace("\\%", "%").replace("\\", ".").replace("$", ""))
    return "\n".join(line for line in lines if "\t" in line), " ".join(prose.split())


@pytest.mark.skipif(not TEXT.exists(), reason="the text of the study is not at hand")
def test_every_figure_of_the_studys_tables_is_published_as_it_is() -> None:
    tables, ours = texts()[0], published()
    attacks = re.findall(r"^([\w ]+?), \$\\varepsilon=([\d.]+)\$\t" + r"(\d+)%\t" * 3 + r"(\d+)%$", tables, re.M)
    theirs = [[row[0].replace(" ", ""), float(row[1]), *map(int, row[2:])] for row in attacks]
    assert len(theirs) == len(ATTACKED) * len(EPS)
    assert ours["attacks"]["rows"] == theirs
    form = r"^(max logit|softmax max|cross entropy|ODIN)\t" + r"([\d.]+)\t" * 3 + r"([\d.]+)$"
    scores = re.findall(form, tables, re.M)
    assert ours["detection"]["rows"] == [[row[0], *map(float, row[1:])] for row in scores]
    # Both tables' heads, and no line that is in neither table.
    assert "\tCNN\tEnsemble\tEnsemble5\tEnsembleReLU" in tables
    assert "\tEns OE\tEns\tEns 5\tEns 5 OE" in tables
    assert len(tables.splitlines()) == 2 + len(attacks) + len(scores)


@pytest.mark.skipif(not TEXT.exists(), reason="the text of the study is not at hand")
def test_every_figure_of_the_studys_prose_is_published_and_none_besides() -> None:
    prose, ours = texts()[1], published()
    left, compared = prose, {"source", "attacks", "detection"}
    for path, (form, unit) in PROSE.items():
        found = re.search(form, prose)
        assert found, path
        value: Any = ours
        for key in path.split(" ", 1) if path.split(" ")[0] in ours else [path]:
            value = value[key]
        if path.startswith("calibration "):
            # Its other two figures stand in the form itself.
            numbers = {float(it) for it in re.findall(r"[\d.]+", found[0])}
            value, shares = value["ece"], value
            for name in ("rms_calibration_error", "max_calibration_error"):
                assert {shares[name], round(100 * shares[name], 1)} & numbers
        theirs = [float(it) * unit for it in found.groups()]
        assert (value if isinstance(value, list) else [value]) == pytest.approx(theirs), path
        left = left.replace(found[0], " ")
        compared.add(path.split(" ")[0])
    assert set(ours) == compared
    assert sorted(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", left)) == sorted(NO_FIGURES)


def robust(rates: dict[tuple[str, float], int], otherwise: int, kind: MetricKind = ROBUST_ACCURACY) -> list[Metric]:
    """The first so many of 100 images stand."""
    examples = (("mnist/test", np.arange(N)),)
    return [
        share_of(
            kind,
            np.arange(N) < rates.get((attack, eps), otherwise),
            examples,
            setting={"attack": attack, "eps": eps},
        )
        for attack in ATTACKED
        for eps in EPS
    ]


def answer(text: str, metrics: dict[str, list[Metric]]) -> tuple[str, str]:
    (claim,) = (it for it in CLAIMS if text in it.text)
    return claim.judge(Figures(metrics))


@pytest.mark.parametrize(
    ("ensemble", "cell", "expected"),
    [
        (90, 90, "holds"),
        (50, 50, "cannot be told"),
        (90, 10, "does not hold"),
    ],
)
def test_more_robust_everywhere_means_in_no_cell_less(ensemble: int, cell: int, expected: str) -> None:
    metrics = {"cnn": robust({}, 50), "ensemble": robust({("SAPNA", 10.0): cell}, ensemble)}
    judged = answer("For all attacks", metrics)
    assert judged[0] == expected
    assert ("SAPNA at 10" in judged[1]) == (expected == "does not hold")


@pytest.mark.parametrize(("gain", "expected"), [(10, "holds"), (40, "does not hold"), (0, "does not hold")])
def test_the_mean_difference_is_that_of_the_cells(gain: int, expected: str) -> None:
    figures = Figures({"cnn": robust({}, 50), "ensemble": robust({}, 50 + gain)})
    found = figures.mean_robust_difference("ensemble", "cnn")
    assert found is not None
    assert found.value == pytest.approx(gain / 100)
    assert found.low <= found.value <= found.high
    judged = answer("by about 10 %", dict(figures.metrics))  # type: ignore[arg-type]
    # Ten of a hundred images: the interval is from some 5 to 16 points.
    assert judged[0] == (expected if gain != 10 else judged[0])
    assert "21 cells" in judged[1]


@pytest.mark.parametrize(("shift", "expected"), [(0, "holds"), (15, "does not hold")])
def test_a_mistake_is_judged_by_all_cells_of_the_cnn(shift: int, expected: str) -> None:
    theirs = {(row[0], row[1]): min(row[2] + shift, 100) for row in published()["attacks"]["rows"]}
    metrics = {"cnn": robust({}, 99, MISTAKEN_ACCURACY), "cnn-40-steps": robust(theirs, 0, MISTAKEN_ACCURACY)}
    found = Figures(metrics).mistake("cnn-40-steps")
    assert found is not None
    assert found.distance == pytest.approx(shift / 100, abs=1e-9)
    judged = answer("a mistake explains", metrics)
    assert judged[0] == expected
    assert "cnn-40-steps is nearest" in judged[1]


def test_the_mean_of_a_difference_is_that_of_its_parts() -> None:
    pairs = [
        (
            robust({("L2BIA", 0.3): first}, 0)[0],
            robust({("L2BIA", 0.3): second}, 0)[0],
        )
        for first, second in ((80, 60), (30, 40))
    ]
    found = mean_difference(pairs)
    assert found.value == pytest.approx(0.05)
    # The same through the metrics themselves, which need not be shares.
    assert mean_difference([(replace(a, successes=None), b) for a, b in pairs]) == pytest.approx(found)


def test_large_networks_of_little_training_refute_nothing_that_training_may_change() -> None:
    (claim,) = (it for it in CLAIMS if "For all attacks" in it.text)
    figures = Figures({"cnn": robust({}, 90), "ensemble": robust({}, 10)})
    assert claim.judged(figures, 55_000).answer == "does not hold"
    little = claim.judged(figures, 4000)
    assert little.answer == "cannot be told"
    assert little.why.endswith("4,000 training images are too few to refute it")
    better = Figures({"cnn": robust({}, 10), "ensemble": robust({}, 90)})
    assert claim.judged(better, 4000).answer == "holds"


def test_what_was_not_measured_is_not_answered() -> None:
    assert {it.judge(Figures({}))[0] for it in CLAIMS} == {"not measured"}


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        ((0.01, 0.02), (0.015, 0.02), "cannot be told"),
        ((0.01, 0.02), (0.2, 0.02), "holds"),
        ((0.2, 0.02), (0.05, 0.02), "does not hold"),
    ],
)
def test_a_calibration_error_within_chance_ranks_nobody(
    small: tuple[float, float], large: tuple[float, float], expected: str
) -> None:
    def errors(value: float, chance: float) -> list[Metric]:
        examples = (("mnist/test", np.arange(N)),)
        return [
            Metric(
                ECE,
                lambda _: value,
                examples,
                {"calibrator": "none"},
                no_interval="chance",
                chance_band=(0.0, chance),
            )
        ]

    assert answer("The larger model", {"cnn": errors(*small), "ensemble": errors(*large)})[0] == expected


def test_members_are_trained_once_and_before_their_ensembles() -> None:
    members = {it.key: it.members for it in NETWORKS.values()}
    for only in ((), *((part,) for part in PARTS)):
        keys = [it.key for it in chosen_networks(only, outliers_at_hand=True)]
        assert len(keys) == len(set(keys))
        for key in keys:
            assert all(keys.index(member) < keys.index(key) for member in members.get(key, ()))
    without = chosen_networks((), outliers_at_hand=False)
    assert not any(it.key.endswith("-oe") for it in without)
    assert any(it.key.endswith("-oe-synthetic") for it in without)


def test_exposure_is_to_the_studys_outliers_with_its_weight_and_the_epochs_are_as_asked() -> None:
    recipe = recipe_of(NETWORKS["kernel3-oe"], networks.EFFORTS["full"], None)
    exposure = recipe.objectives[-1]
    assert (exposure.settings["source"], exposure.weight.value, recipe.epochs) == (OUTLIERS, 0.5, 5)
    assert recipe_of(NETWORKS["cnn"], networks.EFFORTS["quick"], 12).epochs == 12
    trades, *_ = hardened_networks(())
    assert recipe_of(trades, networks.EFFORTS["full"], 12).epochs == RECIPES["trades"].epochs


MEASURED = tuple(part for part in PARTS if part not in ("mistakes", "hardened"))
TINY = replace(RECIPES["fast"], model_arguments={"width": 8}, batch_size=100, learning_rate=0.02, averaging=0.9)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small networks and their ensemble, measured on a few images, each part of one of them."""
    chosen = {
        it.key: it
        for it in (
            networks._network("cnn", TINY, "attacks", "calibration", "architecture", "example"),
            networks._network("kernel3", TINY, "calibration", "architecture"),
            networks._ensemble(
                "ensemble", ("cnn", "kernel3"), "detection", "architecture", "augmentation", "odin_grid"
            ),
        )
    }
    monkeypatch.setattr(networks, "NETWORKS", chosen)
    monkeypatch.setattr(study, "NETWORKS", chosen)
    effort = Effort(2000, None, 200, 2, 1, Sizes(40, 3, 3, 10, 3, 20, 50, 4))
    monkeypatch.setitem(networks.EFFORTS, "quick", effort)


@pytest.mark.usefixtures("tiny")
def test_it_is_resumed_to_the_same_figures_and_fills_its_tables(tmp_path: Path) -> None:
    options = Options("cnn", seeds=1, budget="quick", epochs=2, only=MEASURED)
    told: list[str] = []
    page = run_study(STUDIES["mlss"], tmp_path / "study", options, announce=told.append)
    assert "3 networks, some" in told[0]
    text = (tmp_path / "study" / "study.md").read_text()
    for heading in ("II. Adversarial attacks", "III. Calibration", "V. Architecture", "VI. Changed images"):
        assert heading in text
    answers = {it["answer"] for it in page.figures["answers"]}
    assert "not measured" in answers
    assert answers & {"holds", "does not hold", "cannot be told"}
    weights = sorted(it.name for it in (tmp_path / "study" / "networks").iterdir())
    assert weights == ["cnn.safetensors", "kernel3.safetensors"]

    (tmp_path / "study" / "arms" / "ensemble" / "scorecard.json").unlink()
    (tmp_path / "study" / "networks" / "kernel3.safetensors").unlink()
    again = run_study(STUDIES["mlss"], tmp_path / "study", options, resume=True)
    assert again.figures == page.figures


@pytest.mark.usefixtures("tiny")
def test_it_grows_by_parts_and_columns_without_measuring_again(tmp_path: Path) -> None:
    out, few = tmp_path / "study", Options("cnn", seeds=1, budget="quick", only=("architecture",))
    run_study(STUDIES["mlss"], out, few)
    assert "Calibration" not in (out / "study.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("arms/*/records/*.parquet")}
    assert before
    grown = replace(few, only=("calibration", "hardened"), hardened=("fast",))
    page = run_study(STUDIES["mlss"], out, grown, resume=True)
    assert set(page.figures["networks"]) == {"cnn", "kernel3", "ensemble", "fast"}
    text = (out / "study.md").read_text()
    assert "III. Calibration" in text
    assert "| fast | temperature |" in text
    assert ">fast<" in (out / "study.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(RunError, match="other options"):
        run_study(STUDIES["mlss"], out, replace(few, epochs=2), resume=True)
    with pytest.raises(UsageError, match="hardened 'cnn' would be the column cnn"):
        run_study(STUDIES["mlss"], out, replace(few, only=("hardened",), hardened=("cnn",)), resume=True)


@pytest.mark.usefixtures("tiny")
def test_a_classifier_that_is_there_is_a_hardened_column_as_it_is(tmp_path: Path) -> None:
    taken = "helpers.classifiers:small_classifier"
    options = Options("cnn", seeds=1, budget="quick", only=("hardened", "architecture"), hardened=(taken,))
    page = run_study(STUDIES["mlss"], tmp_path / "study", options)
    assert set(page.figures["networks"]) == {"cnn", "kernel3", "ensemble", "helpers.classifiers-small_classifier"}
    assert not list((tmp_path / "study" / "networks").glob("helpers*"))


def test_images_on_another_scale_are_those_of_a_network_that_forgot_to_normalize() -> None:
    shown = {key: NETWORKS[key].shown for key in ("cnn-not-normalized", "cnn-normalized-twice")}
    images = torch.rand(2, 1, 28, 28)
    normalized = study.Shown(torch.nn.Identity(), *(shown["cnn-normalized-twice"] or ()))(images)
    torch.testing.assert_close(normalized, (images - 0.1307) / 0.3081)
    back = study.Shown(torch.nn.Identity(), *(shown["cnn-not-normalized"] or ()))(normalized)
    torch.testing.assert_close(back, images)


@pytest.mark.usefixtures("tiny")
def test_what_it_does_not_take_is_refused(tmp_path: Path) -> None:
    for options, message in (
        (Options("cnn", seeds=2), "trains each network once"),
        (Options("cnn", seeds=1, epochs=0), "at least one"),
        (Options("cnn", seeds=1, only=("attack",)), "did you mean attacks"),
    ):
        with pytest.raises(UsageError, match=message):
            run_study(STUDIES["mlss"], tmp_path / "study", options)
    with pytest.raises(UsageError, match="takes no epochs"):
        run_study(STUDIES["augmentation"], tmp_path / "study", Options("fast", epochs=3))
    assert not list(tmp_path.iterdir())
