"""Layers that answer as a network's own, made for the many small gradients that a search takes.

Each stands for one layer of a frozen copy; what they gain was measured on two AVX-512 cores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import conv2d, pad

# The gradient of a convolution with stride is slow where it has few channels to end in.
_FEW_CHANNELS = 16
# In bfloat16 a last layer with so few outputs costs next to nothing in float32.
_FEW_OUTPUTS = 64


def put_search_layers(traced: fx.GraphModule, dtype: torch.dtype) -> None:
    """Exchange layers of a frozen, traced network, already in ``dtype``, where another form is faster or finer."""
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        layer = traced.get_submodule(name)
        if isinstance(layer, nn.Conv2d) and _has_sub_pixels(layer):
            traced.set_submodule(name, SubPixelConv(layer))
        elif isinstance(layer, nn.Linear) and dtype != torch.float32:
            if layer.out_features <= _FEW_OUTPUTS and not _feeds_weights(node, traced):
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
        # Channels are (row, column, channel of the image): in channels-last, neighbours stay neighbours.
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
