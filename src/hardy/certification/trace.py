"""From a classifier to the operations that it is made of.

PyTorch records which operators run on a few images; how the classifier is written in Python does not matter. What has
no bound is named.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn.grad import conv2d_input

from hardy.certification.operations import Activation, Affine, Linear, MaxPool, Operation, sum_of
from hardy.errors import UsageError
from hardy.models import Ensemble, device_of
from hardy.validation import frozen_evaluation

# As many images as are traced with: a number that no layer has, so that what mixes images shows.
_IMAGES = 3
_TOLERANCE = 1e-3
_ERF = 1 / math.sqrt(2)


class NoBoundError(UsageError):
    """A classifier, or a part of it, that no bound is known of."""


class Network(NamedTuple):
    """Operations in order. Value 0 is the images; operation i makes value i + 1; the last value is the logits.

    ``shapes`` are those of the values, without the first dimension.
    """

    operations: list[Operation]
    shapes: list[tuple[int, ...]]

    def __call__(self, images: Tensor) -> Tensor:
        values = [images]
        for operation in self.operations:
            values.append(operation(*(values[source] for source in operation.sources)))
        return values[-1]


class Traced(NamedTuple):
    """A classifier as networks: one, or the members of an ensemble that averages probabilities."""

    networks: tuple[Network, ...]


def trace(classifier: nn.Module, shape: tuple[int, ...]) -> Traced:
    """Record the operations of a classifier, in evaluation mode.

    Args:
        classifier: left as it is.
        shape: of one image, (C, H, W).

    Raises:
        NoBoundError: it cannot be recorded, or has an operation without a bound.
    """
    members = list(classifier.members) if isinstance(classifier, Ensemble) else [classifier]
    return Traced(tuple(_network(member, shape) for member in members))


def reason_without_bounds(classifier: nn.Module, shape: tuple[int, ...]) -> str:
    """Why a classifier has no bounds; empty where it has."""
    try:
        trace(classifier, shape)
    except NoBoundError as error:
        return str(error)
    return ""


def record(classifier: nn.Module, images: Tensor) -> fx.GraphModule:
    """The operators that run on these images, in evaluation mode."""
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx

    # Whatever a user's network does that cannot be recorded is a reason, not a failure.
    try:
        with frozen_evaluation(classifier), torch.no_grad():
            recorded = make_fx(functionalize(classifier, remove="mutations"))(images)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise NoBoundError(f"{type(classifier).__name__} cannot be recorded: {type(error).__name__}: {first}") from None
    recorded.graph.eliminate_dead_code()
    return recorded


def _network(classifier: nn.Module, shape: tuple[int, ...]) -> Network:
    generator = torch.Generator().manual_seed(0)
    device = device_of(classifier)
    images, others = (torch.rand(_IMAGES, *shape, generator=generator).to(device) for _ in range(2))
    network = operations_of(record(classifier, images), shape)
    with frozen_evaluation(classifier), torch.no_grad():
        # On other images: what was computed outside PyTorch would have become a constant.
        wanted, found = classifier(others).float(), network(others)
        wanted, found = (it - it.mean(1, keepdim=True) for it in (wanted, found))
        if not (found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max().clamp_min(1):
            raise NoBoundError(f"{type(classifier).__name__} answers otherwise than what was recorded of it")
    return network


def operations_of(recorded: fx.GraphModule, shape: tuple[int, ...]) -> Network:
    """The operations of recorded operators, with the weights as they are now.

    Raises:
        NoBoundError: one has no bound.
    """
    for node in recorded.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise NoBoundError(f"it draws random numbers ({node.target}); what is random is bounded by smoothing only")
    builder = _Builder([], [shape])
    known: dict[fx.Node, Any] = {}
    for node in recorded.graph.nodes:
        if node.op == "placeholder":
            known[node] = _Value(0)
        elif node.op == "get_attr":
            known[node] = getattr(recorded, str(node.target))
        elif node.op == "call_function":
            args = fx.map_arg(node.args, known.__getitem__)
            kwargs = fx.map_arg(node.kwargs, known.__getitem__)
            known[node] = builder.add(node, args, dict(kwargs))
        elif node.op == "output":
            known[node] = known[node.args[0]] if isinstance(node.args[0], fx.Node) else None
            if known[node] != _Value(len(builder.operations)):
                raise NoBoundError("the logits are not the last thing that is computed from the images")
    return Network(builder.operations, builder.shapes)


class _Value(NamedTuple):
    """A value of the network, which depends on the images."""

    number: int


class _Builder(NamedTuple):
    operations: list[Operation]
    shapes: list[tuple[int, ...]]

    def add(self, node: fx.Node, args: Any, kwargs: dict[str, Any]) -> Any:
        """The value or constant that a recorded operator makes."""
        target: Any = node.target
        if target is operator.getitem:
            return args[0] if isinstance(args[0], _Value) and args[1] == 0 else args[0][args[1]]
        name = str(target).removeprefix("aten.").rpartition(".")[0]
        if not any(isinstance(it, _Value) for it in _flat((args, kwargs))):
            if "empty" in name:
                raise NoBoundError(f"it computes with memory that nothing was written to ({name})")
            return target(*args, **kwargs)
        if name == "_log_softmax" and not any(user.op != "output" for user in node.users):
            # Differences of logits stay what they are.
            return args[0]
        handler = _HANDLERS.get(name)
        found: Any = node.meta.get("val", node.meta.get("tensor_meta"))
        found = found if hasattr(found, "shape") or not found else found[0]
        if handler is None and name not in _MOVES:
            raise NoBoundError(f"no bound is known of '{name}'")
        shape = tuple(found.shape) if hasattr(found, "shape") else None
        if shape is not None and (not shape or shape[0] != _IMAGES):
            raise NoBoundError(f"'{name}' mixes the images of a batch")
        if name == "slice" and shape == (_IMAGES, *self.shapes[args[0].number]):
            return args[0]
        operations = handler(self, *args, **kwargs) if handler else [self._moved(name, target, args, kwargs)]
        if isinstance(operations, _Value):
            return operations
        for operation in operations:
            zeros = (torch.zeros(1, *self.shapes[source], device=_device(operation)) for source in operation.sources)
            with torch.no_grad():
                self.shapes.append(tuple(operation(*zeros).shape[1:]))
            self.operations.append(operation)
        return _Value(len(self.operations))

    def _moved(self, name: str, target: Any, args: Any, kwargs: dict[str, Any]) -> Affine:
        """An operator that moves and averages elements, so that its weights are known to be no less than 0."""
        source, *rest = args
        if not isinstance(source, _Value) or any(isinstance(it, _Value) for it in _flat((rest, kwargs))):
            raise NoBoundError(f"no bound is known of '{name}' of these arguments")
        if name in ("view", "_unsafe_view", "reshape", "expand"):
            sizes = tuple(rest[0])[1:]

            def whole(value: Tensor) -> Tensor:
                return target(value, [len(value), *sizes], **kwargs)

        else:

            def whole(value: Tensor) -> Tensor:
                return target(value, *rest, **kwargs)

        shape = self.shapes[source.number]
        if any(it % (len(shape) + 1) == 0 for it in _dimensions(name, rest)):
            raise NoBoundError(f"'{name}' mixes the images of a batch")
        with torch.no_grad():
            start = whole(torch.zeros(1, *shape))
        constant = start if bool(start.any()) else None

        def apply(value: Tensor) -> Tensor:
            return whole(value) if constant is None else whole(value) - constant

        def transposed(weights: Tensor) -> Tensor:
            with torch.enable_grad():
                at = torch.zeros(len(weights), *shape, dtype=weights.dtype, requires_grad=True)
                found = apply(at)
            return torch.autograd.grad(found, at, weights, create_graph=torch.is_grad_enabled())[0]

        terms = _MOVES[name](shape, tuple(start.shape[1:]), rest)
        # Going back, what was copied is summed, which rounds.
        copies = start.numel() // math.prod(shape) if name == "expand" else 1
        part = Linear(source.number, apply, apply, transposed, gain=None if terms else 1.0, copies=copies)
        return Affine((part,), constant, terms or (copies if copies > 1 else 0))

    def spread(self, source: _Value, shape: tuple[int, ...]) -> _Value:
        """The value as often as it takes to have this shape."""
        if self.shapes[source.number] == shape:
            return source
        if len(self.shapes[source.number]) != len(shape):
            raise NoBoundError("no bound is known of spreading a value to more dimensions")
        self.operations.append(self._moved("expand", torch.ops.aten.expand.default, (source, [_IMAGES, *shape]), {}))
        self.shapes.append(shape)
        return _Value(len(self.operations))


def _averaged(before: tuple[int, ...], after: tuple[int, ...], _: Any) -> int:
    return math.prod(before) // max(1, math.prod(after)) + 2


def _exact(*_: Any) -> int:
    return 0


def _dimensions(name: str, arguments: list[Any]) -> list[int]:
    """The dimensions that an operator changes; 0 is that of the batch."""
    match name:
        case "permute":
            return [0] if arguments[0][0] else []
        case "mean" | "sum" | "flip":
            return list(arguments[0] or [0]) if arguments else [0]
        case "slice" | "select" | "squeeze":
            return [arguments[0]] if arguments and isinstance(arguments[0], int) else [*(arguments or [[0]])[0]]
        case "transpose":
            return arguments[:2]
        case _:
            return []


_MOVES: dict[str, Callable[[tuple[int, ...], tuple[int, ...], Any], int]] = {
    **dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "squeeze", "unsqueeze", "clone", "alias",
         "detach", "slice", "select", "flip", "constant_pad_nd", "lift_fresh_copy"),
        _exact,
    ),
    "avg_pool2d": lambda _, __, rest: math.prod(_pair(rest[0])) + 2,
    **dict.fromkeys(("mean", "sum", "_adaptive_avg_pool2d"), _averaged),
}  # fmt: skip


def _flat(value: Any) -> list[Any]:
    if isinstance(value, _Value):
        return [value]
    if isinstance(value, dict):
        return _flat(list(value.values()))
    if isinstance(value, list | tuple):
        return [it for each in value for it in _flat(each)]
    return [value]


def _device(operation: Operation) -> torch.device | None:
    return operation.bias.device if isinstance(operation, Affine) and operation.bias is not None else None


def _pair(value: Any) -> tuple[int, int]:
    first, *more = [value] if isinstance(value, int) else value
    return (first, more[0] if more else first)


Built: TypeAlias = list[Operation] | _Value
Operand: TypeAlias = "_Value | Tensor | float"


def _convolution(
    builder: _Builder, source: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    _: Any, groups: int,
) -> Built:  # fmt: skip
    if transposed or not isinstance(source, _Value) or isinstance(weight, _Value) or weight.ndim != 4:
        raise NoBoundError("no bound is known of a convolution other than of images by fixed weights, 2-D")
    shape = builder.shapes[source.number]
    arguments = (_pair(stride), _pair(padding), _pair(dilation), groups)

    def back(weights: Tensor) -> Tensor:
        return conv2d_input((len(weights), *shape), weight, weights.contiguous(), *arguments)  # type: ignore[arg-type]

    def row_norm(order: float) -> Tensor:
        if order == math.inf:
            return weight.abs().amax((1, 2, 3))[:, None, None]
        ones = torch.ones(1, *shape, dtype=weight.dtype, device=weight.device)
        return nn.functional.conv2d(ones, weight.square(), None, *arguments)[0].sqrt()

    part = Linear(
        source.number,
        lambda value: nn.functional.conv2d(value, weight, None, *arguments),
        lambda value: nn.functional.conv2d(value, weight.abs(), None, *arguments),
        back,
        row_norm,
    )
    terms = max(weight[0].numel(), weight[:, 0].numel())
    return [Affine((part,), None if bias is None else bias[:, None, None], terms)]


def _product(source: _Value, weight: Tensor, bias: Tensor | None) -> Built:
    """Rows times a matrix (in, out)."""
    part = Linear(
        source.number,
        lambda rows: rows @ weight,
        lambda rows: rows @ weight.abs(),
        lambda rows: rows @ weight.T,
        lambda order: weight.norm(order, dim=0),
    )
    return [Affine((part,), bias, max(weight.shape))]


def _addmm(_: _Builder, bias: Any, source: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Built:
    if not isinstance(source, _Value) or isinstance(weight, _Value) or isinstance(bias, _Value):
        raise NoBoundError("no bound is known of a product of two values that both depend on the image")
    return _product(source, alpha * weight if alpha != 1 else weight, beta * bias if beta != 1 else bias)


def _mm(_: _Builder, source: Any, weight: Any) -> Built:
    if not isinstance(source, _Value) or isinstance(weight, _Value):
        raise NoBoundError("no bound is known of a product of two values that both depend on the image")
    return _product(source, weight, None)


def _scaled(builder: _Builder, source: _Value, factor: Tensor | float) -> Linear:
    """A value times a constant, which broadcasts to it."""
    scale = _constant(builder, source, factor)
    gain = float(scale.detach().abs().max())
    return Linear(
        source.number,
        lambda value: value * scale,
        lambda value: value * scale.abs(),
        lambda weights: weights * scale,
        gain=gain,
    )


def _constant(builder: _Builder, like: _Value, value: Tensor | float) -> Tensor:
    """A constant as it combines with a value, without the dimension of the batch."""
    constant = torch.as_tensor(value, dtype=torch.float32) if not isinstance(value, Tensor) else value.float()
    if constant.ndim > len(builder.shapes[like.number]):
        if not bool((constant == constant[:1]).all()):
            raise NoBoundError("a constant differs between the images of a batch")
        constant = constant[0]
    return constant


def _broadcast(builder: _Builder, *operands: Operand) -> list[Operand]:
    """The operands with their values of one shape, which that of the constants goes into."""
    largest = max((it for it in operands if isinstance(it, _Value)), key=lambda it: len(builder.shapes[it.number]))
    found = [it if isinstance(it, _Value) else _constant(builder, largest, it) for it in operands]
    shape = torch.broadcast_shapes(*(builder.shapes[it.number] if isinstance(it, _Value) else it.shape for it in found))
    return [builder.spread(it, tuple(shape)) if isinstance(it, _Value) else it for it in found]


def _add(builder: _Builder, first: Operand, second: Operand, *, alpha: float = 1) -> Built:
    return _combined(builder, (first, 1.0), (second, float(alpha)))


def _sub(builder: _Builder, first: Operand, second: Operand, *, alpha: float = 1) -> Built:
    return _combined(builder, (first, 1.0), (second, -float(alpha)))


def _rsub(builder: _Builder, first: Operand, second: Operand, alpha: float = 1) -> Built:
    return _combined(builder, (first, -float(alpha)), (second, 1.0))


def _combined(builder: _Builder, *summands: tuple[Operand, float]) -> Built:
    factors = [factor for _, factor in summands]
    operands = [*zip(_broadcast(builder, *(it for it, _ in summands)), factors, strict=True)]
    parts = tuple(_scaled(builder, it, factor) for it, factor in operands if isinstance(it, _Value))
    constants = [factor * it for it, factor in operands if isinstance(it, Tensor)]
    return [Affine(parts, sum_of(constants) if constants else None, len(summands))]


def _mul(builder: _Builder, first: Operand, second: Operand) -> Built:
    if isinstance(first, _Value) and isinstance(second, _Value):
        raise NoBoundError("no bound is known of a product of two values that both depend on the image")
    source, factor = _broadcast(builder, *((first, second) if isinstance(first, _Value) else (second, first)))
    assert isinstance(source, _Value)
    assert isinstance(factor, Tensor)
    return [Affine((_scaled(builder, source, factor),), None, 1)]


def _div(builder: _Builder, first: Operand, second: Operand) -> Built:
    if isinstance(second, _Value):
        raise NoBoundError("no bound is known of a division by a value that depends on the image")
    return _mul(builder, first, 1.0 / second)


def _neg(builder: _Builder, source: _Value) -> Built:
    return _mul(builder, source, -1.0)


def _batch_norm(
    builder: _Builder, source: _Value, weight: Any, bias: Any, mean: Tensor, var: Tensor, *rest: Any
) -> Built:
    if len(rest) == 3 and rest[0]:
        raise NoBoundError("batch norm takes its statistics from the batch")
    scale = (var + rest[-1]).rsqrt()
    scale = scale if weight is None else scale * weight
    offset = -mean * scale if bias is None else bias - mean * scale
    dims = (-1, *([1] * (len(builder.shapes[source.number]) - 1)))
    offsets = (mean * scale).abs() + (0.0 if bias is None else bias.abs())
    scale, offset, offsets = (it.reshape(dims) for it in (scale, offset, offsets))
    return [Affine((_scaled(builder, source, scale),), offset, 8, offsets)]


def _cat(builder: _Builder, values: list[Any], dim: int = 0) -> Built:
    if not all(isinstance(it, _Value) for it in values):
        raise NoBoundError("no bound is known of a concatenation with constants")
    shapes = [builder.shapes[it.number] for it in values]
    axis = dim % (len(shapes[0]) + 1)
    if axis == 0:
        raise NoBoundError("'cat' mixes the images of a batch")
    lengths = [shape[axis - 1] for shape in shapes]
    behind = len(shapes[0]) - axis
    parts = []
    for number, value in enumerate(values):
        before, length, after = sum(lengths[:number]), lengths[number], sum(lengths[number + 1 :])

        def place(it: Tensor, around: tuple[int, int] = (before, after)) -> Tensor:
            return nn.functional.pad(it, (*([0, 0] * behind), *around))

        def taken(it: Tensor, start: int = before, size: int = length) -> Tensor:
            return it.narrow(axis, start, size)

        parts.append(Linear(value.number, place, place, taken))
    return [Affine(tuple(parts))]


def _to_copy(_: _Builder, source: _Value, *, dtype: torch.dtype | None = None, **__: Any) -> Built:
    if dtype not in (None, torch.float32):
        raise NoBoundError(f"it computes in {dtype}; bounds are those of float32")
    return source


def _dropped(_: _Builder, source: _Value, __: float, train: bool | None = None) -> Built:
    if train:
        raise NoBoundError("dropout is active in evaluation mode")
    return source


def _max_pool(
    builder: _Builder, source: _Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Built:  # fmt: skip
    if _pair(dilation) != (1, 1) or ceil_mode or len(builder.shapes[source.number]) != 3:
        raise NoBoundError("no bound is known of max pooling with dilation, ceil_mode, or other than of images")
    return [MaxPool(source.number, _pair(kernel), _pair(stride or kernel), _pair(padding))]


def _activation(
    name: str,
    function: Callable[[Tensor], Tensor],
    derivative: Callable[[Tensor], Tensor],
    curvature: float,
    lowest: tuple[float, float] | None = None,
) -> Callable[..., Built]:
    def build(_: _Builder, source: _Value, *settings: Any, **more: Any) -> Built:
        if any(it not in ("none", 1, 20) for it in (*settings, *more.values())):
            raise NoBoundError(f"no bound is known of '{name}' with {(*settings, *more.values())}")
        return [Activation(source.number, name, function, derivative, curvature, lowest)]

    return build


def _relu(source: int) -> Activation:
    return Activation(source, "relu", torch.relu)


def _leaky_relu(builder: _Builder, source: _Value, slope: float = 0.01) -> Built:
    """A share of the value, and the rest through a ReLU."""
    if not 0 <= slope <= 1:
        raise NoBoundError(f"no bound is known of a leaky ReLU of slope {slope:g}")
    above = _Value(len(builder.operations) + 1)
    shape = builder.shapes[source.number]
    beside = _Builder([], [*builder.shapes, shape])
    parts = (_scaled(beside, source, slope), _scaled(beside, above, 1.0 - slope))
    return [_relu(source.number), Affine(parts, None, 3)]


def _clamp(builder: _Builder, source: _Value, low: Any = None, high: Any = None) -> Built:
    """``low + relu(x - low)``, then ``high - relu(high - x)``."""
    if any(isinstance(it, _Value | Tensor) for it in (low, high)):
        raise NoBoundError("no bound is known of clamping between other than numbers")
    operations: list[Operation] = []
    number, shape = source.number, builder.shapes[source.number]
    beside = _Builder([], [shape] * (len(builder.operations) + 8))

    def add(operation: Operation) -> int:
        operations.append(operation)
        return len(builder.operations) + len(operations)

    def affine(sign: float, offset: float) -> int:
        return add(Affine((_scaled(beside, _Value(number), sign),), torch.tensor(float(offset)), 2))

    for bound, sign in ((low, 1.0), (high, -1.0)):
        if bound is None:
            continue
        # Above 0 it is the ReLU itself.
        moved = (bound, sign) != (0, 1.0)
        number = affine(sign, -sign * bound) if moved else number
        number = add(_relu(number))
        number = affine(sign, bound) if moved else number
    return operations


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _silu_slope(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


# Curvatures are rounded up; the minima of GELU and SiLU are rounded down.
_HANDLERS: dict[str, Callable[..., Built]] = {
    "convolution": _convolution,
    "addmm": _addmm,
    "mm": _mm,
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cat": _cat,
    "_to_copy": _to_copy,
    "native_dropout": _dropped,
    "max_pool2d_with_indices": _max_pool,
    "max_pool2d": _max_pool,
    "relu": lambda _, source: [_relu(source.number)],
    "leaky_relu": _leaky_relu,
    "hardtanh": lambda builder, source, low=-1.0, high=1.0: _clamp(builder, source, low, high),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda builder, source, high: _clamp(builder, source, None, high),
    "tanh": _activation("tanh", torch.tanh, lambda x: 1 - torch.tanh(x) ** 2, 0.7699),
    "sigmoid": _activation("sigmoid", torch.sigmoid, lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)), 0.0963),
    "softplus": _activation("softplus", nn.functional.softplus, torch.sigmoid, 0.2501),
    "silu": _activation("silu", nn.functional.silu, _silu_slope, 0.5001, (-1.27846, -0.278465)),
    "gelu": _activation(
        "gelu",
        nn.functional.gelu,
        lambda x: 0.5 * (1 + torch.erf(x * _ERF)) + x * _normal_density(x),
        0.798,
        (-0.75179, -0.169972),
    ),
}
