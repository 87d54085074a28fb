"""How figures read: plain names, settings in words, and as many digits as the interval supports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from hardy.evaluation.scorecard import Estimate

_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}
_ACRONYMS = {"apgd", "ce", "cw", "dlr", "fgsm", "odin", "pgd"}
_ATTACK_FIRST = {"attack": 0, "norm": 1, "eps": 2}
_SPEAKS_FOR_ITSELF = ("attack", "score", "corruption", "calibrator")

_MOST_DECIMALS = 6


class Figure(NamedTuple):
    """An estimate in words; ``mark`` stands beside the value of one that may mislead."""

    property: str
    name: str
    question: str
    dataset: str
    setting: str
    value: str
    interval: str
    why: str
    n: str
    direction: str
    share: bool
    mark: str
    estimate: Estimate


def figure(estimate: Estimate) -> Figure:
    """How an estimate reads."""
    share = estimate.unit == "share"
    value, *ends = numbers(estimate.value, *(estimate.interval() or estimate.chance_band or ()), share=share)
    unit = " %" if share else ""
    name = sentence(estimate.title)
    return Figure(
        property=sentence(estimate.property),
        name=name,
        question=estimate.question or name,
        dataset=estimate.dataset,
        setting=setting_words(estimate.setting),
        value=value + unit,
        interval=("" if estimate.interval() else "by chance " if ends else "none")
        + " to ".join(ends)
        + unit * bool(ends),
        why=estimate.no_interval,
        n=f"{estimate.n:,}",
        direction=direction(estimate.higher_is_better),
        share=share,
        mark="⚠ suspect" if estimate.warnings else "",
        estimate=estimate,
    )


def percent(estimate: Estimate) -> str:
    """The value as a percentage, whatever its unit."""
    return numbers(estimate.value, *(estimate.interval() or estimate.chance_band or ()), share=True)[0] + " %"


def numbers(value: float, *ends: float, share: bool) -> tuple[str, ...]:
    """A value and the two ends of its interval, if it has one, as text; shares in percent, without the sign.

    They have as many digits as tell the second digit of the interval's width.
    """
    scale = 100 if share else 1
    width = scale * (ends[1] - ends[0]) if ends else 0.0
    without_interval = 2 if share else 4
    decimals = max(0, 1 - math.floor(math.log10(width))) if width > 0 else without_interval
    numbers = [scale * number for number in (value, *ends)]
    if decimals > _MOST_DECIMALS:
        texts = [f"{number:.3g}" for number in numbers]
    else:
        # Adding 0.0 turns a negative zero into zero.
        texts = [f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers]
    return tuple(text.replace("-", "−") for text in texts)


def direction(higher_is_better: bool | None) -> str:
    """Which way is better, in words; empty where neither is."""
    if higher_is_better is None:
        return ""
    return "↑ higher" if higher_is_better else "↓ lower"


def sentence(name: str) -> str:
    """A name in code as words: ``out_of_distribution`` is "Out of distribution"."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def setting_words(setting: Mapping[str, object]) -> str:
    """An estimate's setting in words: "PGD, ℓ∞, ε = 0.3"."""
    ordered = sorted(setting.items(), key=lambda item: _ATTACK_FIRST.get(item[0], len(_ATTACK_FIRST)))
    return ", ".join(_pair_words(key, value) for key, value in ordered)


def _pair_words(key: str, value: object) -> str:
    name = key.replace("_", " ")
    if key == "eps":
        return f"ε = {radius_words(value)}"
    match value:
        case bool():
            return name if value else f"not {name}"
        case float():
            value = f"{value:g}"
    if key == "norm":
        return _NORMS.get(str(value), str(value))
    if key in _SPEAKS_FOR_ITSELF:
        parts = re.split("[-_]", str(value))
        return "-".join(parts).upper() if parts[0] in _ACRONYMS else str(value).replace("_", " ")
    counts = isinstance(value, int) and name.endswith("s") and not name.endswith("ss")
    return f"{value} {name}" if counts else f"{name} {value}"


def radius_words(eps: object) -> str:
    """A radius as it was meant: 0.3 and 1.5, but 8/255."""
    if not isinstance(eps, float):
        return str(eps)
    levels, short = 255 * eps, f"{eps:g}"
    fraction = len(short) > 5 and abs(levels - round(levels)) < 1e-6 * levels
    return f"{round(levels)}/255" if fraction else short


def flat(content: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs, in order."""
    pairs: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return pairs
