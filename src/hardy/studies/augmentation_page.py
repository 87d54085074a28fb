"""The page of the augmentation study, made from the results of its trainings alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hardy.evaluation.framework import Metric, MetricKind
from hardy.metrics import benjamini_hochberg
from hardy.report.markdown import bullets, table
from hardy.studies.augmentation_metrics import ATTACK_STEPS, CALIBRATION_ERROR, KINDS, NOISE, ROTATION, THREAT
from hardy.studies.framework import Options, Page
from hardy.studies.paired import Gain, Spread, gain, spreads

Group = tuple[str, int]
"""What was added, and how much of it in percent: the trainings that differ by their seed alone."""

_BASE: Group = ("none", 0)
_CONTROLS = ("duplicated", "steps")
_CLAIMED = 0.99
_MARKS = (
    "▲ better than both controls of the same share, ▼ worse than both: duplicated clean images, and as many gradient "
    "steps. Both differences point the same way and count as found: by the rule of Benjamini and Hochberg over all "
    "arms and figures together, of the marks at most one in twenty is chance on average. ± is the standard deviation "
    "over training seeds. The ECE has no marks: chance adds to it."
)
_FALSE_DISCOVERIES = 0.05


class Verdict(NamedTuple):
    """An arm beside its two controls, in one figure.

    Attributes:
        gains: per control how far the arm is above it, in the figure's own units.
        direction: 1 where it is better than both controls, -1 where worse than both, else 0.
        p_value: how often chance makes both differences as large: the larger p-value of the two; 1 where they disagree.
        survives: ``direction`` where that counts as found among all verdicts of the page, else 0.
    """

    gains: Mapping[str, Gain]
    direction: int
    p_value: float
    survives: int = 0


class _Table(NamedTuple):
    """By the metric's name and the group: the figures, and what they say beside the controls."""

    groups: Sequence[Group]
    means: Mapping[str, Mapping[Group, Spread]]
    verdicts: Mapping[str, Mapping[Group, Verdict]]
    controls: Mapping[tuple[str, str], Verdict]  # by control and figure: the largest share beside nothing added


def make_page(options: Options, arms: Sequence[tuple[str, int, str]], metrics: Mapping[str, Sequence[Metric]]) -> Page:
    """All figures with their paired differences, as JSON values and as Markdown.

    Args:
        options: of the study.
        arms: added, share and key of each training, seed by seed.
        metrics: of each training, by its key, one for each of ``KINDS``.
    """
    groups: dict[Group, list[str]] = {}
    for added, share, key in arms:
        groups.setdefault((added, share), []).append(key)
    means = {
        kind.name: spreads({group: [metrics[key][place] for key in keys] for group, keys in groups.items()})
        for place, kind in enumerate(KINDS)
    }
    augmented = [group for group in groups if group != _BASE and group[0] not in _CONTROLS]
    verdicts = {
        (kind.name, group): judge(kind, means[kind.name], group, [(control, group[1]) for control in _CONTROLS])
        for kind in KINDS
        for group in augmented
    }
    largest = max(share for _, share in groups)
    verdicts |= {
        (kind.name, (control, largest)): judge(kind, means[kind.name], (control, largest), [_BASE])
        for kind in KINDS
        for control in _CONTROLS
    }
    # Chance adds to a calibration error, and more to the error of a better one: no verdicts on it.
    judged = [key for key in verdicts if key[0] != CALIBRATION_ERROR.name]
    discovered = benjamini_hochberg([verdicts[key].p_value for key in judged], _FALSE_DISCOVERIES)
    for key, it in zip(judged, discovered, strict=True):
        verdicts[key] = verdicts[key]._replace(survives=verdicts[key].direction * it)
    found = _Table(
        list(groups),
        means,
        {kind.name: {group: verdicts[kind.name, group] for group in augmented} for kind in KINDS},
        {(control, kind.name): verdicts[kind.name, (control, largest)] for control in _CONTROLS for kind in KINDS},
    )
    sentences = _sentences(found)
    return Page(_as_json(found, sentences), _markdown(options, found, sentences))


def judge(kind: MetricKind, means: Mapping[Group, Spread], group: Group, controls: Sequence[Group]) -> Verdict:
    """Compare an arm with its controls; what it is worth is decided for all verdicts together."""
    gains = {control[0]: gain(means[group], means[control]) for control in controls}
    sign = 1 if kind.higher_is_better else -1
    directions = {sign * ((it.value > 0) - (it.value < 0)) for it in gains.values()}
    if len(directions) > 1:
        return Verdict(gains, 0, 1.0)
    return Verdict(gains, directions.pop(), max(it.p_value for it in gains.values()))


def _sentences(found: _Table) -> list[str]:
    sentences = []
    for kind in (it for it in KINDS if it is not CALIBRATION_ERROR):
        verdicts = found.verdicts[kind.name].items()
        better = _listed(group for group, it in verdicts if it.survives > 0)
        worse = _listed(group for group, it in verdicts if it.survives < 0)
        sentences.append(
            f"{kind.title}: "
            + (f"the gain over both controls survives for {better}" if better else "no gain survives both controls")
            + (f"; worse than both are {worse}" if worse else "")
            + "."
        )
    largest = max(share for _, share in found.groups)
    for control, words in (("duplicated", "duplicated clean images"), ("steps", "additional gradient steps")):
        beside = {kind: found.controls[control, kind.name] for kind in KINDS}
        apart = [f"{kind.title} {_signed(kind, it.gains[_BASE[0]])}" for kind, it in beside.items() if it.survives]
        sentences.append(
            f"Against nothing added, {largest} % of {words} change "
            + (", ".join(apart) if apart else "no figure by more than chance")
            + "."
        )
    for name in ("rotated", "noisy"):
        reached = [group for group, it in found.means[name].items() if it.value >= _CLAIMED]
        sentences.append(
            f"At least 99 % on {name} images: {len(reached)} of {len(found.groups)} arms"
            + (f" ({_listed(reached)})" if reached and len(reached) < len(found.groups) else "")
            + "."
        )
    return sentences


def _listed(groups: Iterable[Group]) -> str:
    """``rotate (10, 20 %) and mixup (100 %)``."""
    shares: dict[str, list[int]] = {}
    for added, share in groups:
        shares.setdefault(added, []).append(share)
    parts = [f"{added} ({', '.join(map(str, each))} %)" for added, each in shares.items()]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def _value(kind: MetricKind, value: float) -> str:
    return f"{value:.2%}" if kind.unit == "share" else f"{value:.4f}"


def _signed(kind: MetricKind, it: Gain) -> str:
    scale, places = (100.0, 2) if kind.unit == "share" else (1.0, 4)
    value, low, high = (f"{scale * number:+.{places}f}" for number in it[:3])
    return f"{value} [{low}, {high}]"


def _markdown(options: Options, found: _Table, sentences: Sequence[str]) -> str:
    def entry(kind: MetricKind, group: Group) -> str:
        verdict = found.verdicts[kind.name].get(group)
        mark = {1: " ▲", -1: " ▼"}.get(verdict.survives, "") if verdict else ""
        spread = found.means[kind.name][group]
        seeds = "" if spread.deviation is None else f" ±{_value(kind, spread.deviation)}"
        return _value(kind, spread.value) + seeds + mark

    header = ("added", "share", *(kind.title for kind in KINDS))
    rows = [(group[0], f"{group[1]} %", *(entry(kind, group) for kind in KINDS)) for group in found.groups]
    parts = [
        "# Augmentation study",
        _what_was_measured(options),
        _MARKS,
        table(header, rows, range(1, len(header))),
        bullets(sentences),
        "## Differences to the controls",
        "In percentage points, OOD AUROC as it is; 95 % intervals over training seeds and examples.",
    ]
    header = ("added", "share", "minus duplicated images", "minus as many steps")
    for kind in KINDS:
        rows = [
            (added, f"{share} %", *(_signed(kind, it.gains[control]) for control in _CONTROLS))
            for (added, share), it in found.verdicts[kind.name].items()
        ]
        parts += [f"### {kind.title}", table(header, rows, range(1, 4))]
    return "\n\n".join(parts) + "\n"


def _what_was_measured(options: Options) -> str:
    limited = f", at most {options.limit} images" if options.limit else ""
    seeds = f"seeds {options.seed} to {options.seed + options.seeds - 1}"
    return (
        f"Recipe {options.model}, budget {options.budget}, {seeds}{limited}. Means "
        f"over the seeds. Rotated: up to {ROTATION['degrees']:g} degrees. Noisy: Gaussian, standard deviation "
        f"{NOISE['deviation']:g}. Attacked: PGD of {ATTACK_STEPS} steps, {THREAT.norm} {THREAT.eps:g}. MNIST-C: mean "
        "over the 15 corruptions at their default severity. OOD AUROC: max softmax, mean over the OOD datasets at "
        "hand."
    )


def _as_json(found: _Table, sentences: Sequence[str]) -> dict[str, Any]:
    def figure(kind: MetricKind, group: Group) -> dict[str, Any]:
        spread = found.means[kind.name][group]
        values: dict[str, Any] = {
            "value": spread.value,
            "deviation_over_seeds": spread.deviation,
            "interval_over_examples": spread.interval,
        }
        if verdict := found.verdicts[kind.name].get(group):
            gains = {control: it._asdict() for control, it in verdict.gains.items()}
            values |= {"survives": verdict.survives, "p_value": verdict.p_value, "gains": gains}
        return values

    arms = [
        {"added": added, "share": share, "figures": {kind.name: figure(kind, (added, share)) for kind in KINDS}}
        for added, share in found.groups
    ]
    return {"arms": arms, "sentences": list(sentences)}
