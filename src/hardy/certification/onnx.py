"""A classifier as an ONNX model, for verifiers and runtimes other than hardy's.

PyTorch's own exporter takes packages that nothing else here needs. What a network records is few operators, and the
format is a handful of protobuf messages, so both are written here. The model answers one image at a time: that is what
verifiers read. Opset 15: https://github.com/onnx/onnx/blob/main/docs/Operators.md; the numbers of the fields:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn

from hardy.certification.trace import NoBoundError, record
from hardy.errors import UsageError
from hardy.models import device_of
from hardy.validation import frozen_evaluation

INPUT, OUTPUT = "images", "logits"
_IR_VERSION, _OPSET = 8, 15
_TYPES = {torch.float32: 1, torch.int64: 7}
_TOLERANCE = 1e-3
_LAST = 2**63 - 1


class NoOnnxError(UsageError):
    """A classifier, or a part of it, that cannot be written as ONNX here."""


def onnx_model(classifier: nn.Module, shape: Sequence[int]) -> bytes:
    """The content of an ``.onnx`` file that gives the logits (1, K) of one image (1, C, H, W), float32 in [0, 1].

    Args:
        classifier: in evaluation mode; left as it was.
        shape: of one image, (C, H, W).

    Raises:
        NoOnnxError: an operator that has no form here, which is named; or the network draws random numbers, or answers
            otherwise on other images than what was recorded.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> hardy.certification.onnx_model(model, (1, 2, 2))[:2]
        b'\\x08\\x08'
    """
    generator = torch.Generator().manual_seed(0)
    device = device_of(classifier)
    image, other = (torch.rand(1, *shape, generator=generator).to(device) for _ in range(2))
    try:
        recorded = record(classifier, image)
    except NoBoundError as error:
        raise NoOnnxError(str(error)) from None
    for node in recorded.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise NoOnnxError(f"it draws random numbers ({node.target}); a verifier takes a function")
    with frozen_evaluation(classifier), torch.no_grad():
        wanted, found = classifier(other), recorded(other)
        if not (found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max().clamp_min(1):
            raise NoOnnxError(f"{type(classifier).__name__} answers otherwise than what was recorded of it")
        return _model(_graph(recorded, tuple(image.shape)), tuple(image.shape), tuple(wanted.shape))


class _Value(NamedTuple):
    """What depends on the image: its name in the graph, and its shape."""

    name: str
    shape: tuple[int, ...]


class _Graph:
    """Nodes and constants, as encoded messages."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []
        self.output = ""

    def constant(self, value: Tensor | float | Sequence[int]) -> str:
        """The name of a constant; whole numbers in a list are shapes and axes, which are int64."""
        if isinstance(value, Tensor):
            tensor = value.detach().cpu() if value.dtype == torch.int64 else value.detach().cpu().float()
        else:
            tensor = torch.tensor(value, dtype=torch.int64 if isinstance(value, list | tuple) else torch.float32)
        name = f"constant{len(self.constants)}"
        self.constants.append(_tensor(name, tensor))
        return name

    def add(self, kind: str, *inputs: _Value | Tensor | float | Sequence[int] | str, **attributes: Any) -> str:
        """The name of what a new node makes. Inputs that are no value become constants; '' is one that is left out."""
        names = []
        for it in inputs:
            # A value is a tuple, too.
            constant = not isinstance(it, _Value | str)
            names.append(self.constant(it) if constant else it.name if isinstance(it, _Value) else it)  # type: ignore[arg-type]
        name = f"value{len(self.nodes)}"
        self.nodes.append(_node(kind, names, name, attributes))
        return name


Translation: TypeAlias = Callable[..., str]


def _graph(recorded: fx.GraphModule, shape: tuple[int, ...]) -> _Graph:
    graph, known = _Graph(), dict[fx.Node, Any]()
    for node in recorded.graph.nodes:
        args = fx.map_arg(node.args, known.__getitem__)
        kwargs = dict(fx.map_arg(node.kwargs, known.__getitem__))
        match node.op:
            case "placeholder":
                known[node] = _Value(INPUT, shape)
            case "get_attr":
                known[node] = getattr(recorded, str(node.target))
            case "output":
                if not isinstance(args[0], _Value):
                    raise NoOnnxError("its answers do not depend on the image")
                graph.nodes.append(_node("Identity", [args[0].name], OUTPUT, {}))
            case _:
                known[node] = _translated(graph, node, args, kwargs)
    return graph


def _translated(graph: _Graph, node: fx.Node, args: Any, kwargs: dict[str, Any]) -> Any:
    """What a recorded operator makes: a constant, or a value that a node makes."""
    target: Any = node.target
    name = str(target).removeprefix("aten.").rpartition(".")[0]
    if not any(isinstance(it, _Value) for it in _flat((args, kwargs))):
        if "empty" in name:
            raise NoOnnxError(f"it computes with memory that nothing was written to ({name})")
        return target(*args, **kwargs)
    if target is operator.getitem:
        # Of what returns several, the first is the output; the others are what training would keep.
        if args[1] != 0:
            raise NoOnnxError("it uses the indices of max pooling, or statistics of a batch")
        return args[0]
    meta: Any = node.meta.get("val", node.meta.get("tensor_meta"))
    meta = meta if hasattr(meta, "shape") else meta[0]
    if meta.dtype != torch.float32:
        raise NoOnnxError(f"'{name}' computes in {meta.dtype}; only float32 is written")
    shape = tuple(meta.shape)
    if name in _SAME:
        return args[0]
    if name in _RESHAPED:
        return _Value(graph.add("Reshape", args[0], shape), shape)
    if name in _ELEMENTWISE and len(args) == 1 and not kwargs:
        return _Value(graph.add(_ELEMENTWISE[name], args[0]), shape)
    if name not in _TRANSLATIONS:
        raise NoOnnxError(f"'{name}' has no form in ONNX that hardy writes")
    try:
        return _Value(_TRANSLATIONS[name](graph, *args, **kwargs), shape)
    except TypeError:
        raise NoOnnxError(f"'{name}' of these arguments has no form in ONNX that hardy writes") from None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple) and not isinstance(value, _Value):
        return [it for each in value for it in _flat(each)]
    return [it for each in value.values() for it in _flat(each)] if isinstance(value, dict) else [value]


def _pair(value: Any) -> list[int]:
    both = [value] if isinstance(value, int) else list(value)
    return both * 2 if len(both) == 1 else both


def _scaled(graph: _Graph, operand: Any, factor: float) -> Any:
    if factor == 1:
        return operand
    return factor * operand if not isinstance(operand, _Value) else graph.add("Mul", operand, float(factor))


def _sum(graph: _Graph, first: Any, second: Any, *, alpha: float = 1) -> str:
    return graph.add("Add", _real(first), _real(_scaled(graph, second, alpha)))


def _difference(graph: _Graph, first: Any, second: Any, *, alpha: float = 1) -> str:
    return graph.add("Sub", _real(first), _real(_scaled(graph, second, alpha)))


def _real(operand: Any) -> Any:
    """A number as a float: a whole one in a graph would be of another type than the images."""
    return float(operand) if isinstance(operand, int | float) else operand


def _convolution(
    graph: _Graph, source: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> str:  # fmt: skip
    sides = weight.ndim - 2 if isinstance(weight, Tensor) else len(weight.shape) - 2
    stride, padding, dilation = (list(it) * (sides if len(it) == 1 else 1) for it in (stride, padding, dilation))
    more = {"output_padding": list(output_padding) * (sides if len(output_padding) == 1 else 1)} if transposed else {}
    return graph.add(
        "ConvTranspose" if transposed else "Conv", source, weight, *([] if bias is None else [bias]),
        kernel_shape=list(weight.shape[2:]), strides=stride, pads=padding * 2, dilations=dilation, group=groups, **more,
    )  # fmt: skip


def _batch_norm(graph: _Graph, source: _Value, weight: Any, bias: Any, mean: Tensor, var: Tensor, *rest: Any) -> str:
    if len(rest) == 3 and rest[0]:
        raise NoOnnxError("batch norm takes its statistics from the batch")
    weight = torch.ones_like(mean) if weight is None else weight
    bias = torch.zeros_like(mean) if bias is None else bias
    return graph.add("BatchNormalization", source, weight, bias, mean, var, epsilon=float(rest[-1]))


def _group_norm(
    graph: _Graph, source: _Value, weight: Any, bias: Any, _: int, channels: int, pixels: int, groups: int, eps: float
) -> str:
    """As instance norm of the groups, which every verifier that knows any of them knows."""
    if len(source.shape) != 4:
        raise NoOnnxError("group norm other than of images has no form in ONNX that hardy writes")
    grouped = graph.add("Reshape", source, [1, groups, channels // groups * pixels])
    normal = graph.add("InstanceNormalization", grouped, torch.ones(groups), torch.zeros(groups), epsilon=float(eps))
    found = graph.add("Reshape", normal, list(source.shape))
    for kind, constant in (("Mul", weight), ("Add", bias)):
        if constant is not None:
            found = graph.add(kind, found, constant.reshape(1, -1, 1, 1))
    return found


def _clip(graph: _Graph, source: _Value, low: Any = None, high: Any = None) -> str:
    if any(isinstance(it, _Value) or (isinstance(it, Tensor) and it.ndim) for it in (low, high)):
        raise NoOnnxError("clamping between other than numbers has no form in ONNX that hardy writes")
    return graph.add("Clip", source, *("" if it is None else _real(it) for it in (low, high)))


def _gelu(graph: _Graph, source: _Value, approximate: str = "none") -> str:
    if approximate != "none":
        raise NoOnnxError(f"GELU approximated by {approximate} has no form in ONNX that hardy writes")
    half = graph.add("Add", graph.add("Erf", graph.add("Mul", source, 1 / math.sqrt(2))), 1.0)
    return graph.add("Mul", graph.add("Mul", source, 0.5), half)


def _max_pool(
    graph: _Graph, source: _Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> str:  # fmt: skip
    return graph.add(
        "MaxPool", source, kernel_shape=_pair(kernel), strides=_pair(stride or kernel), pads=_pair(padding) * 2,
        dilations=_pair(dilation), ceil_mode=int(ceil_mode),
    )  # fmt: skip


def _average_pool(
    graph: _Graph, source: _Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: Any = None,
) -> str:  # fmt: skip
    if divisor is not None or ceil_mode:
        raise NoOnnxError("average pooling with a divisor or ceil_mode has no form in ONNX that hardy writes")
    return graph.add(
        "AveragePool", source, kernel_shape=_pair(kernel), strides=_pair(stride or kernel), pads=_pair(padding) * 2,
        count_include_pad=int(count_include_pad),
    )  # fmt: skip


def _adaptive_average(graph: _Graph, source: _Value, size: Any) -> str:
    (height, width), (rows, columns) = source.shape[-2:], _pair(size)
    if height % rows or width % columns:
        raise NoOnnxError("adaptive pooling into windows of different sizes has no form in ONNX that hardy writes")
    return _average_pool(graph, source, [height // rows, width // columns])


def _reduced(kind: str) -> Translation:
    def reduced(graph: _Graph, source: _Value, axes: Any = (), keep: bool = False, **more: Any) -> str:
        if more.get("dtype") not in (None, torch.float32):
            raise NoOnnxError(f"it computes in {more['dtype']}; only float32 is written")
        axes = [axes] if isinstance(axes, int) else list(axes or range(len(source.shape)))
        if kind == "ReduceSum":
            return graph.add(kind, source, axes, keepdims=int(keep))
        return graph.add(kind, source, axes=axes, keepdims=int(keep))

    return reduced


def _along(kind: str) -> Translation:
    def along(graph: _Graph, source: _Value, axis: int, *_: Any) -> str:
        return graph.add(kind, source, axis=axis % len(source.shape))

    return along


def _joined(graph: _Graph, values: Sequence[Any], axis: int = 0) -> str:
    dimensions = next(len(it.shape) for it in values if isinstance(it, _Value))
    return graph.add("Concat", *values, axis=axis % dimensions)


def _stacked(graph: _Graph, values: Sequence[Any], axis: int = 0) -> str:
    axis %= next(len(it.shape) for it in values if isinstance(it, _Value)) + 1
    return graph.add("Concat", *(graph.add("Unsqueeze", it, [axis]) for it in values), axis=axis)


def _slice(graph: _Graph, source: _Value, axis: int = 0, start: Any = 0, end: Any = None, step: int = 1) -> str:
    return graph.add("Slice", source, [start or 0], [_LAST if end is None else end], [axis], [step])


def _flip(graph: _Graph, source: _Value, axes: Sequence[int]) -> str:
    return graph.add("Slice", source, [-1] * len(axes), [-_LAST] * len(axes), list(axes), [-1] * len(axes))


def _transposed(graph: _Graph, source: _Value, first: int = 0, second: int = 1) -> str:
    order = list(range(len(source.shape)))
    order[first], order[second] = order[second], order[first]
    return graph.add("Transpose", source, perm=order)


def _padded(graph: _Graph, source: _Value, pads: Sequence[int], value: float = 0.0) -> str:
    before, after = [0] * len(source.shape), [0] * len(source.shape)
    for number in range(len(pads) // 2):
        before[-1 - number], after[-1 - number] = pads[2 * number], pads[2 * number + 1]
    return graph.add("Pad", source, before + after, float(value))


def _softplus(graph: _Graph, source: _Value, beta: float = 1, threshold: float = 20) -> str:
    if (beta, threshold) != (1, 20):
        raise NoOnnxError("softplus with a beta or a threshold has no form in ONNX that hardy writes")
    return graph.add("Softplus", source)


def _dropped(_: _Graph, source: _Value, __: float, train: bool | None = None) -> str:
    if train:
        raise NoOnnxError("dropout is active in evaluation mode")
    return source.name


_SAME = ("clone", "alias", "detach", "lift_fresh_copy", "_to_copy", "contiguous")
_RESHAPED = ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten")
_ELEMENTWISE = {
    "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "erf": "Erf", "sin": "Sin", "cos": "Cos", "reciprocal": "Reciprocal", "sign": "Sign",
    "floor": "Floor", "ceil": "Ceil",
}  # fmt: skip
_TRANSLATIONS: dict[str, Translation] = {
    "convolution": _convolution,
    "addmm": lambda graph, bias, rows, weight, beta=1, alpha=1: graph.add(
        "Gemm", rows, weight, bias, alpha=float(alpha), beta=float(beta)
    ),
    "mm": lambda graph, rows, weight: graph.add("MatMul", rows, weight),
    "add": _sum,
    "sub": _difference,
    "rsub": lambda graph, first, second, alpha=1: _difference(graph, second, first, alpha=alpha),
    "mul": lambda graph, first, second: graph.add("Mul", _real(first), _real(second)),
    "div": lambda graph, first, second: graph.add("Div", _real(first), _real(second)),
    "pow": lambda graph, first, second: graph.add("Pow", _real(first), _real(second)),
    "maximum": lambda graph, first, second: graph.add("Max", first, second),
    "minimum": lambda graph, first, second: graph.add("Min", first, second),
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "native_group_norm": _group_norm,
    "native_dropout": _dropped,
    "leaky_relu": lambda graph, source, slope=0.01: graph.add("LeakyRelu", source, alpha=float(slope)),
    "elu": lambda graph, source, alpha=1.0: graph.add("Elu", source, alpha=float(alpha)),
    "silu": lambda graph, source: graph.add("Mul", source, graph.add("Sigmoid", source)),
    "gelu": _gelu,
    "softplus": _softplus,
    "hardtanh": lambda graph, source, low=-1.0, high=1.0: _clip(graph, source, low, high),
    "clamp": _clip,
    "clamp_min": _clip,
    "clamp_max": lambda graph, source, high: _clip(graph, source, None, high),
    "max_pool2d_with_indices": _max_pool,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "_adaptive_avg_pool2d": _adaptive_average,
    "mean": _reduced("ReduceMean"),
    "sum": _reduced("ReduceSum"),
    "amax": _reduced("ReduceMax"),
    "amin": _reduced("ReduceMin"),
    "logsumexp": _reduced("ReduceLogSumExp"),
    "_log_softmax": _along("LogSoftmax"),
    "_softmax": _along("Softmax"),
    "cat": _joined,
    "stack": _stacked,
    "slice": _slice,
    "select": lambda graph, source, axis, index: graph.add("Gather", source, torch.tensor(index), axis=axis),
    "flip": _flip,
    "permute": lambda graph, source, order: graph.add(
        "Transpose", source, perm=[it % len(source.shape) for it in order]
    ),
    "transpose": _transposed,
    "t": _transposed,
    "expand": lambda graph, source, sizes, **_: graph.add("Expand", source, [1 if it == -1 else it for it in sizes]),
    "constant_pad_nd": _padded,
}


def _model(graph: _Graph, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
    content = _message({
        1: graph.nodes, 2: "hardy", 5: graph.constants, 11: _typed(INPUT, inputs), 12: _typed(OUTPUT, outputs),
    })  # fmt: skip
    return _message({1: _IR_VERSION, 2: "hardy", 7: content, 8: _message({1: "", 2: _OPSET})})


def _typed(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = _message({1: [_message({1: it}) for it in shape]})
    return _message({1: name, 2: _message({1: _message({1: _TYPES[torch.float32], 2: dimensions})})})


def _node(kind: str, inputs: list[str], output: str, attributes: Mapping[str, Any]) -> bytes:
    encoded = [_attribute(name, value) for name, value in attributes.items()]
    return _message({1: inputs, 2: output, 3: output, 4: kind, 5: encoded})


def _attribute(name: str, value: int | float | list[int]) -> bytes:
    match value:
        case float():
            return _message({1: name, 2: value, 20: 1})
        case int():
            return _message({1: name, 3: value, 20: 2})
        case _:
            return _message({1: name, 8: list(value), 20: 7})


def _tensor(name: str, value: Tensor) -> bytes:
    content = np.ascontiguousarray(value.numpy()).astype(value.numpy().dtype.newbyteorder("<"), copy=False).tobytes()
    return _message({1: list(value.shape), 2: _TYPES[value.dtype], 8: name, 9: content})


Field: TypeAlias = "int | float | str | bytes"


def _message(fields: Mapping[int, Field | list[Any]]) -> bytes:
    """A protobuf message: by number, its fields; a list is a repeated one.

    https://protobuf.dev/programming-guides/encoding/
    """
    return b"".join(
        _field(number, it) for number, value in fields.items() for it in (value if isinstance(value, list) else [value])
    )


def _field(number: int, value: Field) -> bytes:
    match value:
        case int():
            return _varint(number << 3) + _varint(value)
        case float():
            return _varint(number << 3 | 5) + struct.pack("<f", value)
        case _:
            content = value.encode() if isinstance(value, str) else value
            return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while True:
        value, part = value >> 7, value & 127
        parts.append(part | (128 if value else 0))
        if not value:
            return bytes(parts)
