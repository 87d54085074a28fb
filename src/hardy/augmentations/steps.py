"""The augmentations of a recipe: which, in what order, on which examples, and what becomes of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from hardy.augmentations.chains import augmix
from hardy.augmentations.filters import blur, random_convolution
from hardy.augmentations.geometry import affine, elastic, rotate, scale, shear, shift, translate
from hardy.augmentations.mixing import Mix, cutmix, mixup
from hardy.augmentations.noise import gaussian_noise, impulse_noise, uniform_noise
from hardy.augmentations.occlusion import erase, invert_part, strokes
from hardy.augmentations.pixmix import pixmix
from hardy.augmentations.tones import contrast, invert, shade
from hardy.errors import UsageError, unknown
from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.validation import Images, Targets, check_settings

Augmentation: TypeAlias = Callable[..., Images]
Mixing: TypeAlias = Callable[..., Mix]
Settings: TypeAlias = Mapping[str, Any]
"""The numbers that an augmentation takes, and ``probability``; of ``one_of``, steps, and ``probability``."""

Steps: TypeAlias = Mapping[str, Settings]

ONE_OF = "one_of"
PROBABILITY = "probability"

AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation",
    (
        rotate,
        translate,
        shift,
        scale,
        shear,
        affine,
        elastic,
        gaussian_noise,
        uniform_noise,
        impulse_noise,
        erase,
        invert_part,
        strokes,
        contrast,
        invert,
        shade,
        blur,
        random_convolution,
        augmix,
        pixmix,
    ),
    name_of=lambda function: function.__name__,
)
MIXINGS: Registry[Mixing] = Registry("augmentation", (mixup, cutmix), name_of=lambda function: function.__name__)


def register(function: Augmentation) -> Augmentation:
    """Register an augmentation of one's own, under its function's name: a decorator.

    It takes float32 images (N, C, H, W) in [0, 1], the examples' random streams, and settings as keywords, and gives
    images of the same shape in [0, 1]; what becomes of an image depends on that image and its streams alone.

    Raises:
        UsageError: the name is taken.

    >>> @hardy.augmentations.register
    ... def dim(images, rng, *, factor: float):
    ...     return factor * images
    >>> hardy.augmentations.check_augmentation({"dim": {"factor": 0.5}})
    >>> hardy.augmentations.AUGMENTATIONS.remove("dim")
    """
    return AUGMENTATIONS.add(function)


def _name(key: str) -> str:
    """``blur`` of ``blur:strong``: what follows the colon tells two steps of one augmentation apart."""
    return key.partition(":")[0]


def check_augmentation(steps: Steps) -> None:
    """Raise :class:`UsageError` for an unknown name or wrong settings, before anything is trained."""
    known = {**AUGMENTATIONS, **MIXINGS}
    for key, settings in steps.items():
        name, what = _name(key), f"augmentation '{key}'"
        if name not in {*known, ONE_OF}:
            raise unknown("augmentation", name, {*known, ONE_OF})
        if not isinstance(settings, Mapping):
            raise UsageError(f"{what}: {settings!r}; its settings are a mapping of names to values")
        probability = settings.get(PROBABILITY, 1.0)
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise UsageError(f"{what}: {PROBABILITY} is {probability!r}; it lies from 0 to 1")
        own = _without_probability(settings)
        if name != ONE_OF:
            check_settings(what, known[name], own)
        elif not own:
            raise UsageError(f"{what}: it names no augmentation to choose from")
        else:
            check_augmentation(own)


def mixes(steps: Steps) -> bool:
    """Whether any of these steps mixes labels, so that targets have to be soft."""
    return any(
        _name(key) in MIXINGS or (_name(key) == ONE_OF and mixes(_without_probability(settings)))
        for key, settings in steps.items()
    )


def augment(images: Images, targets: Targets, rng: Randomness, steps: Steps) -> tuple[Images, Targets]:
    """Apply the steps in order, each with its own random streams.

    A key is an augmentation's name, or that, a colon and a word of one's own where an augmentation comes twice.
    ``probability`` among the settings applies a step to each example with that chance; ``one_of`` applies to each
    example one of its steps, all with the same chance.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        targets: of the images; float32 (N, K) where a step mixes them (see :func:`mixes`).
        rng: the streams of these examples.
        steps: checked by :func:`check_augmentation`.
    """
    for key, settings in steps.items():
        images, targets = _step(images, targets, rng.fold(key), key, settings)
    return images, targets


def _step(images: Images, targets: Targets, rng: Randomness, key: str, settings: Settings) -> tuple[Images, Targets]:
    own = _without_probability(settings)
    if PROBABILITY in settings:
        chosen = rng.fold(PROBABILITY).uniform() < settings[PROBABILITY]
        return _on_some(images, targets, rng, chosen, key, own)
    name = _name(key)
    if name == ONE_OF:
        choice = rng.fold(ONE_OF).integers(len(own))
        for number, (option, option_settings) in enumerate(own.items()):
            images, targets = _on_some(images, targets, rng.fold(option), choice == number, option, option_settings)
        return images, targets
    if name in MIXINGS:
        mix = MIXINGS[name](images, rng, **own)
        weight = mix.weight[:, None]
        return mix.images, weight * targets + (1.0 - weight) * targets[mix.partner]
    return AUGMENTATIONS[name](images, rng, **own), targets


def _on_some(
    images: Images, targets: Targets, rng: Randomness, chosen: Tensor, key: str, settings: Settings
) -> tuple[Images, Targets]:
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return images, targets
    some = _step(images[rows], targets[rows], rng.select(rows), key, settings)
    return images.index_copy(0, rows, some[0]), targets.index_copy(0, rows, some[1])


def _without_probability(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != PROBABILITY}
