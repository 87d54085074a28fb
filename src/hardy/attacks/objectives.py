"""What attacks maximize: one value per example, higher where the attack is nearer to success.

Labels are int64 (N,); or (N, A), where each of A classes counts as right, as for a classifier that may abstain.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hardy.validation import Labels, Logits

Objective = Callable[[Logits, Labels], Tensor]
"""From logits (N, K) and labels (N,) to a value per example (N,), higher where the attack is nearer to success."""

# Keeps a ratio of logits finite where they are all the same.
_TINY = 1e-12
# From the lowest to the highest logit of ten classes, as trained by cross-entropy.
_USUAL_SPREAD = 16.0
_TINIEST = torch.finfo(torch.float32).tiny
# benchmarks/attack_costs.py aborting shows what it saves and costs.
ABORT_FACTOR = 10.0


def cannot_succeed_in_time(value: Tensor, before: Tensor, periods_left: float, abort_factor: float) -> Tensor:
    """Which searches to abort, bool (N,): their objective would not rise to 0, where an image is broken, in time.

    Args:
        value: float32 (N,), the highest objective so far.
        before: float32 (N,), the same one period ago.
        periods_left: how many periods the search still has.
        abort_factor: how many times as fast as in the last period it might rise.
    """
    return -value > abort_factor * periods_left * (value - before)


def log_odds_against(logits: Logits, labels: Labels) -> Tensor:
    """The log of the odds that a class other than the label is right, (N,), which rises as the cross-entropy does.

    The cross-entropy saturates: beyond a lead of some 17 the largest probability rounds to 1 in float32, and a
    classifier whose logits are merely large would look robust. The odds do not. Their gradient is that of logits
    brought to a usual spread, example by example, by a factor that counts as constant: tiny logits would weigh all
    wrong classes alike, and huge ones the best alone. So multiplying logits by anything changes no search.
    """
    centered = logits - logits.detach().amax(1, keepdim=True)
    spread = -centered.detach().amin(1, keepdim=True)
    usual = _log_odds_against(centered * (_USUAL_SPREAD / spread.clamp_min(_TINIEST)), labels)
    return _log_odds_against(logits, labels).detach() + usual - usual.detach()


def _log_odds_against(logits: Logits, labels: Labels) -> Tensor:
    return without_label(logits, labels).logsumexp(1) - of_label(logits, labels)


def margin(logits: Logits, labels: Labels) -> Tensor:
    """How far the best wrong logit is above the right one, (N,): positive where the image is classified wrongly."""
    return best_wrong(logits, labels) - of_label(logits, labels)


def targeted_margin(logits: Logits, labels: Labels, targets: Labels) -> Tensor:
    """How far the target's logit is above the right one, (N,)."""
    return logits.gather(1, targets[:, None]).squeeze(1) - of_label(logits, labels)


def dlr(logits: Logits, labels: Labels) -> Tensor:
    """Difference of logits ratio, (N,): the margin over the distance from the first to the third logit.

    It does not change when the logits are scaled or shifted (Croce and Hein, ICML 2020, arXiv:2003.01690). With two
    classes there is no third logit: then it is the margin, whose gradient has the same direction.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Logits, labels: Labels, targets: Labels) -> Tensor:
    """The targeted margin over the distance from the first logit to the mean of the third and fourth, (N,).

    With fewer than four classes it is the targeted margin.
    """
    if logits.shape[1] < 4:
        return targeted_margin(logits, labels, targets)
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, labels, targets) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + _TINY)


def best_wrong(logits: Logits, labels: Labels) -> Tensor:
    """The highest logit of a wrong class, (N,)."""
    return without_label(logits, labels).amax(1)


def likeliest_wrong_classes(logits: Logits, labels: Labels, count: int) -> Tensor:
    """int64 (N, min(count, K-1)): the wrong classes, the highest logit first."""
    wrong = logits.shape[1] - as_columns(labels).shape[1]
    return without_label(logits, labels).topk(min(count, wrong), dim=1).indices


def without_label(logits: Logits, labels: Labels) -> Logits:
    """The logits with that of the label at minus infinity."""
    return logits.scatter(1, as_columns(labels), -torch.inf)


def of_label(logits: Logits, labels: Labels) -> Tensor:
    """The logit of the label, (N,)."""
    return logits.gather(1, as_columns(labels)).amax(1)


def is_wrong(prediction: Tensor, labels: Labels) -> Tensor:
    """Which predicted classes, int64 (N,), are not the label, bool (N,)."""
    return (prediction[:, None] != as_columns(labels)).all(1)


def as_columns(labels: Labels) -> Tensor:
    """int64 (N, A)."""
    return labels[:, None] if labels.ndim == 1 else labels
