"""A bundle as a classifier with one more class, which is to abstain: what attacks on the whole system search and judge.

The logit of a class is by how much it passes the rules that it passes least, and that of abstaining is 0. So all
attacks on classifiers work on systems, with the labels that count as right: the true class and abstaining, say.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from hardy.attacks.around import StandIn
from hardy.calibration import CALIBRATORS
from hardy.deployment.abstention import NO_FOREGROUND, PREDICTION_SET, RULES, SEVERAL_OBJECTS
from hardy.deployment.bundle import Bundle, set_streams
from hardy.deployment.preprocessing import BOX, MIDDLE, SIDE, as_seen, as_they_are, center_of_mass, extent, in_form
from hardy.models import Ensemble
from hardy.ood import Features, extract
from hardy.ood.features import record
from hardy.validation import Images, Logits

# What the median validation image has in hand until it is refused as unfamiliar, in nats of the classifier's odds.
_USUAL_LEAD = 5.0
# What breaks a rule of which nobody can say by how much.
_BROKEN = 1.0
# A search goes so far beyond a threshold, which rounding then does not undo.
RESERVE = 0.02
# An answer of the bundle is no less than this, and where it abstains no class is more than minus this.
_CLEAR = 1e-6
_LEAST = 1e-300
_NEVER = -60.0
# In pixels: how far from the middle the center of mass of an image in MNIST's form may lie; and nats per pixel.
_OFF_CENTER, _PER_PIXEL = 0.5, 8.0


class System(nn.Module):
    """A bundle as it answers, without gradients: images, float32 (N, C, H, W), to logits, float32 (N, K+1).

    The images are of the network's own size, handed in as files: preprocessing is part of the system.
    """

    def __init__(self, bundle: Bundle, batch_size: int = 500) -> None:
        super().__init__()
        self.bundle = bundle
        self.batch_size = batch_size

    def __deepcopy__(self, _: Any) -> System:
        """Nothing in it changes, and a copy could not be faster."""
        return self

    @property
    def abstains(self) -> int:
        """The number of the class that stands for abstaining."""
        return len(self.bundle.manifest.classes)

    @torch.no_grad()
    def forward(self, images: Images) -> Logits:
        if isinstance(images, fx.Proxy):
            raise TypeError("a system cannot be traced")
        bundle, form = self.bundle, self.bundle.manifest.preprocessing
        shown = as_seen(images.detach().cpu() if form.form == "mnist" else images, form.form, form.polarity)
        features = extract(bundle.classifier, shown.images.to(images.device), self.batch_size)
        decisions = bundle.decide(shown, features)
        probabilities = bundle.calibrator.probabilities(features.logits)
        rules = [NO_FOREGROUND, SEVERAL_OBJECTS, *([] if _has_thresholds(bundle) else [PREDICTION_SET])]
        blocked = decisions.fired[:, [list(RULES).index(rule) for rule in rules]].any(axis=1)
        logits = joint_logits(
            bundle, torch.from_numpy(probabilities), torch.from_numpy(decisions.ood_score), torch.from_numpy(blocked)
        )
        answered = torch.from_numpy(decisions.answered)
        best = torch.from_numpy(decisions.best)[:, None]
        lowered = logits[:, :-1].clamp_max(-_CLEAR)
        raised = lowered.scatter(1, best, logits.gather(1, best).clamp_min(_CLEAR))
        logits[:, :-1] = torch.where(answered[:, None], raised, lowered)
        return logits.float().to(images.device)


class Surrogate(nn.Module):
    """The same logits with their gradients, as far as the parts of the bundle have some.

    Args:
        bundle: the system.
        like: features of some images.
        weight: as of :func:`joint_logits`.
        reserve: added to the lead of every class: below 0 for a search for answers, above 0 for one that avoids them.
        kept: how much an image may change in linf while it keeps MNIST's form; preprocessing then leaves it as it is.
            None where images are preprocessed.
        stand_ins: passes gradients through what has none in the classifier.
    """

    def __init__(
        self,
        bundle: Bundle,
        like: Features,
        *,
        reserve: float,
        weight: float = 1.0,
        kept: float | None = None,
        stand_ins: bool = False,
    ) -> None:
        super().__init__()
        self.bundle, self.like, self.reserve, self.weight, self.kept = bundle, like, reserve, weight, kept
        classifier = bundle.classifier
        if stand_ins:
            members = classifier.members if isinstance(classifier, Ensemble) else [classifier]
            wrapped = [StandIn(it) for it in members]  # type: ignore[arg-type]
            classifier = Ensemble(wrapped) if isinstance(classifier, Ensemble) else wrapped[0]
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        bundle, form, device = self.bundle, self.bundle.manifest.preprocessing, images.device
        lead = None
        if images.requires_grad:
            images = images.view_as(images)
            # One example where a slope is not defined must not end the search for it.
            images.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))
        if form.form != "mnist":
            shown = as_they_are(images)
        elif self.kept is None:
            shown = as_seen(images.cpu(), form.form, form.polarity)
        else:
            shown = in_form(in_box(images.cpu(), self.kept))
            rows, columns = center_of_mass(shown.images[:, 0])
            off = torch.maximum((rows - MIDDLE).abs(), (columns - MIDDLE).abs())
            lead = _PER_PIXEL * (_OFF_CENTER - off.double()).to(device)
            # Where it is met it says nothing about how surely the bundle answers.
            lead = torch.where(lead > 0.0, torch.inf, lead)
        features = record(self.classifier, shown.images.to(device), self.like)
        blocked = (~shown.foreground | shown.several).cpu()
        if not _has_thresholds(bundle):
            blocked = blocked | self._without_one_class(features)
        logits = joint_logits(
            bundle,
            probabilities(bundle, features),
            ood_score(bundle, features),
            blocked.to(device),
            lead,
            weight=self.weight,
        )
        return torch.cat([logits[:, :-1] + self.reserve, logits[:, -1:]], dim=1).float()

    def _without_one_class(self, features: Features) -> Tensor:
        found = probabilities(self.bundle, features).detach().cpu().numpy()
        return torch.from_numpy(self.bundle.conformal.sets(found, set_streams(len(found))).sum(axis=1) != 1)


def joint_logits(
    bundle: Bundle, p: Tensor, score: Tensor, blocked: Tensor, lead: Tensor | None = None, *, weight: float = 1.0
) -> Tensor:
    """float64 (N, K+1): by how much each class passes all rules, in nats; and 0.

    Where a class passes all, that is the least of what it has in hand; else the sum of what it lacks, so that a
    gradient is one towards everything that is lacking.

    Args:
        bundle: its thresholds.
        p: float64 (N, K), calibrated probabilities.
        score: float64 (N,), the out-of-distribution score.
        blocked: bool (N,), what another rule refuses.
        lead: (N,), what is in hand besides.
        weight: how much what the score lacks counts beside what the class lacks.
    """
    odds = log_odds(p)
    rules = bundle.thresholds
    of_class = odds - _logit(rules.min_confidence)
    others = odds.scatter(1, odds.argmax(1, keepdim=True), -torch.inf).amax(1, keepdim=True)
    is_top = odds == odds.amax(1, keepdim=True)
    of_class = torch.minimum(of_class, odds - torch.where(is_top, others, odds.amax(1, keepdim=True)))
    if _has_thresholds(bundle):
        thresholds = bundle.conformal.arrays["threshold"]
        outside = odds - torch.tensor([_logit(1.0 - float(it)) for it in thresholds]).to(odds)
        highest = outside.topk(2, dim=1)
        is_highest = torch.zeros_like(odds, dtype=torch.bool).scatter(1, highest.indices[:, :1], value=True)
        of_others = torch.where(is_highest, highest.values[:, 1:], highest.values[:, :1])
        of_class = torch.minimum(of_class, torch.minimum(outside, -of_others))
    unit = max(rules.max_ood_score - float(np.median(bundle.reference)), 1e-9) / _USUAL_LEAD
    shared = [(rules.max_ood_score - score) / unit, *([] if lead is None else [lead])]
    lacking = of_class.clamp_max(0.0) - _BROKEN * blocked.to(of_class)[:, None]
    lacking = lacking + weight * torch.stack(shared).clamp_max(0.0).sum(0)[:, None]
    least = torch.minimum(of_class, torch.stack(shared).amin(0)[:, None])
    joint = torch.where((least > 0) & ~blocked[:, None], least, lacking)
    return torch.cat([joint, torch.zeros_like(joint[:, :1])], dim=1)


def log_odds(p: Tensor) -> Tensor:
    """float64 (N, K): of each class against all others, without what rounding takes from a probability near 1."""
    log_p = p.clamp_min(_LEAST).log()
    top = log_p.detach().argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    # Of a class that is not the likeliest the probability is at most a half.
    rest = torch.log1p(-p.clamp_max(0.75))
    return log_p - rest.scatter(1, top, others)


def _logit(p: float) -> float:
    if p <= 0.0:
        return _NEVER
    return math.log(p / (1.0 - p)) if p < 1.0 else -_NEVER


def _has_thresholds(bundle: Bundle) -> bool:
    """Whether a class is in the prediction set by its own probability alone."""
    return bundle.conformal.kind in ("lac", "class_conditional")


def probabilities(bundle: Bundle, features: Features) -> Tensor:
    """float64 (N, K), calibrated; where the calibrator has no gradient, its values with that of the softmax."""
    logits: Any = features.logits
    calibrator = bundle.calibrator
    try:
        return CALIBRATORS[calibrator.name].apply(calibrator.arrays, logits).tensor  # type: ignore[attr-defined]
    except TypeError:
        values = torch.from_numpy(calibrator.probabilities(logits.tensor.detach().cpu().numpy()))
        soft = logits.tensor.softmax(1)
        return values.to(soft) + soft - soft.detach()


def ood_score(bundle: Bundle, features: Features) -> Tensor:
    """float64 (N,), with its gradient; where the detector has none, without."""
    try:
        return bundle.detector.scores(features).tensor  # type: ignore[attr-defined]
    except TypeError:
        return torch.from_numpy(bundle.detector.scores(_plain(features))).to(features.logits.tensor.device)  # type: ignore[attr-defined]


def has_gradient(bundle: Bundle, images: Images, like: Features) -> bool:
    """Whether the detector's score changes with the images by a gradient."""
    with torch.enable_grad():
        leaf = images.clone().requires_grad_(True)
        score = ood_score(bundle, record(bundle.classifier, leaf, like))
        if not score.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True, materialize_grads=True)
    return bool(gradient.isfinite().all() and gradient.abs().sum() > 0)


def _plain(features: Features) -> Features:
    """Recorded features as arrays."""

    def plain(values: Any) -> NDArray:
        return values.tensor.detach().float().cpu().numpy()

    members = tuple(
        replace(
            it,
            logits=plain(it.logits),
            layers=tuple(map(plain, it.layers)),
            penultimate=None if it.penultimate is None else plain(it.penultimate),
        )
        for it in features.members
    )
    return replace(features, logits=plain(features.logits), members=members, gradients=plain(features.gradients))


def in_box(images: Images, kept: float) -> Images:
    """Images black outside a box of MNIST's size around what is brighter than a change of ``kept`` makes black pixels.

    Other images keep MNIST's form only by chance: one gray pixel near the border, and they are cropped and centered.
    """
    bright = images.detach()[:, 0] > min(kept + 0.05, 0.5)
    inside = []
    for axis in (2, 1):
        first, end = extent(bright.any(axis))
        start = (first - (BOX - (end - first)).div(2, rounding_mode="floor")).clamp(0, SIDE - BOX)[:, None]
        places = torch.arange(SIDE)
        inside.append((places >= start) & (places < start + BOX))
    return images * (inside[0][:, None, :, None] & inside[1][:, None, None, :])
