"""What the study says, and whether the figures bear it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from hardy.evaluation.framework import MetricKind
from hardy.evaluation.properties.calibration.metrics import ECE
from hardy.ood.odin import GRID, OdinSetting
from hardy.studies.mlss.figures import Difference, Figures, mean_difference, published
from hardy.studies.mlss.measured import (
    ACCURACY,
    AUROC,
    CHANGED_ACCURACY,
    CONFIDENCE,
    ROBUST_ACCURACY,
    SURE_SHARE,
    THEIR_ODIN,
    VIM,
)
from hardy.studies.mlss.networks import ALL_IMAGES, MISTAKES, NETWORKS, Part

Answer: TypeAlias = Literal["holds", "does not hold", "cannot be told", "not measured"]
NOT, FASHION = "notmnist/test", "fashion-mnist/test"


class Judged(NamedTuple):
    """An answer, and the figures that it follows from, in words."""

    answer: Answer
    why: str


_UNKNOWN = Judged("not measured", "its networks are not measured here, or the images that they take are not at hand")


class Claim(NamedTuple):
    """A sentence of the study, and how it is judged.

    Attributes:
        part: where it stands.
        text: what it says.
        judge: gives the answer.
        takes_training: whether large networks can only refute it that have seen as many images as the study's.
    """

    part: Part
    text: str
    judge: Callable[[Figures], Judged]
    takes_training: bool = False

    def judged(self, figures: Figures, images: int) -> Judged:
        """The answer from large networks that were trained on so many images."""
        found = self.judge(figures)
        if not self.takes_training or found.answer != "does not hold" or images >= ALL_IMAGES:
            return found
        return Judged("cannot be told", f"{found.why}; {images:,} training images are too few to refute it")


def _points(it: Difference) -> str:
    return f"{100 * it.value:+.1f} points ({100 * it.low:+.1f} to {100 * it.high:+.1f})"


def _interval(it: Difference) -> str:
    return f"{it.value:+.4f} ({it.low:+.4f} to {it.high:+.4f})"


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2%}"


def _by_sign(sign: int, expected: int, why: str) -> Judged:
    if sign == 0:
        return Judged("cannot be told", why)
    return Judged("holds" if sign == expected else "does not hold", why)


def _more_robust_everywhere(network: str, other: str) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        found = figures.robust_differences(network, other)
        if not found:
            return _UNKNOWN
        better = [cell for cell, it in found.items() if it.sign > 0]
        worse = [cell for cell, it in found.items() if it.sign < 0]
        why = f"of {len(found)} cells {len(better)} are better and {len(worse)} worse, beyond their intervals"
        if worse:
            return Judged("does not hold", f"{why}: worse under {_cells(worse)}")
        return Judged("holds" if better else "cannot be told", why)

    return judge


def _cells(cells: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{attack} at {eps:g}" for attack, eps in cells)


def _mean_difference(figures: Figures) -> Judged:
    found = figures.mean_robust_difference("ensemble", "cnn")
    if found is None:
        return _UNKNOWN
    claimed = published()["mean_difference"]
    theirs = [row[3] - row[2] for row in published()["attacks"]["rows"]]
    first = {row[0]: row[3] - row[2] for row in published()["attacks"]["rows"] if row[1] == 0.3}
    why = (
        f"the mean over 21 cells is {_points(found)}; of the study's own cells it is {sum(theirs) / 21:+.1f} points, "
        f"and under noise that hardly changes an image its CNN is {first['L2AGNA']} points behind already"
    )
    # 'About 10 %': from 5 to 15.
    if claimed / 2 <= found.low and found.high <= 1.5 * claimed:
        return Judged("holds", why)
    apart = found.high < claimed / 2 or found.low > 1.5 * claimed
    return Judged("does not hold" if apart else "cannot be told", why)


def _no_more_robust(network: str, other: str) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        found = figures.mean_robust_difference(network, other)
        if found is None:
            return _UNKNOWN
        why = f"{network} minus {other}, mean over 21 cells: {_points(found)}"
        if found.sign > 0:
            return Judged("does not hold", why)
        # Not more robust is told by an interval that leaves no room for much more.
        return Judged("holds" if found.high < 0.03 else "cannot be told", why)

    return judge


def _training_made_worse(kind: str, attack: str) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        there, right = f"cnn-{kind}-there", f"cnn-{kind}-right"
        setting = {"attack": attack, "eps": 0.3}
        found = figures.difference(there, "cnn", ROBUST_ACCURACY, **setting)  # type: ignore[arg-type]
        better = figures.difference(right, there, ROBUST_ACCURACY, **setting)  # type: ignore[arg-type]
        cost = figures.difference(there, "cnn", ACCURACY)
        if found is None or better is None or cost is None:
            return _UNKNOWN
        why = (
            f"under {attack} at 0.3 the study's training changes the CNN by {_points(found)}, its clean accuracy by "
            f"{_points(cost)}; on adversarial images alone, with a radius that grows, another {_points(better)}"
        )
        return _by_sign(found.sign, -1, why)

    return judge


def _worse_calibrated(figures: Figures) -> Judged:
    found = [figures.estimate(it, ECE, calibrator="none") for it in ("cnn", "ensemble")]
    small, large = found
    if small is None or large is None or large.chance_band is None or small.chance_band is None:
        return _UNKNOWN
    why = (
        f"ECE of the CNN {small.value:.2%} (by chance up to {small.chance_band[1]:.2%}), of the ensemble "
        f"{large.value:.2%} (by chance up to {large.chance_band[1]:.2%})"
    )
    confidence, accuracy = (
        figures.estimate("ensemble", CONFIDENCE, calibrator="none"),
        figures.estimate("ensemble", ACCURACY),
    )
    if confidence and accuracy:
        why += f"; the ensemble is {'less' if confidence.value < accuracy.value else 'more'} sure than right"
    excess = [max(0.0, it.value - it.chance_band[1]) for it in (small, large) if it.chance_band]
    if excess[0] == excess[1] == 0.0:
        return Judged("cannot be told", f"both are calibrated as far as can be seen: {why}")
    return Judged("holds" if excess[1] > excess[0] else "does not hold", why)


def _badly_calibrated(network: str) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        found = figures.estimate(network, ECE, calibrator="none")
        if found is None or found.chance_band is None:
            return _UNKNOWN
        theirs = published()["calibration"][network]["ece"]
        why = f"ECE {found.value:.2%}, by chance up to {found.chance_band[1]:.2%}; the study: {theirs:.0%}"
        confidence, accuracy = (
            figures.estimate(network, CONFIDENCE, calibrator="none"),
            figures.estimate(network, ACCURACY),
        )
        if confidence and accuracy:
            why += f". Its mean confidence is {confidence.value:.1%}, and it is right on {accuracy.value:.1%}"
        return Judged("holds" if found.value > 0.05 else "does not hold", why)

    return judge


def _temperature_helps(figures: Figures) -> Judged:
    before, after = (figures.estimate("ensemble", ECE, calibrator=it) for it in ("none", "temperature"))
    if before is None or after is None or after.chance_band is None:
        return _UNKNOWN
    why = f"ECE {before.value:.2%} before, {after.value:.2%} after, by chance up to {after.chance_band[1]:.2%}"
    return Judged("holds" if after.value < before.value else "does not hold", why)


def _mostly_sure(figures: Figures) -> Judged:
    found = figures.estimate("ensemble", SURE_SHARE, calibrator="temperature")
    if found is None or found.low is None:
        return _UNKNOWN
    return Judged("holds" if found.low > 0.9 else "does not hold", f"{found.value:.1%} of confidences are above 90 %")


def _auroc_change(
    network: str, other: str, dataset: str, expected: int, score: str = "softmax max"
) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        found = figures.difference(network, other, AUROC, dataset, score=score)
        if found is None:
            return _UNKNOWN
        why = f"AUROC of {score} on {dataset}, {network} minus {other}: {_interval(found)}"
        return _by_sign(found.sign, expected, why)

    return judge


def _odin_helps(figures: Figures) -> Judged:
    plain = figures.estimate("ensemble", AUROC, NOT, score="ODIN", temperature=1.0, eps=0.0)
    theirs = figures.estimate("ensemble", AUROC, NOT, score="ODIN", **THEIR_ODIN._asdict())
    pair = [
        figures.metric("ensemble", AUROC, NOT, score="ODIN", **it._asdict())
        for it in (THEIR_ODIN, OdinSetting(1.0, 0.0))
    ]
    if plain is None or theirs is None or pair[0] is None or pair[1] is None:
        return _UNKNOWN
    all_of_them = {
        setting: found.value
        for setting in GRID
        if (found := figures.estimate("ensemble", AUROC, NOT, score="ODIN", **setting._asdict()))
    }
    best = max(all_of_them, key=lambda setting: all_of_them[setting])
    gain = mean_difference([(pair[0], pair[1])])
    why = (
        f"AUROC {plain.value:.4f} without, {theirs.value:.4f} at temperature 0.33 and eps 0.1: {_interval(gain)}; "
        f"the best of the grid is {all_of_them[best]:.4f} at temperature {best.temperature:g} and eps {best.eps:g}"
    )
    return _by_sign(gain.sign, 1, why)


def _vim(figures: Figures) -> Judged:
    pair = [figures.metric("ensemble", AUROC, NOT, score=it) for it in (VIM, "softmax max")]
    if pair[0] is None or pair[1] is None:
        return _UNKNOWN
    found = mean_difference([(pair[0], pair[1])])
    why = f"AUROC on {NOT}, ViM over the ensemble minus softmax max: {_interval(found)}"
    return _by_sign(found.sign, 1, why)


def _all_above(kind: MetricKind, names: Sequence[str], least: float, **setting: str) -> Callable[[Figures], Judged]:
    def judge(figures: Figures) -> Judged:
        found = {name: figures.estimate(name, kind, **setting) for name in names}
        known = {name: it for name, it in found.items() if it is not None and it.low is not None}
        if not known:
            return _UNKNOWN
        lowest = min(known, key=lambda name: known[name].value)
        it = known[lowest]
        why = f"the lowest of {len(known)} is {lowest}: {it.value:.2%} ({_share(it.low)} to {_share(it.high)})"
        if it.low is not None and it.low >= least:
            return Judged("holds", why)
        below = [name for name, one in known.items() if one.high is not None and one.high < least]
        return Judged("does not hold" if below else "cannot be told", why)

    return judge


def _exposure_costs(figures: Figures) -> Judged:
    found = {
        name: it
        for name in ("kernel3", "kernel5", "kernel7")
        if (it := figures.difference(f"{name}-oe", name, ACCURACY)) is not None
    }
    if not found:
        return _UNKNOWN
    why = "; ".join(f"{name} {_points(it)}" for name, it in found.items())
    if all(it.sign >= 0 for it in found.values()):
        return Judged("does not hold", why)
    # 'About 3 %': more than one point in each.
    return Judged("holds" if all(it.high < -0.01 for it in found.values()) else "cannot be told", why)


def _five_no_better_calibrated(figures: Figures) -> Judged:
    found = [figures.estimate(it, ECE, calibrator="temperature") for it in ("ensemble", "ensemble5")]
    three, five = found
    if three is None or five is None or five.chance_band is None:
        return _UNKNOWN
    chance = five.chance_band[1]
    why = f"after temperature ECE {three.value:.2%} of three, {five.value:.2%} of five (by chance up to {chance:.2%})"
    if max(three.value, five.value) <= chance:
        return Judged("cannot be told", f"both are calibrated as far as can be seen: {why}")
    return Judged("holds" if five.value >= three.value else "does not hold", why)


def _eighty_one(figures: Figures) -> Judged:
    known = {name: it for name in ("cnn", *MISTAKES) if (it := figures.mistake(name)) is not None}
    if "cnn" not in known or len(known) < 2:
        return _UNKNOWN
    noise = {name: it.cells["L2AGNA", 0.3] for name, it in known.items()}
    nearest = min(known, key=lambda name: known[name].distance)
    low, high = noise[nearest].interval() or (0.0, 1.0)
    why = (
        f"over all 21 cells {nearest} is nearest to the study's CNN, {100 * known[nearest].distance:.1f} points off in "
        f"the mean; the CNN without a mistake is {100 * known['cnn'].distance:.1f} off. Under noise of l2 norm 0.3 it "
        f"is right on {noise[nearest].value:.0%} ({low:.0%} to {high:.0%})"
    )
    if (ece := figures.estimate(nearest, ECE, calibrator="none")) is not None:
        why += f", and its ECE is {ece.value:.0%}, where the study has {published()['calibration']['cnn']['ece']:.0%}"
    for name in ("cnn-dropout-left-on", "cnn-not-normalized"):
        if name in known and name != nearest:
            why += f"; {name} is {100 * known[name].distance:.1f} off"
    # Half as far off as without the mistake, and 81 % not ruled out.
    fits = low <= 0.81 <= high and known[nearest].distance < known["cnn"].distance / 2
    return Judged("holds" if fits else "does not hold", why)


_SINGLES = tuple(name for name in NETWORKS if name.startswith("kernel") and "oe" not in name)
_ENSEMBLES = tuple(name for name in NETWORKS if name.startswith("ensemble"))
_CHANGED = ("cnn", "kernel3", "kernel5", "kernel7", "kernel5-shallow")

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "attacks",
        "For all attacks the ensemble is more robust than the CNN.",
        _more_robust_everywhere("ensemble", "cnn"),
        takes_training=True,
    ),
    Claim(
        "attacks",
        "The ensemble is more robust by about 10 % (the mean of differences).",
        _mean_difference,
        takes_training=True,
    ),
    Claim("attacks", "Training against LinfPGD gives worse scores.", _training_made_worse("pgd", "LinPGDA")),
    Claim(
        "attacks",
        "Training against the fast gradient gives worse accuracy and worse robustness, also to that attack.",
        _training_made_worse("fast-gradient", "LinFGA"),
    ),
    Claim("attacks", "The ensemble of five is not more robust.", _no_more_robust("ensemble5", "ensemble")),
    Claim("attacks", "The ensemble with ReLU is not more robust.", _no_more_robust("ensemble-relu", "ensemble")),
    Claim(
        "mistakes",
        "Open in the study: a mistake explains that its CNN is right on 81 % under slight noise.",
        _eighty_one,
    ),
    Claim("calibration", "The larger model is worse calibrated.", _worse_calibrated),
    Claim("calibration", "The CNN has about 15 % ECE and is not calibrated.", _badly_calibrated("cnn")),
    Claim("calibration", "The ensemble has 28 % ECE, which is unsatisfactory.", _badly_calibrated("ensemble")),
    Claim("calibration", "After temperature the ensemble is much better calibrated.", _temperature_helps),
    Claim(
        "calibration",
        "Almost all predictions of the ensemble are in the bin from 90 to 100 %.",
        _mostly_sure,
        takes_training=True,
    ),
    Claim(
        "detection",
        "Exposure to Fashion-MNIST raises AUROC there.",
        _auroc_change("ensemble-oe", "ensemble", FASHION, 1),
    ),
    Claim(
        "detection",
        "Exposure to Fashion-MNIST lowers AUROC on notMNIST: it does not carry over.",
        _auroc_change("ensemble-oe", "ensemble", NOT, -1),
    ),
    Claim("detection", "ODIN raises AUROC, by about 1 % at temperature 0.33 and eps 0.1.", _odin_helps),
    Claim("detection", "Open in the study: ViM over the ensemble is better than softmax max.", _vim),
    Claim(
        "detection",
        "Open in the study: exposure to made outliers raises AUROC on notMNIST.",
        _auroc_change("ensemble-oe-synthetic", "ensemble", NOT, 1),
    ),
    Claim(
        "architecture",
        "All networks trained alone are above 98 %.",
        _all_above(ACCURACY, _SINGLES, 0.98),
        takes_training=True,
    ),
    Claim("architecture", "Exposure costs a network alone about 3 % accuracy.", _exposure_costs),
    Claim(
        "architecture",
        "All ensembles are above 99 %, also exposed ones.",
        _all_above(ACCURACY, _ENSEMBLES, 0.99),
        takes_training=True,
    ),
    Claim("architecture", "Five members give no smaller calibration error than three.", _five_no_better_calibrated),
    Claim(
        "architecture",
        "GELU gives no better accuracy under attack than ReLU.",
        _no_more_robust("ensemble", "ensemble-relu"),
    ),
    Claim(
        "augmentation",
        "Each network but the shallow kernel-3 one is above 99 % on noisy images.",
        _all_above(CHANGED_ACCURACY, _CHANGED, 0.99, change="noisy"),
        takes_training=True,
    ),
    Claim(
        "augmentation",
        "Each network but the shallow kernel-3 one is above 99 % on rotated images.",
        _all_above(CHANGED_ACCURACY, _CHANGED, 0.99, change="rotated"),
        takes_training=True,
    ),
)
