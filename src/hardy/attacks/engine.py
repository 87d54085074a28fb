"""The engine that runs attacks. It, never the attack, clips, checks the ball, predicts again in float32 and decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from hardy.attacks.attack import Attack
from hardy.attacks.search_copy import Count, SearchCopy, fastest_copy
from hardy.contracts import Classifier, Images, Labels, check_images, left_untouched
from hardy.devices import native_bf16
from hardy.errors import ContractError, UsageError
from hardy.randomness import Randomness
from hardy.threats import ThreatModel

Precision = Literal["auto", "bf16", "float32"]

# A search in bfloat16 costs half of one in float32, but what it leaves standing is searched again: it pays where at
# least this share of the first images falls.
_PAYS_FROM = 0.5
_PILOT = 64


@dataclass
class Outcome:
    """What attacks found, one entry an example.

    Attributes:
        norm: float64 (N,), the smallest norm of a perturbation that fools the classifier: 0 where the clean image is
            classified wrongly already, infinity where none was found within the largest radius.
        images: float32 (N, C, H, W), the image with that norm; the clean image where none was found.
        prediction: int64 (N,), the class of ``images``.
        clean_prediction: int64 (N,), the class of the clean image.
        attack: int64 (N,), which of the attacks found it; -1 where none did.
        count: what the search and its confirmation cost.
    """

    norm: Tensor
    images: Images
    prediction: Tensor
    clean_prediction: Tensor
    attack: Tensor
    count: Count = field(default_factory=Count)


def run_attack(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    attack: Attack,
    threats: Sequence[ThreatModel],
    *,
    rng: Randomness,
    batch_size: int = 500,
    precision: Precision = "auto",
) -> Outcome:
    """:func:`run_attacks` with one attack."""
    return run_attacks(
        classifier, images, labels, [attack], threats, rng=rng, batch_size=batch_size, precision=precision
    )


def run_attacks(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    attacks: Sequence[Attack],
    threats: Sequence[ThreatModel],
    *,
    rng: Randomness,
    batch_size: int = 500,
    precision: Precision = "auto",
) -> Outcome:
    """Attack each image within each of the radii, from the smallest up, with one attack after another.

    What has fallen is not attacked again: what falls at one radius has fallen at all larger ones, and the next attack
    sees what the last has left standing. So the outcome is the worst case over the attacks, example by example.

    Args:
        classifier: left as it was: mode, flags, weights.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        attacks: which, with their settings, in order.
        threats: one norm, any number of radii.
        rng: the streams of these examples.
        batch_size: how many images are attacked at once; bounds the memory.
        precision: of the search; every success is confirmed in float32 in any case. ``auto`` searches in bfloat16 first
            where the device computes it natively and many of the first images fall, then again in float32.

    Raises:
        ContractError: images outside [0, 1], or no gradient for an attack that needs it.
        UsageError: no attack, no radius, several norms, or a norm that an attack does not work in.
    """
    check_images(images)
    ascending = _checked(attacks, threats)
    with left_untouched(classifier), torch.no_grad():
        count = Count()
        predict = _predictor(classifier, batch_size, count)
        clean = predict(images)
        outcome = Outcome(
            norm=torch.where(clean == labels, torch.inf, 0.0).double(),
            images=images.clone(),
            prediction=clean.clone(),
            clean_prediction=clean,
            attack=torch.full_like(labels, -1),
            count=count,
        )
        if not len(images):
            return outcome
        if any(attack.gradients for attack in attacks):
            _check_gradient(classifier, images[:1])
        campaign = _Campaign(predict, outcome, images, labels, rng, batch_size)
        search = fastest_copy(classifier, images[:_PILOT], torch.float32, count) or SearchCopy(
            classifier, torch.float32, torch.contiguous_format, count
        )
        reduced = None
        if precision == "bf16" or (precision == "auto" and native_bf16(images.device)):
            reduced = fastest_copy(classifier, images[:_PILOT], torch.bfloat16, count)
        for threat in ascending:
            for number, attack in enumerate(attacks):
                if attack.search == "fixed":
                    if reduced is not None:
                        campaign.run(attack, number, threat, threat.eps, reduced, pilot=precision == "auto")
                    campaign.run(attack, number, threat, threat.eps, search)
                elif threat is ascending[0]:
                    # The smallest perturbation is looked for once and held against every radius.
                    campaign.run(attack, number, ascending[-1], threat.eps, search)
    return outcome


@dataclass
class _Campaign:
    """One call of :func:`run_attacks`: who is asked, who is attacked, and what has been found so far."""

    predict: Callable[[Images], Tensor]
    outcome: Outcome
    images: Images
    labels: Labels
    rng: Randomness
    batch_size: int

    def run(
        self,
        attack: Attack,
        number: int,
        threat: ThreatModel,
        standing_above: float,
        classifier: Classifier,
        *,
        pilot: bool = False,
    ) -> None:
        """Attack what has not fallen within ``standing_above``; with ``pilot`` only the first few unless it pays."""
        standing = (self.outcome.norm > standing_above).nonzero().squeeze(1)
        if pilot:
            first, standing = standing[:_PILOT], standing[_PILOT:]
            self._run(attack, number, threat, first, classifier)
            fallen = int((self.outcome.norm[first] <= threat.eps).sum())
            if fallen < _PAYS_FROM * len(first):
                return
        self._run(attack, number, threat, standing, classifier)

    def _run(self, attack: Attack, number: int, threat: ThreatModel, chosen: Tensor, classifier: Classifier) -> None:
        for part in chosen.split(self.batch_size) if len(chosen) else ():
            found = attack.function(
                classifier,
                self.images[part],
                self.labels[part],
                threat,
                rng=self.rng.select(part).fold(attack.name, repr(threat.eps)),
                **attack.settings,
            )
            self._judge(part, found, threat, number)

    def _judge(self, chosen: Tensor, found: Images, threat: ThreatModel, number: int) -> None:
        """Enter what is inside the ball, fools the classifier, and is smaller than what was known."""
        reference = self.images[chosen]
        found = torch.where(found.isfinite(), found, reference).clamp(0.0, 1.0)
        outside = ~threat.contains(found, reference)
        if outside.any():
            found = torch.where(outside.reshape(-1, 1, 1, 1), threat.project(found, reference), found)
        inside = threat.contains(found, reference)
        prediction = self.predict(found)
        # Inside up to rounding counts as inside, so no norm exceeds its radius.
        norm = threat.distance(found, reference).double().clamp_max(threat.eps)
        better = inside & (prediction != self.labels[chosen]) & (norm < self.outcome.norm[chosen])
        entered = chosen[better]
        self.outcome.norm[entered] = norm[better]
        self.outcome.images[entered] = found[better]
        self.outcome.prediction[entered] = prediction[better]
        self.outcome.attack[entered] = number


def _checked(attacks: Sequence[Attack], threats: Sequence[ThreatModel]) -> list[ThreatModel]:
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise UsageError(f"an attack sweeps the radii of one norm, not of {sorted(norms) or 'none'}")
    if not attacks:
        raise UsageError("no attack is named; 'hardy list attacks' shows them")
    for attack in attacks:
        if not norms <= set(attack.norms):
            raise UsageError(f"attack '{attack.name}' works in {', '.join(attack.norms)}, not in {norms.pop()}")
    return sorted(threats, key=lambda threat: threat.eps)


def _predictor(classifier: nn.Module, batch_size: int, count: Count) -> Callable[[Images], Tensor]:
    """The classifier's own word, in float32: int64 (N,); -1, which is no class, where a logit is NaN."""

    def predict(images: Images) -> Tensor:
        count.queries += len(images)
        if not len(images):
            return torch.empty(0, dtype=torch.int64, device=images.device)
        logits = torch.cat([classifier(batch) for batch in images.split(batch_size)])
        return torch.where(logits.isnan().any(1), -1, logits.argmax(1))

    return predict


def _check_gradient(classifier: nn.Module, image: Images) -> None:
    with torch.enable_grad():
        answer = classifier(image.clone().requires_grad_(True))
    if not answer.requires_grad:
        raise ContractError(
            "the classifier gives no gradient with respect to its input; attack it with one that needs none "
            "(square, or a decision-based one)"
        )
