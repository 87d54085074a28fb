"""The page of the augmentation study, made from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from hardy.report.markdown import bullets, table
from hardy.studies.conditions import ATTACK_STEPS, FIGURES, NOISE, ROTATION, THREAT, Figure
from hardy.studies.framework import Options, Page
from hardy.studies.paired import Gain, Spread, gain, spreads

Group = tuple[str, int]
"""What was added, and how much of it in percent: the trainings that differ by their seed alone."""

_BASE: Group = ("none", 0)
_CONTROLS = ("duplicated", "steps")
_CLAIMED = 0.99
_MARKS = (
    "▲ better than both controls of the same share, ▼ worse than both: duplicated clean images, and as many gradient "
    "steps. The 95 % intervals of both differences, paired over seeds and examples, leave out 0."
)


class Verdict(NamedTuple):
    """An arm beside its two controls, in one figure.

    Attributes:
        gains: per control how far the arm is above it, in the figure's own units.
        survives: 1 where it is better than both controls, -1 where worse than both, else 0; intervals apart from 0.
    """

    gains: Mapping[str, Gain]
    survives: int


def make_page(options: Options, arms: Sequence[tuple[str, int, str]], records: Mapping[str, pl.DataFrame]) -> Page:
    """All figures with their paired differences, as JSON values and as Markdown.

    Args:
        options: of the study.
        arms: added, share and key of each training, seed by seed.
        records: of each training, by its key.
    """
    groups: dict[Group, list[str]] = {}
    for added, share, key in arms:
        groups.setdefault((added, share), []).append(key)
    means = {figure.name: _spreads(figure, groups, records) for figure in FIGURES}
    verdicts = {
        figure.name: {group: judge(figure, means[figure.name], group) for group in groups if _is_augmented(group)}
        for figure in FIGURES
    }
    sentences = _sentences(groups, means, verdicts)
    return Page(_as_json(groups, means, verdicts, sentences), _markdown(options, groups, means, verdicts, sentences))


def _spreads(
    figure: Figure, groups: Mapping[Group, Sequence[str]], records: Mapping[str, pl.DataFrame]
) -> dict[Group, Spread]:
    named = {f"{added}-{share}": keys for (added, share), keys in groups.items()}
    strata = figure.strata(records[next(iter(named.values()))[0]])
    found = spreads({name: [figure.compute(records[key]) for key in keys] for name, keys in named.items()}, strata)
    return dict(zip(groups, found.values(), strict=True))


def _is_augmented(group: Group) -> bool:
    return group != _BASE and group[0] not in _CONTROLS


def judge(figure: Figure, means: Mapping[Group, Spread], group: Group) -> Verdict:
    """Hold an arm against the controls of its share."""
    gains = {control: gain(means[group], means[control, group[1]]) for control in _CONTROLS}
    sign = 1 if figure.higher_is_better else -1
    directions = {sign * it.direction for it in gains.values()}
    return Verdict(gains, directions.pop() if len(directions) == 1 else 0)


def _sentences(
    groups: Mapping[Group, Sequence[str]],
    means: Mapping[str, Mapping[Group, Spread]],
    verdicts: Mapping[str, Mapping[Group, Verdict]],
) -> list[str]:
    found = []
    for figure in FIGURES:
        better = _listed(group for group, it in verdicts[figure.name].items() if it.survives > 0)
        worse = _listed(group for group, it in verdicts[figure.name].items() if it.survives < 0)
        found.append(
            f"{figure.title}: "
            + (f"the gain over both controls survives for {better}" if better else "no gain survives both controls")
            + (f"; worse than both are {worse}" if worse else "")
            + "."
        )
    largest = max(share for _, share in groups)
    for control, words in (("duplicated", "duplicated clean images"), ("steps", "additional gradient steps")):
        apart = [
            f"{figure.title} {_signed(figure, it)}"
            for figure in FIGURES
            if (it := gain(means[figure.name][control, largest], means[figure.name][_BASE])).direction
        ]
        found.append(
            f"Against nothing added, {largest} % of {words} change "
            + (", ".join(apart) if apart else "no figure by more than its interval")
            + "."
        )
    for name in ("rotated", "noisy"):
        reached = [group for group, it in means[name].items() if it.value >= _CLAIMED]
        found.append(
            f"At least 99 % on {name} images: {len(reached)} of {len(groups)} arms"
            + (f" ({_listed(reached)})" if reached and len(reached) < len(groups) else "")
            + "."
        )
    return found


def _listed(groups: Any) -> str:
    """``rotate (10, 20 %) and mixup (100 %)``."""
    shares: dict[str, list[int]] = {}
    for added, share in groups:
        shares.setdefault(added, []).append(share)
    parts = [f"{added} ({', '.join(map(str, each))} %)" for added, each in shares.items()]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def _percent(figure: Figure, value: float) -> str:
    return f"{value:.4f}" if figure.name == "ood_auroc" else f"{value:.2%}"


def _signed(figure: Figure, it: Gain) -> str:
    scale, places = (1.0, 4) if figure.name == "ood_auroc" else (100.0, 2)
    value, low, high = (f"{scale * number:+.{places}f}" for number in it)
    return f"{value} [{low}, {high}]"


def _mark(verdict: Verdict | None) -> str:
    return {1: " ▲", -1: " ▼"}.get(verdict.survives, "") if verdict else ""


def _markdown(
    options: Options,
    groups: Mapping[Group, Sequence[str]],
    means: Mapping[str, Mapping[Group, Spread]],
    verdicts: Mapping[str, Mapping[Group, Verdict]],
    sentences: Sequence[str],
) -> str:
    header = ("added", "share", *(figure.title for figure in FIGURES))
    rows = [
        (
            added,
            f"{share} %",
            *(
                _percent(figure, means[figure.name][added, share].value)
                + _mark(verdicts[figure.name].get((added, share)))
                for figure in FIGURES
            ),
        )
        for added, share in groups
    ]
    numeric = range(1, len(header))
    parts = [
        "# Augmentation study",
        _what_was_measured(options),
        _MARKS,
        table(header, rows, numeric),
        bullets(sentences),
        "## Differences to the controls",
        "In percentage points, OOD AUROC as it is; 95 % intervals.",
    ]
    for figure in FIGURES:
        rows = [
            (
                added,
                f"{share} %",
                *(_signed(figure, verdicts[figure.name][added, share].gains[control]) for control in _CONTROLS),
            )
            for added, share in verdicts[figure.name]
        ]
        header = ("added", "share", "minus duplicated images", "minus as many steps")
        parts += [f"### {figure.title}", table(header, rows, range(1, 4))]
    return "\n\n".join(parts) + "\n"


def _what_was_measured(options: Options) -> str:
    limited = f", at most {options.limit} images" if options.limit else ""
    seeds = f"seeds {options.seed} to {options.seed + options.seeds - 1}"
    return (
        f"Recipe {options.model}, budget {options.budget}, {seeds}{limited}. Means "
        f"over the seeds. Rotated: up to {ROTATION['degrees']:g} degrees. Noisy: Gaussian, standard deviation "
        f"{NOISE['deviation']:g}. Attacked: PGD of {ATTACK_STEPS} steps, {THREAT.norm} {THREAT.eps:g}. MNIST-C: mean "
        "over the 15 corruptions at their default severity. OOD AUROC: max softmax, mean over the foreign datasets at "
        "hand."
    )


def _as_json(
    groups: Mapping[Group, Sequence[str]],
    means: Mapping[str, Mapping[Group, Spread]],
    verdicts: Mapping[str, Mapping[Group, Verdict]],
    sentences: Sequence[str],
) -> dict[str, Any]:
    def arm(group: Group) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for figure in FIGURES:
            figures[figure.name] = {"value": means[figure.name][group].value}
            if verdict := verdicts[figure.name].get(group):
                figures[figure.name] |= {
                    "survives": verdict.survives,
                    "gains": {control: it._asdict() for control, it in verdict.gains.items()},
                }
        return {"added": group[0], "share": group[1], "figures": figures}

    return {"arms": [arm(group) for group in groups], "sentences": list(sentences)}
