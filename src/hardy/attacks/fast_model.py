"""The fast model: a copy of a classifier for searching, with the same answers and input gradients up to rounding.

Batch norm is folded into the convolutions, weights are frozen, memory is laid out channels-last, some layers take a
faster form and, on request, all arithmetic but the last layer's is bfloat16. Its answers guide a search and decide
nothing: the engine asks the classifier itself. What the layers gain was measured on two AVX-512 cores.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import conv2d, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Logits

# A copy is compared on so many clean and so many perturbed images, with uniform noise up to these in turn.
_POINTS = 16
_NOISE = (0.02, 0.1, 0.3, 1.0)
# By how much answers and gradients may differ, relative to their size: folding reorders float32 sums. Where two values
# tie (in max pooling, or a ReLU at 0), rounding sends a gradient another way, so this share of the images decides.
_ROUNDING = 1e-3
_MOST = 0.9
# In bfloat16, by how much answers may differ, and the least cosine of its gradients with those in float32. Networks
# with rounded weights and activations differ by at most .01, with cosines above .95.
_COARSE = 0.02
_SAME_WAY = 0.9
# Values in [0, 1] are up to 2**-8 apart in bfloat16; a change must be many times that to be found in it.
_FINEST_CHANGE = 8 * 2.0**-8
# The gradient of a convolution with stride is slow where it has few channels to end in.
_FEW_CHANNELS = 16


@dataclass
class Count:
    """How many images were classified (``queries``), and for how many of them a gradient was taken."""

    queries: int = 0
    gradients: int = 0


class Behavior(NamedTuple):
    """What a classifier answers around some images, and how its answers change with them.

    Attributes:
        points: float32 (P, C, H, W), clean images and perturbed ones.
        directions: float32 (P, K), normal: of each point, how much each logit counts in what ``gradient`` is taken of.
        logits: float32 (2, P, K), without and with gradients taken.
        gradient: float32 (P, C, H, W).
    """

    points: Images
    directions: Tensor
    logits: Tensor
    gradient: Tensor


class FastModel:
    """Classifies as its original does, counts, and answers in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, layout: torch.memory_format, count: Count) -> None:
        self._model = model
        self._dtype = dtype
        self._layout = layout
        self._count = count

    def __call__(self, images: Images) -> Logits:
        self._count.queries += len(images)
        if torch.is_grad_enabled() and images.requires_grad:
            self._count.gradients += len(images)
        return self._model(images.to(self._dtype).contiguous(memory_format=self._layout)).float()


def behavior_of(classifier: nn.Module, probe: Images) -> Behavior:
    """How a frozen classifier behaves on the images of ``probe`` and on perturbed ones.

    Each point has a direction of its own, in which every logit counts, so that a gradient that is lost for one output
    only is missed at every point.
    """
    generator = torch.Generator().manual_seed(0)
    clean = probe.repeat(-(-_POINTS // len(probe)), 1, 1, 1)[:_POINTS]
    radius = torch.tensor(_NOISE).repeat(-(-_POINTS // len(_NOISE)))[:_POINTS].reshape(-1, 1, 1, 1)
    noise = radius * (2.0 * torch.rand(clean.shape, generator=generator) - 1.0)
    points = torch.cat([clean, (clean + noise.to(clean.device)).clamp(0.0, 1.0)])
    with torch.no_grad():
        classes = classifier(probe[:1]).shape[1]
    directions = torch.randn(len(points), classes, generator=generator).to(points.device)
    return Behavior(points, directions, *_logits_and_gradient(classifier, points, directions))


def _logits_and_gradient(model: Classifier, points: Images, directions: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        plain = model(points).float()
    with torch.enable_grad():
        leaf = points.clone().requires_grad_(True)
        logits = model(leaf).float()
        if not logits.requires_grad:
            return torch.stack([plain, logits]), torch.zeros_like(points)
        (gradient,) = torch.autograd.grad((directions * logits).sum(), leaf, allow_unused=True, materialize_grads=True)
    return torch.stack([plain, logits.detach()]), gradient


def fast_model(
    classifier: nn.Module, behavior: Behavior, dtype: torch.dtype, count: Count, warnings: list[str]
) -> FastModel | None:
    """The fastest copy that answers as the classifier does and has its input gradients, frozen, in evaluation mode.

    Batch norm is folded where the network can be traced; channels-last is used where the network works in it. Tracing
    loses what is no operation on tensors (``torch.no_grad()``, hooks of the network itself, branches), and bfloat16
    what is small beside something large, so each copy is held against the classifier.

    Args:
        classifier: in evaluation mode; left as it is.
        behavior: of the classifier, from :func:`behavior_of`.
        dtype: float32 or bfloat16.
        count: where queries and gradients are counted.
        warnings: where the reason is added if there is no such copy.

    Returns:
        None where no copy behaves as the classifier does: the network does not work in ``dtype``, say.
    """
    reduced = dtype != torch.float32
    reason = ""
    # A user's network fails to be copied, traced, or run in bfloat16 or channels-last for reasons of its own.
    for fuse in (True, False):
        for layout in (torch.channels_last, torch.contiguous_format):
            try:
                model: nn.Module = copy.deepcopy(classifier).eval().requires_grad_(False)
                with torch.no_grad():
                    model = _fused(model) if fuse else model
                    # Whatever else is lost must not pass for what bfloat16 loses.
                    if reduced and (reason := _difference(model, behavior, torch.float32, layout)):
                        continue
                    model = model.to(dtype, memory_format=layout)  # type: ignore[call-overload]
                    if isinstance(model, fx.GraphModule):
                        _exchange_layers(model, dtype)
                if not (reason := _difference(model, behavior, dtype, layout)):
                    return FastModel(model, dtype, layout, count)
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    name = str(dtype).removeprefix("torch.")
    warnings.append(
        f"the classifier could not be copied in {name} for faster searches, so attacks take longer: {reason}"
    )
    return None


def _difference(copied: nn.Module, behavior: Behavior, dtype: torch.dtype, layout: torch.memory_format) -> str:
    """In what a copy differs from its original by more than its precision explains, in words; "" if in nothing."""
    called = FastModel(copied, dtype, layout, Count())
    logits, gradient = _logits_and_gradient(called, behavior.points, behavior.directions)
    reduced = dtype != torch.float32
    spread = (behavior.logits.amax(2) - behavior.logits.amin(2)).max()
    # Not 'greater', which is false where there is a NaN.
    if not ((logits - behavior.logits).abs().max() <= (_COARSE if reduced else _ROUNDING) * spread):
        return "its answers differ"
    found, wanted = gradient.flatten(1), behavior.gradient.flatten(1)
    if reduced:
        alike = torch.cosine_similarity(found, wanted, dim=1) >= _SAME_WAY
    else:
        alike = (found - wanted).norm(dim=1) <= _ROUNDING * wanted.norm(dim=1)
    alike |= (found == wanted).all(1)
    return "" if alike.double().mean() >= _MOST else "its input gradients differ"


def bf16_tells_apart(threat: ThreatModel, values: int) -> bool:
    """Whether a search in bfloat16 can move inside the ball of a threat model, around images of so many values.

    In linf and l2 the change of a value counts where all change alike; in l1 and l0 few values change, by much.
    """
    match threat.norm:
        case "linf":
            return threat.eps >= _FINEST_CHANGE
        case "l2":
            return threat.eps >= _FINEST_CHANGE * values**0.5
        case _:
            return True


_FUSIONS = {
    (nn.Conv2d, nn.BatchNorm2d): fuse_conv_bn_eval,
    (nn.Linear, nn.BatchNorm1d): fuse_linear_bn_eval,
}


def _fused(model: nn.Module) -> nn.Module:
    """A traced copy, in which batch norm right after a convolution or a linear layer is part of that layer."""
    traced = fx.symbolic_trace(model)
    modules = dict(traced.named_modules())
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        if calls[str(before.target)] > 1:
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        fusion = _FUSIONS.get((type(layer), type(norm)))  # type: ignore[arg-type]
        if fusion is None:
            continue
        traced.set_submodule(str(before.target), fusion(layer, norm))  # type: ignore[arg-type]
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval().requires_grad_(False)


def _exchange_layers(traced: fx.GraphModule, dtype: torch.dtype) -> None:
    """Exchange layers of a frozen, traced network, already in ``dtype``, where another form is faster or finer."""
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        layer = traced.get_submodule(name)
        if isinstance(layer, nn.Conv2d) and _has_sub_pixels(layer):
            traced.set_submodule(name, SubPixelConv(layer))
        elif isinstance(layer, nn.Linear) and dtype != torch.float32:
            if not _feeds_weights(node, traced):
                traced.set_submodule(name, Float32Linear(layer))
        elif isinstance(layer, nn.Linear) and layer.weight.is_cpu and torch.backends.mkldnn.is_available():
            traced.set_submodule(name, RowsAsPixels(layer))


class RowsAsPixels(nn.Module):
    """A linear layer as a 1 x 1 convolution of one image that has a pixel for each row.

    float32 convolutions run at twice the speed of float32 matrix products where the latter do not use AVX-512.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = linear.weight[:, :, None, None].contiguous(memory_format=torch.channels_last)
        self._bias = linear.bias

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(1, 1, -1, rows.shape[-1]).permute(0, 3, 1, 2)
        return conv2d(flat, self._weight, self._bias).permute(0, 2, 3, 1).reshape(*rows.shape[:-1], -1)


class Float32Linear(nn.Module):
    """A last layer in float32: bfloat16 logits lie up to 0.4 % apart, and small gains between them are lost."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._linear = linear.float()

    def forward(self, rows: Tensor) -> Tensor:
        return self._linear(rows.float())


class SubPixelConv(nn.Module):
    """A convolution with stride whose input gradient is a convolution without, its channels spread over sub-pixels.

    Shi et al., arXiv:1609.07009.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._conv = conv
        stride, window = conv.stride[0], conv.kernel_size[0] // conv.stride[0]
        parts = conv.weight.reshape(conv.out_channels, conv.in_channels, window, stride, window, stride).flip(2, 4)
        backward = parts.permute(3, 5, 1, 0, 2, 4).reshape(-1, conv.out_channels, window, window)
        self._backward = backward.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return _SubPixel.apply(images, self._conv, self._backward)  # type: ignore[no-any-return]


class _SubPixel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, conv: nn.Conv2d, backward: Tensor) -> Tensor:  # type: ignore[override]
        ctx.conv, ctx.weight, ctx.size = conv, backward, images.shape[-2:]
        return conv(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        stride, edge = ctx.conv.stride[0], ctx.conv.padding[0]
        blocks = conv2d(gradient, ctx.weight, padding=ctx.weight.shape[-1] - 1)
        # Channels are (row, column, channel of the image): in channels-last, neighbors stay neighbors.
        rows = blocks.permute(0, 2, 3, 1).unflatten(3, (stride, -1)).transpose(2, 3).flatten(1, 2)
        found = rows.unflatten(3, (stride, -1)).flatten(2, 3).permute(0, 3, 1, 2)
        # Pixels past the last step of the kernel were not looked at.
        height, width = (max(edge + size - have, 0) for size, have in zip(ctx.size, found.shape[-2:], strict=True))
        found = pad(found, (0, width, 0, height)) if height or width else found
        return found[..., edge : edge + ctx.size[0], edge : edge + ctx.size[1]], None, None


def _has_sub_pixels(conv: nn.Conv2d) -> bool:
    stride, kernel = conv.stride[0], conv.kernel_size[0]
    return (
        stride > 1
        and kernel % stride == 0
        and len(set(conv.stride)) == len(set(conv.kernel_size)) == 1
        and not isinstance(conv.padding, str)
        and len(set(conv.padding)) == 1
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and set(conv.dilation) == {1}
        and conv.in_channels * stride**2 <= _FEW_CHANNELS
    )


def _feeds_weights(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Whether a layer with weights of its own comes after this one."""
    return any(
        (user.op == "call_module" and any(True for _ in traced.get_submodule(str(user.target)).parameters()))
        or _feeds_weights(user, traced)
        for user in node.users
    )
