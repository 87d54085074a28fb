"""Bounds and certificates as users call them, and the ladder from the cheapest bound to branch and bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.attacks import ATTACKS, run_attacks
from hardy.certification.bounds import (
    Ball,
    box_minimum,
    combined_margins,
    crown,
    crown_boxes,
    interval_boxes,
    margin_weights,
)
from hardy.certification.branching import branch_and_bound
from hardy.certification.operations import Activation
from hardy.certification.trace import Network, Traced, trace
from hardy.errors import ContractError, UsageError
from hardy.models import as_images, device_of, predict_logits
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Images, Labels, frozen_evaluation

Array: TypeAlias = Tensor | NDArray[Any]
Method = Literal["intervals", "crown"]
Verdict = Literal["wrong", "intervals", "crown", "branching", "falsified", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""How an image ended: answered wrongly as it is; certified by intervals, by linear relaxation or by branch and bound;
answered wrongly within the radius; or none of these."""
CERTIFYING: tuple[Verdict, ...] = ("intervals", "crown", "branching")

# Of one tensor of the relaxation.
_VALUES_AT_ONCE = 1 << 22
_NORMS = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Effort:
    """What a certificate may cost.

    Attributes:
        iterations: of gradient ascent on the slopes of the relaxation.
        refined: the inputs of a layer with at most so many undecided neurons are bounded by the relaxation, too.
        nodes: problems per image in branch and bound; 0 leaves it out.
        node_iterations: of the optimization of each of them.
        most_relus: networks of more are not branched: too many branches would decide nothing.
        seconds: the time that one image may take there, or None; with it, verdicts depend on the machine.
    """

    iterations: int = 20
    refined: int = 300
    nodes: int = 0
    node_iterations: int = 15
    most_relus: int = 2000
    seconds: float | None = None


def margin_bounds(traced: Traced, ball: Ball, labels: Labels, method: Method, effort: Effort = Effort()) -> Tensor:
    """Lower bounds of the label's logit less each other class's, float64 (N, K-1)."""
    classes = traced.networks[0].shapes[-1][0]
    weights, _ = margin_weights(labels, classes)
    if method == "intervals":
        boxes = [interval_boxes(network, ball) for network in traced.networks]
        found = [box_minimum(it, known, weights) for it, known in zip(traced.networks, boxes, strict=True)]
        return combined_margins(torch.stack(found), [known.values[-1] for known in boxes])
    rows = max(1, _VALUES_AT_ONCE // ((classes - 1) * _largest(traced)))
    return torch.cat(
        [_relaxed(traced, ball.rows(it), weights[it], effort) for it in torch.arange(len(labels)).split(rows)]
    )


def _largest(traced: Traced) -> int:
    return max(int(np.prod(shape)) for network in traced.networks for shape in network.shapes)


def _relaxed(traced: Traced, ball: Ball, weights: Tensor, effort: Effort) -> Tensor:
    boxes = [crown_boxes(network, ball, effort.refined) for network in traced.networks]
    tops = [known.values[-1] for known in boxes]
    per_member = []
    for network, known in zip(traced.networks, boxes, strict=True):
        cheap = torch.maximum(crown(network, known, ball, weights).lower, box_minimum(network, known, weights))
        per_member.append(cheap)
    margins = torch.stack(per_member)
    if not effort.iterations:
        return combined_margins(margins, tops)
    # Only margins that are still open are worth optimizing, each as a row of its own.
    image, target = torch.nonzero(~(combined_margins(margins, tops) > 0), as_tuple=True)
    for number, (network, known) in enumerate(zip(traced.networks, boxes, strict=True)):
        if not len(image):
            break
        one_each = crown(
            network, known.rows(image), ball.rows(image), weights[image, target][:, None], iterations=effort.iterations
        )
        margins[number, image, target] = torch.maximum(margins[number, image, target], one_each.lower[:, 0])
    return combined_margins(margins, tops)


class Bounds(NamedTuple):
    """What holds everywhere in the ball.

    Attributes:
        margins: float32 (N, K), at most the label's logit less each other class's; infinity at the label.
        certified: bool (N,), whether the label is the answer in all of the ball.
    """

    margins: NDArray[np.float32]
    certified: NDArray[np.bool_]


def bounds(
    model: nn.Module,
    images: Array,
    labels: Array,
    *,
    eps: float,
    norm: str = "linf",
    method: Method = "crown",
    iterations: int = 20,
    refined: int = 300,
    batch_size: int = 100,
) -> Bounds:
    """Lower bounds of the margins of a classifier over a ball, sound for its float32 arithmetic.

    Args:
        model: from images in [0, 1] to logits; left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        labels: integers (N,).
        eps: the radius, in units of the pixel range [0, 1].
        norm: linf, l2 or l1.
        method: ``intervals``, at the cost of two forward passes, or ``crown``, linear relaxation.
        iterations: of gradient ascent on the slopes of the relaxation.
        refined: the inputs of a layer with at most so many undecided neurons are bounded by the relaxation, too.
        batch_size: images at once.

    Raises:
        NoBoundError: the classifier has an operation without a bound.
        ContractError: images or labels outside the contract.
        UsageError: unknown method or norm.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
        >>> found = hardy.certification.bounds(model, images, labels, eps=0.1)
        >>> found.margins.shape, found.certified.shape
        ((3, 2), (3,))
    """
    if method not in get_args(Method):
        raise UsageError(f"unknown method '{method}'; known: {', '.join(get_args(Method))}")
    images, labels, threat, traced = _checked(model, images, labels, eps, norm)
    effort = Effort(iterations, refined)
    with frozen_evaluation(model), torch.no_grad():
        found = [
            margin_bounds(traced, Ball(images[rows], threat), labels[rows], method, effort)
            for rows in torch.arange(len(images)).split(batch_size)
        ]
    lower = torch.cat(found)
    classes = lower.shape[1] + 1
    _, others = margin_weights(labels, classes)
    margins = torch.full((len(labels), classes), torch.inf, dtype=torch.float64, device=labels.device)
    margins.scatter_(1, others, lower)
    return Bounds(np.nextafter(margins.float().cpu().numpy(), np.float32(-np.inf)), (lower > 0).all(1).cpu().numpy())


class Certificates(NamedTuple):
    """How each image ended.

    Attributes:
        verdict: one of :data:`VERDICTS`, (N,).
        certified: bool (N,), whether the label is the answer in all of the ball.
        images: float32 (N, C, H, W): what is answered wrongly within the radius, else the image itself.
    """

    verdict: NDArray[np.str_]
    certified: NDArray[np.bool_]
    images: Images


def certify(
    model: nn.Module,
    images: Array,
    labels: Array,
    *,
    eps: float,
    norm: str = "linf",
    iterations: int = 20,
    refined: int = 300,
    nodes: int = 500,
    seconds: float | None = None,
    seed: int = 0,
    batch_size: int = 100,
) -> Certificates:
    """Decide for each image whether its label is the answer in all of a ball: bounds, then an attack, then branching.

    Args:
        model: from images in [0, 1] to logits; left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        labels: integers (N,).
        eps: the radius, in units of the pixel range [0, 1].
        norm: linf, l2 or l1.
        iterations: of gradient ascent on the slopes of the relaxation.
        refined: the inputs of a layer with at most so many undecided neurons are bounded by the relaxation, too.
        nodes: problems per image in branch and bound, which networks with ReLUs are decided by; 0 leaves it out.
        seconds: the time that one image may take there besides; verdicts then depend on the machine.
        seed: of the attack, PGD.
        batch_size: images at once.

    Raises:
        NoBoundError: the classifier has an operation without a bound.
        ContractError: images or labels outside the contract.
        UsageError: unknown norm.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
        >>> sorted(set(hardy.certification.certify(model, images, labels, eps=0.1).verdict) - {"intervals"}) == []
        False
    """
    images, labels, threat, traced = _checked(model, images, labels, eps, norm)
    effort = Effort(iterations, refined, nodes, seconds=seconds)
    with frozen_evaluation(model):
        attacked = run_attacks(
            model, images, labels, [ATTACKS["pgd"]], [threat],
            rng=Randomness(seed, torch.arange(len(images), device=images.device), ("certify",)), batch_size=batch_size,
        )  # fmt: skip
        wrong = attacked.clean_prediction != labels
        verdict, found = np.full(len(images), "unknown", dtype=object), attacked.images.clone()
        verdict[(attacked.min_norm <= eps).cpu().numpy()] = "falsified"
        verdict[wrong.cpu().numpy()] = "wrong"
        for rows in torch.nonzero(attacked.min_norm > eps).flatten().split(batch_size):
            verdict[rows.cpu().numpy()], found[rows] = climb(
                traced, model, Ball(images[rows], threat), labels[rows], effort
            )
    verdict = verdict.astype(str)
    return Certificates(verdict, np.isin(verdict, CERTIFYING), found)


def climb(
    traced: Traced, classifier: nn.Module, ball: Ball, labels: Labels, effort: Effort
) -> tuple[NDArray[np.str_], Images]:
    """Verdicts of images that are answered rightly, by the first method that decides, and images that fool."""
    verdict, images = np.full(len(labels), "unknown", dtype=object), ball.images.clone()
    with torch.no_grad():
        known = (margin_bounds(traced, ball, labels, "intervals") > 0).all(1)
        verdict[known.cpu().numpy()] = "intervals"
        left = torch.nonzero(~known).flatten()
        if not len(left):
            return verdict.astype(str), images
        margins = margin_bounds(traced, ball.rows(left), labels[left], "crown", effort)
    decided = (margins > 0).all(1)
    verdict[left[decided].cpu().numpy()] = "crown"
    network = traced.networks[0]
    if effort.nodes and len(traced.networks) == 1 and _relus(network) <= effort.most_relus:
        for place, lower in zip(left[~decided].tolist(), margins[~decided], strict=True):
            one = ball.rows(torch.tensor([place], device=labels.device))
            weights, _ = margin_weights(labels[place : place + 1], network.shapes[-1][0])
            with torch.no_grad():
                boxes = crown_boxes(network, one, effort.refined)
            found = branch_and_bound(
                network, boxes, one, weights[0, ~(lower > 0)], classifier, int(labels[place]),
                nodes=effort.nodes, iterations=effort.node_iterations, seconds=effort.seconds,
            )  # fmt: skip
            verdict[place] = "branching" if found.verdict == "certified" else found.verdict
            if found.image is not None:
                images[place] = found.image[0]
    return verdict.astype(str), images


def _relus(network: Network) -> int:
    return sum(
        int(np.prod(shape))
        for it, shape in zip(network.operations, network.shapes[1:], strict=True)
        if isinstance(it, Activation) and it.is_relu
    )


def certified_radii(
    traced: Traced,
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    threats: Sequence[ThreatModel],
    effort: Effort,
) -> dict[Verdict, NDArray[np.float64]]:
    """By method, the largest of ascending radii at which it or a cheaper one certifies an image, float64 (N,).

    -1 where the image is answered wrongly, 0 where no radius is certified.
    """
    answers = predict_logits(classifier, images).argmax(1)
    right = torch.nonzero(answers == labels).flatten()
    start = np.where((answers == labels).cpu().numpy(), 0.0, -1.0)
    found: dict[Verdict, NDArray[np.float64]] = {name: start.copy() for name in CERTIFYING}
    for threat in threats:
        if not len(right):
            break
        verdict, _ = climb(traced, classifier, Ball(images[right], threat), labels[right], effort)
        places = right.cpu().numpy()
        for number, method in enumerate(CERTIFYING, 1):
            found[method][places[np.isin(verdict, CERTIFYING[:number])]] = threat.eps
        # A larger ball is certified only by chance where a smaller one is not.
        right = right[torch.from_numpy(np.isin(verdict, CERTIFYING)).to(right.device)]
    return found


def check_ball(norm: str, eps: float) -> ThreatModel:
    """The threat model of a norm that bounds are known in; else :class:`UsageError`."""
    if norm not in _NORMS:
        raise UsageError(f"no bound is known in norm '{norm}'; known: {', '.join(_NORMS)}")
    return ThreatModel.checked(norm, eps)


def _checked(
    model: nn.Module, images: Array, labels: Array, eps: float, norm: str
) -> tuple[Images, Labels, ThreatModel, Traced]:
    threat, device = check_ball(norm, eps), device_of(model)
    images = as_images(images, device)
    labels = torch.as_tensor(labels, device=device).long()
    traced = trace(model, tuple(images.shape[1:]))
    classes = traced.networks[0].shapes[-1][0]
    if labels.shape != (len(images),) or not len(images) or not bool(((labels >= 0) & (labels < classes)).all()):
        raise ContractError(
            f"labels are one integer per image, from 0 to {classes - 1}, and there is at least one image"
        )
    return images, labels, threat, traced
