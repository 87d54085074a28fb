"""Random streams: the published vectors of the generator, independence of everything but the key, and distributions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from hardy.rng import Randomness, derive, host_generator, philox

MANY = 20_000
DRAWS = {
    "bits": lambda rng, **options: rng.bits(6, **options),
    "uniform": lambda rng, **options: rng.uniform(2, 3, **options),
    "normal": lambda rng, **options: rng.normal(1, 5, **options),
    "integers": lambda rng, **options: rng.integers(50_000, 7, **options),
    "signs": lambda rng, **options: rng.signs(64, **options),
}


def one_each(count: int = MANY, *purpose: str | int) -> Randomness:
    return Randomness(0, torch.arange(count), purpose)


def p_of_uniform(values: Tensor) -> float:
    return stats.kstest(values.flatten().numpy(), "uniform").pvalue


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    c0, c1, c2, c3 = (torch.tensor([int(word, 16)]) for word in counter.split())
    low, high = (int(word, 16) for word in key.split())
    words = philox((c0, c1, c2, c3), low | high << 32)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


@given(
    examples=st.lists(st.integers(0, 2**62), min_size=1, max_size=12, unique=True),
    seed=st.integers(-(2**63), 2**64),
    draw=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_numbers_do_not_depend_on_neighbours_or_order(
    examples: list[int], seed: int, draw: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(examples))), min_size=1, max_size=12))
    rng = Randomness(seed, torch.tensor(examples), ("purpose",))
    for take in DRAWS.values():
        together = take(rng, draw=draw)
        apart = take(Randomness(seed, torch.tensor([examples[index] for index in chosen]), ("purpose",)), draw=draw)
        assert torch.equal(together[chosen], apart)


@pytest.mark.parametrize("name", DRAWS)
def test_batches_of_any_size_give_the_same_images(name: str) -> None:
    rng = one_each(100)
    whole = DRAWS[name](rng)
    for size in (1, 7, 64):
        parts = [DRAWS[name](rng.select(index)) for index in torch.arange(100).split(size)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("name", DRAWS)
def test_every_part_of_the_key_gives_another_stream(name: str) -> None:
    examples = torch.arange(10)
    rng = Randomness(3, examples, ("purpose", 1))
    streams = [
        DRAWS[name](rng),
        DRAWS[name](rng, draw=1),
        DRAWS[name](rng, draw=2**32 - 1),
        DRAWS[name](Randomness(4, examples, ("purpose", 1))),
        DRAWS[name](Randomness(3, examples, ("purpose", "1"))),
        DRAWS[name](Randomness(3, examples, ("purpose", 2))),
        DRAWS[name](Randomness(3, examples, (1, "purpose"))),
        DRAWS[name](rng.fold("more")),
        DRAWS[name](Randomness(3, examples + 2**32, ("purpose", 1))),
        DRAWS[name](Randomness(3, examples + 10, ("purpose", 1))),
    ]
    rows = torch.cat([stream.reshape(10, -1) for stream in streams])
    assert len(rows.unique(dim=0)) == len(rows)


def test_folding_twice_is_folding_by_both() -> None:
    rng = one_each(5)
    assert torch.equal(rng.fold("a").fold(1).bits(4), rng.fold("a", 1).bits(4))


def test_select_takes_a_mask_or_positions() -> None:
    rng = one_each(6)
    mask = torch.tensor([True, False, False, True, False, True])
    assert torch.equal(rng.select(mask).bits(3), rng.bits(3)[mask])
    assert torch.equal(rng.select(torch.tensor([5, 0])).bits(3), rng.bits(3)[[5, 0]])
    assert len(rng.select(mask)) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: one_each(1, "positions").uniform(MANY),
        lambda: one_each(MANY, "examples").uniform(),
        lambda: torch.stack([one_each(1, "draws").uniform(draw=draw) for draw in range(2000)]),
        lambda: torch.stack([Randomness(seed, torch.tensor([0])).uniform() for seed in range(2000)]),
    ],
    ids=["positions", "examples", "draws", "seeds"],
)
def test_uniform_along_every_part_of_the_key(make: Callable[[], Tensor]) -> None:
    values = make()
    assert p_of_uniform(values) > 1e-3
    flat = values.flatten().double()
    neighbours = torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1]
    assert abs(float(neighbours)) < 4 / math.sqrt(len(flat))


def test_uniform_has_its_bounds_shape_and_type() -> None:
    values = one_each().uniform(2, low=-3.0, high=5.0)
    assert values.shape == (MANY, 2)
    assert values.dtype == torch.float32
    assert values.min() >= -3.0
    assert values.max() <= 5.0
    assert p_of_uniform((values + 3.0) / 8.0) > 1e-3
    assert one_each(4).uniform().shape == (4,)
    assert one_each(0).uniform(3).shape == (0, 3)


def test_normal_is_standard_normal() -> None:
    values = one_each(2000).normal(7)
    assert values.dtype == torch.float32
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    # Both halves of Box and Muller's pairs, and what they have to do with each other.
    correlation = np.corrcoef(values.double().numpy().T)
    assert np.abs(correlation - np.eye(7)).max() < 4 / math.sqrt(2000)
    assert stats.kstest((values[:, 0] ** 2 + values[:, 4] ** 2).numpy(), "chi2", args=(2,)).pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 10, 1000])
def test_integers_are_uniform_below_their_bound(high: int) -> None:
    values = one_each().integers(high, 2)
    assert values.dtype == torch.int64
    counts = torch.bincount(values.flatten(), minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_integers_reach_the_largest_bound_and_refuse_a_larger_one() -> None:
    values = one_each(50_000).integers(1 << 16, 8)
    assert int(values.min()) == 0
    assert int(values.max()) == (1 << 16) - 1
    for high in (0, -1, (1 << 16) + 1):
        with pytest.raises(ValueError, match=f"not {high}"):
            one_each(2).integers(high)


def test_signs_are_fair() -> None:
    signs = one_each().signs()
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert stats.binomtest(int((signs > 0).sum()), MANY).pvalue > 1e-3


def test_host_generators_repeat_and_differ_by_seed_and_purpose() -> None:
    first = host_generator(0, "order", 3).permutation(100)
    assert np.array_equal(first, host_generator(0, "order", 3).permutation(100))
    for other in (host_generator(1, "order", 3), host_generator(0, "order", 4), host_generator(0, "order")):
        assert not np.array_equal(first, other.permutation(100))


def test_keys_are_64_bits_and_keep_the_parts_of_a_purpose_apart() -> None:
    purposes = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), (1,), ("1",), (1, 1), (11,), ("a", 1)]
    keys = {derive(seed, *purpose) for seed in (0, 1, 11, -1, 2**70) for purpose in purposes}
    assert len(keys) == 5 * len(purposes)
    assert all(0 <= key < 2**64 for key in keys)
    assert any(key >= 2**63 for key in keys)
