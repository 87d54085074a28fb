"""Small random networks with every operation that has a bound, and the check that no image beats a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hardy.certification.bounds import Ball, box_minimum, crown, crown_boxes, interval_boxes, margin_weights
from hardy.certification.trace import Network, operations_of, record
from hardy.models import Ensemble, InputRamps
from hardy.threats import ThreatModel
from hardy.validation import Images, Logits

SHAPE = (1, 6, 6)


class Residual(nn.Module):
    """Convolutions, batch norm, a sum, a concatenation, pooling, scaling, padding and a trailing log-softmax."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.head = nn.Linear(6 * 2 * 2 + 6, 4)
        self.activation = activation

    def forward(self, images: Images) -> Logits:
        x = self.activation(self.norm(self.conv1((images - 0.2) / 0.7)))
        x = x + self.activation(self.conv2(x)) * 0.5
        x = torch.cat([x, 1.0 - x], 1)
        pooled = nn.functional.max_pool2d(x, 3, 2)
        x = torch.cat([pooled.permute(0, 2, 3, 1).reshape(len(x), -1), x.mean((2, 3))], dim=1)
        return self.head(nn.functional.dropout(x, training=self.training)).log_softmax(1)


class Copied(nn.Module):
    """Gray images for weights of color ones: each pixel goes into three channels, each with its normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 36, 3)

    def forward(self, images: Images) -> Logits:
        means = torch.tensor([0.1, 0.3, 0.5]).reshape(1, 3, 1, 1)
        return self.head((images.expand(-1, 3, -1, -1) + images - means).flatten(1))


def _dense(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 3))


def _convolutional(pool: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.ReLU(inplace=True), pool, nn.Flatten(1), nn.LazyLinear(4)
    )


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)),
    **{
        type(it).__name__.lower(): lambda it=it: _dense(it)
        for it in (
            nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.LeakyReLU(0.1), nn.ReLU6(),
            nn.Hardtanh(),
        )
    },
    "ramps": lambda: nn.Sequential(InputRamps([0.3, 0.6]), nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 3)),
    "copied": Copied,
    "max pool": lambda: _convolutional(nn.MaxPool2d(2, 1, padding=1)),
    "average pool": lambda: _convolutional(nn.AvgPool2d(2)),
    "residual": Residual,
    "residual gelu": lambda: Residual(nn.functional.gelu),
}  # fmt: skip


def build(name: str) -> nn.Module:
    model = ARCHITECTURES[name]()
    with torch.no_grad():
        model(torch.zeros(2, *SHAPE))
    return model.eval()


def randomize(model: nn.Module, generator: torch.Generator, scale: float = 1.0) -> None:
    """Other weights, in place, some of them large; and statistics of batch norm."""
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale * (2.0 / fan) ** 0.5)
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                drawn = torch.randn(buffer.shape, generator=generator)
                buffer.copy_(drawn.abs() + 0.3 if "var" in name else 0.5 * drawn)


def networks(name: str, count: int, seed: int = 0) -> Iterator[tuple[nn.Module, Network, torch.Generator]]:
    """An architecture with ``count`` draws of its weights; it is recorded once."""
    generator = torch.Generator().manual_seed(seed)
    model = build(name)
    recorded = record(model, torch.rand(3, *SHAPE))
    for _ in range(count):
        randomize(model, generator, 0.5 + float(torch.rand((), generator=generator)))
        yield model, operations_of(recorded, SHAPE), generator


def sampled(ball: Ball, generator: torch.Generator, count: int) -> Images:
    """float32 (count, N, C, H, W): random images inside, many of them at the edge."""
    images, radius = ball.images, ball.threat.eps
    direction = torch.randn(count, *images.shape, generator=generator)
    flat = direction.flatten(2)
    match ball.threat.norm:
        case "linf":
            change = direction.sign() * torch.rand((), generator=generator).sqrt()
        case "l2":
            change = (flat / flat.norm(dim=2, keepdim=True)).reshape(direction.shape)
        case _:
            few = flat * (flat.abs() >= flat.abs().topk(2, dim=2).values[..., -1:])
            change = (few / few.abs().sum(2, keepdim=True)).reshape(direction.shape)
    return (images + radius * change).clamp(0, 1)


def steepest(model: nn.Module, ball: Ball, weights: Tensor) -> Images:
    """float32 (S, N, C, H, W): a few projected steps down each margin."""
    found = []
    for margin in weights.unbind(1):
        current = ball.images.clone()
        for _ in range(4):
            current.requires_grad_(True)
            value = (model(current) * margin).sum()
            (gradient,) = torch.autograd.grad(value, current)
            size = gradient.sign() if ball.threat.norm == "linf" else gradient
            step = size * ball.threat.eps / size.flatten(1).norm(dim=1).clamp_min(1e-9).reshape(-1, 1, 1, 1)
            step = size * ball.threat.eps if ball.threat.norm == "linf" else step
            current = ball.threat.project(current.detach() - step, ball.images)
        found.append(current.detach())
    return torch.stack(found)


def worst_gap(model: nn.Module, network: Network, ball: Ball, generator: torch.Generator, count: int = 40) -> float:
    """The least distance of a margin that an image has to its bounds, by both methods; below 0 it beats one."""
    classes = network.shapes[-1][0]
    labels = torch.randint(classes, (len(ball.images),), generator=generator)
    weights, _ = margin_weights(labels, classes)
    with torch.no_grad():
        known = crown_boxes(network, ball, refined=100)
    lower = [
        box_minimum(network, interval_boxes(network, ball), weights),
        crown(network, known, ball, weights).lower,
        crown(network, known, ball, weights, iterations=3).lower,
    ]
    candidates = torch.cat([sampled(ball, generator, count), steepest(model, ball, weights), ball.images[None]])
    inside = ball.threat.contains(candidates.flatten(0, 1), ball.images.repeat(len(candidates), 1, 1, 1))
    assert bool(inside.all()), "the check itself leaves the ball"
    with torch.no_grad():
        logits = torch.stack([model(it) for it in candidates])
    margins = torch.einsum("nsk,cnk->cns", weights, logits).double()
    return min(float((margins - it.detach()).min()) for it in lower)


def ball_of(generator: torch.Generator, norm: str, examples: int = 2) -> Ball:
    eps = {"linf": 0.3, "l2": 1.0, "l1": 3.0}[norm] * float(torch.rand((), generator=generator)) ** 2
    return Ball(torch.rand(examples, *SHAPE, generator=generator), ThreatModel(norm, eps))  # type: ignore[arg-type]


def ensemble_of(generator: torch.Generator) -> Ensemble:
    members = [build("relu"), build("tanh")]
    for member in members:
        randomize(member, generator)
    return Ensemble(members).eval()
