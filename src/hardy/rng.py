"""Random numbers that belong to an example, not to a batch.

Every number is a pure function of (seed, purpose, example, draw, position), computed by the counter-based generator
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). So what happens to image 17 does
not depend on its neighbours, on the batch size, on the order of work or on the machine that does it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def derive(seed: int, *purpose: str | int) -> int:
    """A 64-bit key for one purpose of one seed; different purposes give unrelated keys."""
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def host_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for work that is not per example: orders, bootstrap resamples, layouts."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *purpose)))


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 on int64 tensors that hold unsigned 32-bit words. Products wrap modulo 2^64, as they should."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True, eq=False)
class Randomness:
    """The random streams of a batch of examples. Values are immutable: the same call gives the same numbers.

    Attributes:
        seed: the seed of the run.
        examples: int64 (N,), which example each row is; its device is where the numbers are made.
        purpose: what the numbers are for; :meth:`fold` extends it.

    ``draw`` numbers the calls within one purpose, for example the step of an iterative attack (below 2^32).
    """

    seed: int
    examples: Tensor
    purpose: tuple[str | int, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def fold(self, *purpose: str | int) -> Randomness:
        """Unrelated streams for the same examples."""
        return replace(self, purpose=self.purpose + purpose)

    def select(self, index: Tensor) -> Randomness:
        """The streams of some of the examples: ``index`` is a mask or positions."""
        return replace(self, examples=self.examples[index])

    def bits(self, count: int, *, draw: int = 0) -> Tensor:
        """int64 (N, count), each uniform on the integers from 0 to 2^32 - 1."""
        blocks = -(-count // 4)
        device = self.examples.device
        examples = self.examples.reshape(-1, 1)
        block = torch.arange(blocks, device=device).expand(len(examples), blocks)
        zero = torch.zeros_like(block)
        words = philox(
            (block, zero + draw, zero + (examples & _MASK), zero + ((examples >> 32) & _MASK)),
            derive(self.seed, *self.purpose),
        )
        return torch.stack(words, dim=-1).reshape(len(examples), 4 * blocks)[:, :count]

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, draw: int = 0) -> Tensor:
        """float32 (N, *shape), uniform on [low, high), up to rounding."""
        unit = (self.bits(math.prod(shape), draw=draw) >> 8).to(torch.float32) * 2.0**-24
        return (low + (high - low) * unit).reshape(-1, *shape)

    def normal(self, *shape: int, draw: int = 0) -> Tensor:
        """float32 (N, *shape), standard normal (Box and Muller), cut at 5.8 standard deviations."""
        count = math.prod(shape)
        half = -(-count // 2)
        unit = (self.bits(2 * half, draw=draw) >> 8).to(torch.float32) * 2.0**-24
        radius = torch.sqrt(-2.0 * torch.log1p(-unit[:, :half]))
        angle = 2.0 * math.pi * unit[:, half:]
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].reshape(-1, *shape)

    def many(self, count: int, *, draw: int = 0) -> Tensor:
        """float32 (N, count), uniform on [-1, 1) in steps of 2^-15, for tens of thousands of numbers an example.

        From NumPy's Philox4x64-10, an example at a time on the host, which is many times as fast as :meth:`bits`.
        """
        key = derive(self.seed, "many", *self.purpose)
        numbers = np.empty((len(self), count), np.float32)
        for row, example in enumerate(self.examples.tolist()):
            words = np.random.Philox(key=key, counter=[0, 0, draw, example]).random_raw(-(-count // 4))
            np.multiply(words.view("<i2")[:count], np.float32(2.0**-15), out=numbers[row])
        return torch.from_numpy(numbers).to(self.examples.device)

    def integers(self, high: int, *shape: int, draw: int = 0) -> Tensor:
        """int64 (N, *shape), uniform on 0 … high-1; ``high`` at most 2^16, where the bias is below 2^-16."""
        if not 0 < high <= 1 << 16:
            raise ValueError(f"high must be from 1 to 65536, not {high}")
        return ((self.bits(math.prod(shape), draw=draw) * high) >> 32).reshape(-1, *shape)

    def signs(self, *shape: int, draw: int = 0) -> Tensor:
        """float32 (N, *shape), -1 or 1 with equal chance."""
        return (2 * self.integers(2, *shape, draw=draw) - 1).to(torch.float32)
