"""The engine that runs attacks. It, never the attack, clips, checks the ball, predicts again in float32 and decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from hardy.attacks.attack import Attack, value_and_gradient
from hardy.attacks.fast_model import Count, FastModel, behavior_of, bf16_tells_apart, fast_model
from hardy.attacks.objectives import is_wrong
from hardy.devices import native_bf16
from hardy.errors import ContractError, UsageError
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels, check_images, frozen_evaluation

Precision = Literal["auto", "bf16", "float32"]

# A search in bfloat16 costs half of one in float32. An attack without a warm start is run again as a whole on what that
# leaves, which pays if at least this share of a probe batch, searched in float32 at once, is broken.
_PAYS_FROM = 0.75
_PROBE = 16
# How often the way from the clean image to a smallest perturbation is halved.
_BISECTIONS = 6


@dataclass(repr=False)
class AttackResult:
    """What attacks found, one entry per example.

    Attributes:
        images: float32 (N, C, H, W), the adversarial image; the clean image where none was found.
        min_norm: float64 (N,), the norm of the smallest perturbation found that fools the classifier: 0 where the clean
            image is classified wrongly already, infinity where none was found within the largest radius.
        prediction: int64 (N,), the class of ``images``.
        clean_prediction: int64 (N,), the class of the clean image.
        attack: int64 (N,), the place of the attack that found it; -1 where none did.
        count: how many queries and gradients it took.
        warnings: what may make the result misleading, in words.
    """

    images: Images
    min_norm: Tensor
    prediction: Tensor
    clean_prediction: Tensor
    attack: Tensor
    count: Count = field(default_factory=Count)
    warnings: list[str] = field(default_factory=list)

    @property
    def broken(self) -> Tensor:
        """bool (N,): classified wrongly, on the clean image or within the largest radius."""
        return self.min_norm.isfinite()

    def __repr__(self) -> str:
        wrong, broken = int((self.min_norm == 0).sum()), int(self.broken.sum())
        return f"AttackResult({broken} of {len(self.images)} broken, {wrong} of them wrong without any attack)"


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
) -> AttackResult:
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
) -> AttackResult:
    """Attack each image within each of the radii, from the smallest up, with one attack after another.

    What is broken is not attacked again: what breaks at one radius is broken at all larger ones, and the next attack
    sees what the last has left. So the result is the worst case over the attacks, example by example.

    Args:
        classifier: left as it was: mode, flags, weights.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,); or (N, A), where each of A classes counts as right.
        attacks: which, with their settings, in order.
        threats: one norm, any number of radii.
        rng: the streams of these examples.
        batch_size: how many images are attacked at once; bounds the memory.
        precision: of the search; every success is confirmed in float32 in any case. ``auto`` searches in bfloat16 first
            where the device computes it natively and it pays, and in float32 what that does not break.

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
        result = AttackResult(
            images=images.clone(),
            min_norm=torch.where(is_wrong(clean, labels), 0.0, torch.inf).double(),
            prediction=clean.clone(),
            clean_prediction=clean,
            attack=torch.full_like(clean, -1),
            count=count,
        )
        if not len(images):
            return result
        if any(attack.gradients for attack in attacks):
            _check_gradient(classifier, images[:1])
        behavior = behavior_of(classifier, images[:_PROBE])
        search = fast_model(classifier, behavior, torch.float32, count, result.warnings) or FastModel(
            classifier, torch.float32, torch.contiguous_format, count
        )
        reduced = None
        if precision == "bf16" or (precision == "auto" and native_bf16(images.device)):
            reduced = fast_model(classifier, behavior, torch.bfloat16, count, result.warnings)
        run = _AttackRun(predict, result, images, labels, rng, batch_size, search)
        for threat in ascending:
            for number, attack in enumerate(attacks):
                if attack.search == "fixed":
                    # Later attacks rarely break survivors, so a second whole search does not pay for them.
                    promising = number == 0 or precision == "bf16" or attack.takes("start")
                    run.run_fixed(attack, number, threat, reduced if promising else None, probe=precision == "auto")
                elif threat is ascending[0]:
                    # The smallest perturbation is looked for once and compared with every radius.
                    largest, active = ascending[-1], run.active(threat)
                    if attack.takes("fast_model") and reduced is not None:
                        run.run_twice(attack, number, largest, active, search, fast_model=reduced)
                    else:
                        run.run(attack, number, largest, active, search)
    return result


@dataclass
class _AttackRun:
    """One call of :func:`run_attacks`: what is attacked and with which models, and what has been found so far."""

    predict: Callable[[Images], Tensor]
    result: AttackResult
    images: Images
    labels: Labels
    rng: Randomness
    batch_size: int
    search: Classifier
    _gradients: Tensor | None = None

    def active(self, threat: ThreatModel) -> Tensor:
        """Which examples are not broken within a radius."""
        return (self.result.min_norm > threat.eps).nonzero().squeeze(1)

    def run_fixed(
        self, attack: Attack, number: int, threat: ThreatModel, reduced: Classifier | None, *, probe: bool
    ) -> None:
        """Attack what is active, in reduced precision first if there is such a model.

        An attack with a warm start goes on in float32 where the first search ended. Any other is run again as a whole,
        so with ``probe`` a probe batch tells first whether that pays.
        """
        active = self.active(threat)
        if reduced is not None and attack.takes("start") and bf16_tells_apart(threat, self.images[0].numel()):
            self.run_twice(attack, number, threat, active, reduced)
            return
        if reduced is not None:
            pays = True
            if probe:
                first, active = active[:_PROBE], active[_PROBE:]
                self.run(attack, number, threat, first, self.search)
                broken = int((self.result.min_norm[first] <= threat.eps).sum())
                pays = broken >= _PAYS_FROM * len(first)
            if pays:
                self.run(attack, number, threat, active, reduced)
                active = active[self.result.min_norm[active] > threat.eps]
        self.run(attack, number, threat, active, self.search)

    def run_twice(
        self,
        attack: Attack,
        number: int,
        threat: ThreatModel,
        chosen: Tensor,
        classifier: Classifier,
        *,
        fast_model: Classifier | None = None,
    ) -> None:
        """Attack the chosen examples, and what survives again in float32, from where the first search ended."""
        ended = self.run(attack, number, threat, chosen, classifier, fast_model=fast_model)
        survived = self.result.min_norm[chosen] > threat.eps
        start = ended[survived] if attack.takes("start") else None
        self.run(attack, number, threat, chosen[survived], self.search, start=start, again=True)

    def run(
        self,
        attack: Attack,
        number: int,
        threat: ThreatModel,
        chosen: Tensor,
        classifier: Classifier,
        *,
        fast_model: Classifier | None = None,
        start: Images | None = None,
        again: bool = False,
    ) -> Images:
        """Attack the chosen examples, from ``start`` where given, and enter what was found; return where it ended.

        With ``again`` the random numbers are different ones.
        """
        ended = self.images[chosen]
        for places in torch.arange(len(chosen)).split(self.batch_size) if len(chosen) else ():
            part = chosen[places]
            rng = self.rng.select(part).fold(attack.name, repr(threat.eps))
            if again:
                rng = rng.fold("refining")
            offered: dict[str, object] = {"rng": rng, "fast_model": fast_model or classifier}
            if start is not None:
                offered["start"] = start[places]
            if attack.takes("clean_gradient"):
                offered["clean_gradient"] = self._clean_gradient(part)
            passed = {name: value for name, value in offered.items() if attack.takes(name)}
            found = attack.function(
                classifier, self.images[part], self.labels[part], threat, **passed, **attack.settings
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
        change = self.result.images[chosen] - images
        low, high = images.new_zeros(len(chosen), 1, 1, 1), images.new_ones(len(chosen), 1, 1, 1)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            fooled = is_wrong(classifier(images + middle * change).argmax(1), labels).reshape(-1, 1, 1, 1)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return images + high * change

    def _judge(self, chosen: Tensor, found: Images, threat: ThreatModel, number: int) -> Tensor:
        """Enter what is in the ball, fools the classifier, and is smaller than what was known; return which."""
        reference = self.images[chosen]
        found = torch.where(found.isfinite(), found, reference).clamp(0.0, 1.0)
        outside = ~threat.contains(found, reference)
        if outside.any():
            found = torch.where(outside.reshape(-1, 1, 1, 1), threat.project(found, reference), found)
        inside = threat.contains(found, reference)
        prediction = self.predict(found)
        # Inside up to rounding counts as inside, so no norm exceeds its radius.
        norm = threat.distance(found, reference).double().clamp_max(threat.eps)
        better = inside & is_wrong(prediction, self.labels[chosen]) & (norm < self.result.min_norm[chosen])
        entered = chosen[better]
        self.result.min_norm[entered] = norm[better]
        self.result.images[entered] = found[better]
        self.result.prediction[entered] = prediction[better]
        self.result.attack[entered] = number
        return entered


def _checked(attacks: Sequence[Attack], threats: Sequence[ThreatModel]) -> list[ThreatModel]:
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise UsageError(f"all radii of an attack are in one norm, not in {sorted(norms) or 'none'}")
    if not attacks:
        raise UsageError("no attack is named; 'hardy list attacks' shows them")
    for attack in attacks:
        if not norms <= set(attack.norms):
            raise UsageError(f"attack '{attack.name}' works in {', '.join(attack.norms)}, not in {norms.pop()}")
    return sorted(threats, key=lambda threat: threat.eps)


def _predictor(classifier: nn.Module, batch_size: int, count: Count) -> Callable[[Images], Tensor]:
    """The classifier's own prediction, in float32: int64 (N,); -1, which is no class, where a logit is NaN."""

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
            "the classifier gives no gradient with respect to its input; use an attack that needs none: square, "
            "hop-skip-jump, salt-and-pepper or noise"
        )
