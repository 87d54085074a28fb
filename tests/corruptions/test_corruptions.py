"""What every corruption keeps: range, shape, determinism, independence of the neighbours, the order of severities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.classifiers import some_digits
from helpers.docs import run_examples

from hardy.corruptions import CORRUPTIONS, PUBLISHED, VALIDATION, Corruption, corrupt, corrupt_with, register
from hardy.data import DATASETS
from hardy.errors import ContractError, UsageError
from hardy.rng import Randomness

each = pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=CORRUPTIONS)

# Their settings do not all get stronger from one severity to the next: so they are in their authors' code.
UNORDERED = {"saturate", "elastic_transform", "pixelate", "spatter", "fog"}


def digits(count: int = 24) -> tuple[torch.Tensor, Randomness]:
    images, _, indices = some_digits(count)
    return images, Randomness(0, indices)


def test_the_published_families_are_those_of_the_published_files() -> None:
    assert set(PUBLISHED) == set(DATASETS["mnist-c"].splits) - {"identity"}
    assert len(PUBLISHED) == 15
    assert set(PUBLISHED) | set(VALIDATION) == CORRUPTIONS.keys()
    assert not set(PUBLISHED) & set(VALIDATION)


@each
def test_a_corruption_is_registered_under_its_name_and_says_what_it_does(corruption: Corruption) -> None:
    assert CORRUPTIONS[corruption.name] is corruption
    assert corruption.description
    assert corruption.default in corruption.severities
    assert len(corruption.severities) in (1, 5)


@each
def test_corrupted_images_are_images_of_the_same_kind(corruption: Corruption) -> None:
    images, rng = digits()
    before = images.clone()
    for severity in corruption.severities:
        corrupted = corrupt_with(images, corruption.name, severity, rng)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == torch.float32
        assert corrupted.isfinite().all()
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        assert not torch.equal(corrupted, images)
    assert torch.equal(images, before)
    default = corrupt_with(images, corruption.name, corruption.default, rng)
    assert torch.equal(corrupt_with(images, corruption.name, None, rng), default)


@each
def test_what_happens_to_an_image_is_its_own(corruption: Corruption) -> None:
    images, rng = digits()
    together = corrupt_with(images, corruption.name, corruption.default, rng)
    some = torch.tensor([7, 3, 11])
    apart = corrupt_with(images[some], corruption.name, corruption.default, rng.select(some))
    assert torch.allclose(apart, together[some], atol=1e-6)
    alone = corrupt_with(images[5:6], corruption.name, corruption.default, rng.select(torch.tensor([5])))
    assert torch.allclose(alone, together[5:6], atol=1e-6)


@each
def test_the_seed_decides_what_is_random(corruption: Corruption) -> None:
    images, rng = digits()
    first = corrupt_with(images, corruption.name, corruption.default, rng)
    assert torch.equal(corrupt_with(images, corruption.name, corruption.default, rng), first)
    other = corrupt_with(images, corruption.name, corruption.default, Randomness(1, rng.examples))
    random = {
        "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "rotate", "translate", "fog", "spatter",
        "dotted_line", "zigzag", "gaussian_noise", "speckle_noise", "elastic_transform", "line",
    }  # fmt: skip
    assert torch.equal(other, first) == (corruption.name not in random)


several = [it for it in CORRUPTIONS.values() if len(it.severities) > 1]


@pytest.mark.parametrize("corruption", several, ids=[it.name for it in several])
def test_a_greater_severity_does_more_damage(corruption: Corruption) -> None:
    images, rng = digits(200)
    damage = [
        float((corrupt_with(images, corruption.name, severity, rng) - images).square().mean())
        for severity in corruption.severities
    ]
    assert (np.diff(damage) > 0).all() == (corruption.name not in UNORDERED)


@each
def test_other_sizes_and_channels_work_where_the_corruption_is_defined(corruption: Corruption) -> None:
    rng = Randomness(0, torch.arange(2))
    for shape in ((1, 32, 32), (3, 32, 32), (1, 20, 31)):
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        if corruption.gray and shape[0] == 3:
            with pytest.raises(UsageError, match=f"{corruption.name}.*one channel"):
                corrupt_with(images, corruption.name, None, rng)
        else:
            assert corrupt_with(images, corruption.name, None, rng).shape == images.shape
    for severity in corruption.severities:
        smallest = torch.rand(2, 1, corruption.smallest, corruption.smallest)
        assert corrupt_with(smallest, corruption.name, severity, rng).isfinite().all()
    if corruption.smallest > 1:
        with pytest.raises(UsageError, match=f"{corruption.name}.*at least {corruption.smallest}x"):
            corrupt_with(torch.zeros(2, 1, corruption.smallest - 1, 40), corruption.name, None, rng)


def test_fog_ends_where_its_map_ends() -> None:
    rng = Randomness(0, torch.arange(1))
    assert corrupt_with(torch.ones(1, 1, 256, 5), "fog", 1, rng).shape == (1, 1, 256, 5)
    with pytest.raises(UsageError, match="at most 256x256, not of 257x5"):
        corrupt_with(torch.ones(1, 1, 257, 5), "fog", 1, rng)


def test_quantized_images_have_the_values_of_8_bits() -> None:
    images, rng = digits()
    exact = corrupt_with(images, "gaussian_noise", 1, rng)
    rounded = corrupt_with(images, "gaussian_noise", 1, rng, quantized=True)
    assert torch.equal((rounded * 255).round() / 255, rounded)
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() <= 0.5 / 255 + 1e-6


def test_a_seed_and_an_array_are_enough() -> None:
    images, _ = digits()
    rng = Randomness(3, torch.arange(len(images)))
    for name in ("shot-noise", "fog", "canny_edges"):
        expected = corrupt_with(images, name, None, rng)
        assert torch.equal(corrupt(images, name, seed=3), expected)
        found = corrupt(images.numpy(), name, seed=3)
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected.numpy())
    assert not torch.equal(corrupt(images, "fog", severity=1), corrupt(images, "fog", severity=2))


def test_a_corruption_of_ones_own_is_used_by_its_name() -> None:
    def darker(images: torch.Tensor, rng: Randomness, *, factor: float) -> torch.Tensor:
        """Every pixel darker."""
        return factor * images

    severities = [{"factor": 0.8}, {"factor": 0.5}]
    with pytest.raises(UsageError, match="no severity 3; it has 1 to 2"):
        register(name="darker", severities=severities, default=3)(darker)
    with pytest.raises(UsageError, match="there is a corruption 'fog' already"):
        register(name="fog")(darker)
    try:
        assert register(name="darker", severities=severities)(darker) is darker
        images, _ = digits()
        assert torch.equal(corrupt(images, "darker", severity=2), 0.5 * images)
        assert CORRUPTIONS["darker"].description == "Every pixel darker"
        assert not CORRUPTIONS["darker"].published
    finally:
        CORRUPTIONS.remove("darker")


@pytest.mark.parametrize("function", [corrupt, register])
def test_its_example_runs(function: Callable[..., object]) -> None:
    run_examples(function, function.__name__)


def test_no_images_are_no_trouble() -> None:
    assert corrupt_with(torch.zeros(0, 1, 28, 28), "fog", None, Randomness(0, torch.arange(0))).shape == (0, 1, 28, 28)


@pytest.mark.parametrize(
    ("name", "severity", "message"),
    [
        ("foggy", 1, "unknown corruption 'foggy'; did you mean fog"),
        ("shot-nois", 1, "did you mean shot_noise"),
        ("fog", 0, "'fog' has no severity 0; it has 1 to 5"),
        ("fog", 6, "'fog' has no severity 6"),
        ("stripe", 2, "'stripe' has no severity 2; it has 1 alone"),
    ],
)
def test_unknown_families_and_severities_are_refused(name: str, severity: int, message: str) -> None:
    images, rng = digits()
    with pytest.raises(UsageError, match=message):
        corrupt_with(images, name, severity, rng)


def test_images_outside_the_contract_are_refused() -> None:
    images, rng = digits()
    with pytest.raises(ContractError, match="nan"):
        corrupt_with(images.masked_fill(images > 0.5, torch.nan), "fog", None, rng)
    with pytest.raises(ContractError, match="0 to 255"):
        corrupt_with(images * 255, "fog", None, rng)
    with pytest.raises(ContractError, match="float32"):
        corrupt_with((images * 255).to(torch.uint8), "fog", None, rng)
    with pytest.raises(UsageError, match="3 random streams for 24 images"):
        corrupt_with(images, "fog", None, rng.select(torch.arange(3)))
