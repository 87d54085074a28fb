"""The engine that runs attacks. It, never the attack, clips, checks the ball, predicts again in float32 and decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hardy.attacks.attack import Attack
from hardy.contracts import Images, Labels, check_images, left_untouched
from hardy.errors import UsageError
from hardy.randomness import Randomness
from hardy.threats import ThreatModel


@dataclass
class Outcome:
    """What attacks found, one entry an example.

    Attributes:
        norm: float64 (N,), the smallest norm of a perturbation that fools the classifier: 0 where the clean image is
            classified wrongly already, infinity where none was found within the largest radius.
        images: float32 (N, C, H, W), the image with that norm; the clean image where none was found.
        prediction: int64 (N,), the class of ``images``.
        clean_prediction: int64 (N,), the class of the clean image.
    """

    norm: Tensor
    images: Images
    prediction: Tensor
    clean_prediction: Tensor


def run_attack(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    attack: Attack,
    threats: Sequence[ThreatModel],
    *,
    rng: Randomness,
    batch_size: int = 500,
) -> Outcome:
    """Attack each image within each of the radii, from the smallest up; what falls at one falls at all above.

    Args:
        classifier: left as it was: mode, flags, weights.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        attack: which, with its settings.
        threats: one norm, any number of radii.
        rng: the streams of these examples.
        batch_size: how many images are attacked at once.

    Raises:
        ContractError: images outside [0, 1].
        UsageError: no radius, several norms, or a norm that the attack does not work in.
    """
    check_images(images)
    norms = {threat.norm for threat in threats}
    if len(norms) != 1:
        raise UsageError(f"an attack sweeps the radii of one norm, not of {sorted(norms) or 'none'}")
    if not norms <= set(attack.norms):
        raise UsageError(f"attack '{attack.name}' works in {', '.join(attack.norms)}, not in {norms.pop()}")
    ascending = sorted(threats, key=lambda threat: threat.eps)
    with left_untouched(classifier), torch.no_grad():
        clean = predict(classifier, images, batch_size)
        outcome = Outcome(
            norm=torch.where(clean == labels, torch.inf, 0.0).double(),
            images=images.clone(),
            prediction=clean.clone(),
            clean_prediction=clean,
        )
        # The smallest perturbation is looked for once and held against every radius.
        for threat in ascending if attack.search == "fixed" else ascending[-1:]:
            standing = (outcome.norm > threat.eps).nonzero().squeeze(1)
            for chosen in standing.split(batch_size):
                found = attack.function(
                    classifier,
                    images[chosen],
                    labels[chosen],
                    threat,
                    rng=rng.select(chosen).fold(attack.name, repr(threat.eps)),
                    **attack.settings,
                )
                judge(classifier, outcome, images, labels, chosen, found, threat)
    return outcome


def judge(
    classifier: nn.Module,
    outcome: Outcome,
    images: Images,
    labels: Labels,
    chosen: Tensor,
    found: Images,
    threat: ThreatModel,
) -> None:
    """Enter into ``outcome`` what of ``found`` is inside the ball, fools the classifier, and is smaller than before."""
    reference = images[chosen]
    found = torch.where(found.isfinite(), found, reference).clamp(0.0, 1.0)
    outside = ~threat.contains(found, reference)
    if outside.any():
        found = torch.where(outside.reshape(-1, 1, 1, 1), threat.project(found, reference), found)
    prediction = classifier(found).argmax(1)
    # Inside up to rounding counts as inside, so no norm exceeds its radius.
    norm = threat.distance(found, reference).double().clamp_max(threat.eps)
    better = (prediction != labels[chosen]) & (norm < outcome.norm[chosen])
    entered = chosen[better]
    outcome.norm[entered] = norm[better]
    outcome.images[entered] = found[better]
    outcome.prediction[entered] = prediction[better]


def predict(classifier: nn.Module, images: Images, batch_size: int) -> Tensor:
    """int64 (N,): the class of each image, in float32."""
    if not len(images):
        return torch.empty(0, dtype=torch.int64, device=images.device)
    return torch.cat([classifier(batch).argmax(1) for batch in images.split(batch_size)])
