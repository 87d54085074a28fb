"""Arrays that remember how they were made: scores written in NumPy, with gradients.

A detector's score is NumPy code on features. NumPy hands its functions over to arrays of other kinds that ask for it
(NEP 13 and 18), so the same code, a user's too, runs on :class:`Recorded` arrays, which PyTorch computes and derives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from torch import Tensor

_TINY = 1e-30
_LEAK = 0.1


class Recorded(NDArrayOperatorsMixin):
    """A tensor that NumPy's functions and operators take for an array; what none is known for raises a TypeError."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in _UFUNCS:
            return NotImplemented
        return Recorded(_UFUNCS[ufunc.__name__](*_alike(*inputs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _FUNCTIONS[func](*args, **kwargs) if func in _FUNCTIONS else NotImplemented

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("what is recorded for gradients is no NumPy array")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def T(self) -> Recorded:  # noqa: N802
        return Recorded(self.tensor.T)

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: Any) -> Recorded:
        return Recorded(self.tensor[_index(index)])

    def astype(self, dtype: Any, **_: Any) -> Recorded:
        return Recorded(self.tensor.to(_DTYPES[np.dtype(dtype)]))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Recorded:
        return _reduced(torch.sum, self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Recorded:
        return _reduced(torch.mean, self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Recorded:
        return _reduced(torch.amax, self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Recorded:
        return _reduced(torch.amin, self, axis, keepdims)

    def var(self, axis: Any = None, keepdims: bool = False) -> Recorded:
        return ((self - self.mean(axis, keepdims=True)) ** 2).mean(axis, keepdims)

    def clip(self, low: Any = None, high: Any = None) -> Recorded:
        """Beyond the limits a little slope is left, so that a search finds back."""
        cut = self.tensor.clamp(low, high)
        beyond = _LEAK * (self.tensor - cut)
        return Recorded(cut + beyond - beyond.detach())


_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def _tensor(value: Any) -> Tensor:
    return value.tensor if isinstance(value, Recorded) else torch.as_tensor(np.asarray(value))


def _alike(*values: Any) -> list[Any]:
    """Tensors of one floating dtype on one device; numbers stay numbers."""
    recorded = next(value.tensor for value in values if isinstance(value, Recorded))
    tensors = [value if isinstance(value, int | float) else _tensor(value).to(recorded.device) for value in values]
    dtypes = [it.dtype for it in tensors if isinstance(it, Tensor) and it.is_floating_point()]
    widest = torch.float64 if torch.float64 in dtypes else dtypes[0]
    return [it.to(widest) if isinstance(it, Tensor) else torch.tensor(it, dtype=widest) for it in tensors]


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(each) for each in index)
    return torch.from_numpy(index) if isinstance(index, np.ndarray) else index


def _reduced(function: Callable[..., Tensor], values: Any, axis: Any = None, keepdims: bool = False) -> Recorded:
    tensor = _tensor(values)
    return Recorded(function(tensor, dim=tuple(range(tensor.ndim)) if axis is None else axis, keepdim=keepdims))


def _root(values: Tensor) -> Tensor:
    """The square root, with a slope of 0 at 0 in place of an infinite one."""
    return torch.where(values > _TINY, values, torch.full_like(values, _TINY)).sqrt()


def _joined(function: Callable[..., Tensor]) -> Callable[..., Recorded]:
    def join(arrays: Sequence[Any], axis: int = 0) -> Recorded:
        return Recorded(function(_alike(*arrays), dim=axis))

    return join


def _column_stack(arrays: Sequence[Any]) -> Recorded:
    return Recorded(torch.cat([it[:, None] if it.ndim == 1 else it for it in _alike(*arrays)], dim=1))


def _norm(values: Any, axis: Any = None, keepdims: bool = False) -> Recorded:
    return np.sqrt((values**2).sum(axis=axis, keepdims=keepdims))


def _clip(values: Any, low: Any = None, high: Any = None) -> Recorded:
    return values.clip(low, high)


def _sort(values: Any, axis: int = -1) -> Recorded:
    return Recorded(_tensor(values).sort(dim=axis).values)


def _searchsorted(table: Any, values: Any, side: str = "left") -> Recorded:
    """The place in a table, which is a step function, with the slope of the straight lines between its entries."""
    steps, given = torch.as_tensor(np.asarray(table)), _tensor(values)
    steps = steps.to(given)
    exact = torch.searchsorted(steps, given.detach().contiguous(), side=side).to(given.dtype)
    above = exact.long().clamp(1, len(steps) - 1)
    gap = (steps[above] - steps[above - 1]).clamp_min(_TINY)
    inside = (exact > 0) & (exact < len(steps)) & (gap > _TINY)
    line = torch.where(inside, given / gap, 0.0 * given)
    # Beyond the ends every place is the same, and a search has to find back.
    span = (steps[-1] - steps[0]).clamp_min(_TINY)
    line = torch.where(inside, line, given * (len(steps) / span))
    return Recorded(exact + line - line.detach())


_UFUNCS: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "subtract": torch.subtract,
    "multiply": torch.multiply,
    "divide": torch.divide,
    "power": torch.pow,
    "negative": torch.negative,
    "absolute": torch.abs,
    "square": torch.square,
    "sqrt": _root,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "tanh": torch.tanh,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "matmul": torch.matmul,
}
_FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    np.sum: lambda values, axis=None, keepdims=False: _reduced(torch.sum, values, axis, keepdims),
    np.mean: lambda values, axis=None, keepdims=False: _reduced(torch.mean, values, axis, keepdims),
    np.max: lambda values, axis=None, keepdims=False: _reduced(torch.amax, values, axis, keepdims),
    np.min: lambda values, axis=None, keepdims=False: _reduced(torch.amin, values, axis, keepdims),
    np.concatenate: _joined(torch.cat),
    np.stack: _joined(torch.stack),
    np.column_stack: _column_stack,
    np.clip: _clip,
    np.sort: _sort,
    np.partition: lambda values, kth, axis=-1: _sort(values, axis),  # noqa: ARG005
    np.searchsorted: _searchsorted,
    np.linalg.norm: _norm,
}
