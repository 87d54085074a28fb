"""The engine that runs attacks. It, never the attack, clips, checks the ball, predicts again in float32 and decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hardy.attacks.attack import Attack, value_and_gradient
from hardy.attacks.search_copy import Count, SearchCopy, bf16_tells_apart, fastest_copy
from hardy.devices import native_bf16
from hardy.errors import ContractError, UsageError
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels, check_images, frozen_evaluation

Precision = Literal["auto", "bf16", "float32"]

# A search in bfloat16 costs half of one in float32. Where all that it leaves standing is searched again as long, it
# pays if at least this share of the first images falls. Those are searched in float32 at once.
_PAYS_FROM = 0.75
_PILOT = 16
# How often the way from the clean image to a smallest perturbation is halved.
_BISECTIONS = 6


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
            where the device computes it natively and it pays, and in float32 what that leaves standing.

    Raises:
        ContractError: images outside [0, 1], or no gradient for an attack that needs it.
        UsageError: no attack, no radius, several norms, or a norm that an attack does not work in.
    """
    check_images(images)
    ascending = _checked(attacks, threats)
    with frozen_evaluation(classifier), torch.no_grad():
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
        search = fastest_copy(classifier, images[:_PILOT], torch.float32, count) or SearchCopy(
            classifier, torch.float32, torch.contiguous_format, count
        )
        campaign = _Campaign(predict, outcome, images, labels, rng, batch_size, search)
        reduced = None
        if precision == "bf16" or (precision == "auto" and native_bf16(images.device)):
            reduced = fastest_copy(classifier, images[:_PILOT], torch.bfloat16, count)
        for threat in ascending:
            for number, attack in enumerate(attacks):
                if attack.search == "fixed":
                    # What has withstood one attack falls to the next too seldom for a second whole search to pay.
                    promising = number == 0 or precision == "bf16" or attack.warm_start
                    campaign.run_fixed(
                        attack, number, threat, search, reduced if promising else None, pilot=precision == "auto"
                    )
                elif threat is ascending[0]:
                    # The smallest perturbation is looked for once and held against every radius.
                    largest = ascending[-1]
                    if attack.rough and reduced is not None:
                        standing = campaign.standing(threat)
                        ended = campaign.run(attack, number, largest, standing, search, rough=reduced)
                        stands = outcome.norm[standing] > largest.eps
                        start = ended[stands] if attack.warm_start else None
                        campaign.run(attack, number, largest, standing[stands], search, start=start, again=True)
                    else:
                        campaign.run(attack, number, largest, campaign.standing(threat), search)
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
    search: Classifier
    _gradients: Tensor | None = None

    def standing(self, threat: ThreatModel) -> Tensor:
        """Which examples have not fallen within a radius."""
        return (self.outcome.norm > threat.eps).nonzero().squeeze(1)

    def run_fixed(
        self,
        attack: Attack,
        number: int,
        threat: ThreatModel,
        search: Classifier,
        reduced: Classifier | None,
        *,
        pilot: bool,
    ) -> None:
        """Attack what stands, in reduced precision first if there is such a copy.

        An attack that can refine goes on in float32 where the first search ended. Any other is run again as a whole, so
        with ``pilot`` it is looked at first whether that pays.
        """
        standing = self.standing(threat)
        if reduced is not None and attack.warm_start and bf16_tells_apart(threat, self.images[0].numel()):
            ended = self.run(attack, number, threat, standing, reduced)
            stands = self.outcome.norm[standing] > threat.eps
            self.run(attack, number, threat, standing[stands], search, start=ended[stands], again=True)
            return
        if reduced is not None:
            pays = True
            if pilot:
                first, standing = standing[:_PILOT], standing[_PILOT:]
                self.run(attack, number, threat, first, search)
                fallen = int((self.outcome.norm[first] <= threat.eps).sum())
                pays = fallen >= _PAYS_FROM * len(first)
            if pays:
                self.run(attack, number, threat, standing, reduced)
                standing = standing[self.outcome.norm[standing] > threat.eps]
        self.run(attack, number, threat, standing, search)

    def run(
        self,
        attack: Attack,
        number: int,
        threat: ThreatModel,
        chosen: Tensor,
        classifier: Classifier,
        *,
        rough: Classifier | None = None,
        start: Images | None = None,
        again: bool = False,
    ) -> Images:
        """Attack the chosen examples, from ``start`` where given, and enter what was found; where the search ended.

        ``again``, random numbers are other ones.
        """
        ended = self.images[chosen]
        for places in torch.arange(len(chosen)).split(self.batch_size) if len(chosen) else ():
            part = chosen[places]
            rng = self.rng.select(part).fold(attack.name, repr(threat.eps))
            given: dict[str, Any] = dict(attack.settings)
            if start is not None:
                given["start"] = start[places]
            if again:
                rng = rng.fold("refining")
            if attack.rough:
                given["rough"] = rough or classifier
            if attack.clean_gradient:
                given["clean_gradient"] = self._clean_gradient(part)
            found = attack.function(
                classifier,
                self.images[part],
                self.labels[part],
                threat,
                rng=rng,
                **given,
            )
            ended[places] = found
            entered = self._judge(part, found, threat, number)
            if attack.search == "smallest" and threat.norm != "l0" and len(entered):
                self._judge(entered, self._shrunk(entered, classifier), threat, number)
        return ended

    def _clean_gradient(self, chosen: Tensor) -> Tensor:
        """The gradient of the cross-entropy at the clean images, taken once for all attacks and radii."""
        if self._gradients is None:
            self._gradients = torch.full_like(self.images, torch.nan)
        missing = chosen[self._gradients[chosen].flatten(1)[:, 0].isnan()]
        if len(missing):
            _, found = value_and_gradient(self.search, self.images[missing], self.labels[missing])
            self._gradients[missing] = found.nan_to_num()
        return self._gradients[chosen]

    def _shrunk(self, chosen: Tensor, classifier: Classifier) -> Images:
        """What was found, moved back towards the clean image as far as it goes on fooling, by bisection."""
        images, labels = self.images[chosen], self.labels[chosen]
        change = self.outcome.images[chosen] - images
        low, high = images.new_zeros(len(chosen), 1, 1, 1), images.new_ones(len(chosen), 1, 1, 1)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            fooled = (classifier(images + middle * change).argmax(1) != labels).reshape(-1, 1, 1, 1)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return images + high * change

    def _judge(self, chosen: Tensor, found: Images, threat: ThreatModel, number: int) -> Tensor:
        """Enter what is inside the ball, fools the classifier, and is smaller than what was known; which those are."""
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
        return entered


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
