"""The study, run again: its figures are those that it published, and its claims are answered by ours."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardy.errors import UsageError
from hardy.evaluation.framework import Metric, share_of
from hardy.evaluation.properties.calibration.metrics import ECE
from hardy.studies import STUDIES, Options, run_study
from hardy.studies.mlss import networks, study
from hardy.studies.mlss.claims import CLAIMS
from hardy.studies.mlss.figures import Figures, published
from hardy.studies.mlss.measured import ATTACKED, EPS, ROBUST_ACCURACY, Sizes
from hardy.studies.mlss.networks import NETWORKS, OUTLIERS, PARTS, Effort, chosen_networks, recipe_of
from hardy.training.recipes import RECIPES

TEXT = Path(__file__).parents[3] / "shared" / "seed.md"
N = 100


@pytest.mark.skipif(not TEXT.exists(), reason="the text of the study is not at hand")
def test_every_published_figure_is_that_of_the_study() -> None:
    text, ours = TEXT.read_text(encoding="utf-8"), published()
    attacks = re.findall(r"^([\w ]+?), \$\\varepsilon=([\d.]+)\$\t" + r"(\d+)%\t" * 3 + r"(\d+)%$", text, re.M)
    theirs = [[row[0].replace(" ", ""), float(row[1]), *map(int, row[2:])] for row in attacks]
    assert len(theirs) == len(ATTACKED) * len(EPS)
    assert ours["attacks"]["rows"] == theirs
    scores = re.findall(r"^(max logit|softmax max|cross entropy|ODIN)\t" + r"([\d.]+)\t" * 3 + r"([\d.]+)$", text, re.M)
    assert ours["detection"]["rows"] == [[row[0], *map(float, row[1:])] for row in scores]
    calibration = ours["calibration"]
    for network, sentence in {
        "cnn": "about {ece:.0%} ECE, {rms_calibration_error} RMS error and {max_calibration_error:.0%} Maximum",
        "ensemble": "{rms_calibration_error} RMS error, {ece:.0%} ECE and {max_calibration_error:.0%} MCE",
        "ensemble, temperature": (
            "ECE is {ece:.1%}, RMS is {rms_calibration_error}, still MCE is {max_calibration_error:.1%}"
        ),
    }.items():
        assert sentence.format(**calibration[network]) in text.replace("\\%", "%").replace("$", "")


def robust(rates: dict[tuple[str, float], int], otherwise: int) -> list[Metric]:
    """The first so many of 100 images stand."""
    examples = (("mnist/test", np.arange(N)),)
    return [
        share_of(
            ROBUST_ACCURACY,
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
    for only in ((), *((part,) for part in PARTS)):
        keys = [it.key for it in chosen_networks(only, outliers_at_hand=True)]
        assert len(keys) == len(set(keys))
        for key in keys:
            assert all(keys.index(member) < keys.index(key) for member in NETWORKS[key].members)
    without = chosen_networks((), outliers_at_hand=False)
    assert not any(it.key.endswith("-oe") for it in without)
    assert any(it.key.endswith("-oe-synthetic") for it in without)


def test_exposure_is_to_the_studys_outliers_with_its_weight_and_the_epochs_are_as_asked() -> None:
    recipe = recipe_of(NETWORKS["kernel3-oe"], networks.EFFORTS["full"], None)
    exposure = recipe.objectives[-1]
    assert (exposure.settings["source"], exposure.weight.value, recipe.epochs) == (OUTLIERS, 0.5, 5)
    assert recipe_of(NETWORKS["cnn"], networks.EFFORTS["quick"], 12).epochs == 12
    assert recipe_of(NETWORKS["trades"], networks.EFFORTS["full"], 12).epochs == RECIPES["trades"].epochs


TINY = replace(RECIPES["fast"], model_arguments={"width": 8}, batch_size=100, learning_rate=0.02, averaging=0.9)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small networks and their ensemble, measured on a few images."""
    chosen = {
        it.key: it
        for it in (
            networks._network("cnn", TINY, *PARTS[:5]),
            networks._network("kernel3", TINY, "calibration", "architecture"),
            networks._ensemble("ensemble", ("cnn", "kernel3"), *PARTS[:5]),
        )
    }
    monkeypatch.setattr(networks, "NETWORKS", chosen)
    monkeypatch.setattr(study, "NETWORKS", chosen)
    effort = Effort(2000, 2, 1, Sizes(40, 3, 10, 3, 20, 4))
    monkeypatch.setitem(networks.EFFORTS, "quick", effort)


@pytest.mark.usefixtures("tiny")
def test_it_is_resumed_to_the_same_figures_and_fills_its_tables(tmp_path: Path) -> None:
    options = Options("cnn", seeds=1, budget="quick", epochs=2)
    told: list[str] = []
    page = run_study(STUDIES["mlss"], tmp_path / "study", options, announce=told.append)
    assert "3 networks on 2,000 training images, some" in told[0]
    text = (tmp_path / "study" / "study.md").read_text()
    for heading in ("II. Attacks", "III. Calibration", "V. Architecture", "VI. Changed images"):
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
