"""Classifiers that an attack may see wrongly: through a copy, in low precision, or by a gradient that misleads.

Each wraps the same small classifier of MNIST, and what it adds is a way in which people's own code does it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hardy.validation import Images, Logits
from helpers.classifiers import SmallNet, small_classifier

LEVELS = 7.0


class Around(nn.Module):
    """The small classifier, of images that ``before`` has changed; ``after`` changes its logits."""

    def __init__(
        self, before: Callable[[Images], Images] | None = None, after: Callable[[Logits], Logits] | None = None
    ):
        super().__init__()
        self.net = small_classifier()
        self.before = before or _same
        self.after = after or _same

    def forward(self, images: Images) -> Logits:
        return self.after(self.net(self.before(images)))


def _same(values: Tensor) -> Tensor:
    return values


def rounded(images: Images) -> Images:
    return (images * LEVELS).round() / LEVELS


def straight_through_no_grad(images: Images) -> Images:
    with torch.no_grad():
        residue = rounded(images) - images
    return images + residue


def straight_through_detach(images: Images) -> Images:
    return images + (rounded(images) - images).detach()


def offset_by(size: float) -> Callable[[Images], Images]:
    """Nothing to float32; in bfloat16 the image is rounded to steps of ``size`` / 128."""
    return lambda images: (images + size) - size


def lost_where_gradients_are_taken(images: Images) -> Images:
    return images.detach() + 0.0 * images if torch.is_grad_enabled() else images


def seeded_noise(images: Images) -> Images:
    """The same numbers at each call, so that tracing may keep them."""
    return images + 0.05 * torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def noise_by_hash(images: Images) -> Images:
    """Noise whose seed is made of the image, so that the slightest change draws other noise."""
    seeds = [zlib.crc32(image.detach().float().numpy().tobytes()) for image in images]
    noise = [torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return images + 0.1 * torch.stack(noise)


def kept_ranks(images: Images) -> Images:
    """Only the brightest fifth of the pixels; which these are has no gradient."""
    order = images.flatten(1).argsort(dim=1, stable=True).argsort(1).reshape(images.shape)
    return images * (order >= 0.8 * images[0].numel())


def cosines_rounded(images: Images) -> Images:
    """The coefficients of the cosine transform of 4x4 blocks, rounded as in JPEG."""
    place = torch.arange(4, dtype=torch.float32)
    basis = (
        torch.cos(math.pi / 4 * (place + 0.5) * place[:, None]) * torch.where(place == 0, 0.5, math.sqrt(0.5))[:, None]
    )
    blocks = images.unfold(2, 4, 4).unfold(3, 4, 4)
    coefficients = (8.0 * basis @ blocks @ basis.T).round() / 8.0
    return (basis.T @ coefficients @ basis).permute(0, 1, 2, 4, 3, 5).reshape(images.shape)


def branched(images: Images) -> Images:
    """Each image by itself: the bright ones are dimmed."""
    return torch.stack([0.9 * image if image.mean() > 0.12 else image for image in images])


class Negated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        return -gradient


class Thermometer(nn.Module):
    """Each pixel one-hot over levels, with no gradient but a last hint of the pixel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_classifier()

    def forward(self, images: Images) -> Logits:
        levels = nn.functional.one_hot((images * LEVELS).round().long(), int(LEVELS) + 1).to(images.dtype)
        values = levels @ torch.linspace(0.0, 1.0, int(LEVELS) + 1).to(images.dtype)
        return self.net(values + 1e-3 * images)


class FunctionalNorm(nn.Module):
    """Batch norm by the function, as in networks whose norm is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_classifier()

    def forward(self, images: Images) -> Logits:
        norm = self.net.norm
        features = nn.functional.batch_norm(
            self.net.convolution(images),
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            False,
            0.1,
            norm.eps,
        )
        return self.net.head(features.relu().flatten(1))


class CalledTwice(nn.Module):
    """One convolution of two uses, of which only one is followed by the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_classifier()

    def forward(self, images: Images) -> Logits:
        normed = self.net.norm(self.net.convolution(images)).relu()
        return self.net.head((normed + 0.2 * self.net.convolution(0.5 * images)).flatten(1))


def hooked(add: Callable[[SmallNet], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = small_classifier()
        add(model)
        return model

    return make


def _only_first_output_lost(_module: nn.Module, _inputs: Any, logits: Tensor) -> Tensor:
    return torch.cat([logits[:, :1].detach(), logits[:, 1:]], dim=1)


def _nothing_back(_module: nn.Module, gradients: Any, *_: Any) -> Any:
    return tuple(None if gradient is None else torch.zeros_like(gradient) for gradient in gradients)


ZOO: dict[str, Callable[[], nn.Module]] = {
    "no_grad inside": lambda: Around(straight_through_no_grad),
    "detach inside": lambda: Around(straight_through_detach),
    "another gradient mode": lambda: Around(lost_where_gradients_are_taken),
    "hook before the network": hooked(
        lambda net: net.register_forward_pre_hook(lambda _, given: (1.2 * given[0] - 0.1,))
    ),
    "hook after the network": hooked(
        lambda net: net.register_forward_hook(lambda _, __, logits: logits.roll(1, 1).roll(-1, 1) - logits.flip(1))
    ),
    "hook on one output": hooked(lambda net: net.register_forward_hook(_only_first_output_lost)),
    "backward hook of zeros": hooked(lambda net: net.convolution.register_full_backward_hook(_nothing_back)),
    "backward hook of zeros on the network": hooked(lambda net: net.register_full_backward_hook(_nothing_back)),
    "tiny logits": lambda: Around(after=lambda logits: 1e-5 * logits),
    "huge logits": lambda: Around(after=lambda logits: 1e5 * logits),
    "logits with an offset": lambda: Around(after=lambda logits: 0.01 * logits + 300.0),
    "offset of 4": lambda: Around(offset_by(4.0)),
    "offset of 16": lambda: Around(offset_by(16.0)),
    "rounded images": lambda: Around(rounded),
    "rounded images, huge logits": lambda: Around(rounded, lambda logits: 30.0 * logits),
    "clamped logits": lambda: Around(after=lambda logits: logits.clamp(-1.0, 3.0)),
    "negated gradient": lambda: Around(Negated.apply),
    "thermometer": Thermometer,
    "cosine transform rounded": lambda: Around(cosines_rounded),
    "noise by hash": lambda: Around(noise_by_hash),
    "noise of a fixed seed": lambda: Around(seeded_noise),
    "argsort": lambda: Around(kept_ranks),
    "functional batch norm": FunctionalNorm,
    "module called twice": CalledTwice,
    "branches by image": lambda: Around(branched),
}
