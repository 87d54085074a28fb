"""The named recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hardy.registry import Registry
from hardy.training.objectives import Objective, Weight
from hardy.training.recipe import Recipe

# What An et al. train with; they report the best epoch on the test split, hardy the best on the validation split.
_AN_ET_AL: dict[str, Any] = {
    "epochs": 150,
    "batch_size": 120,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "exponential",
    "decay": 0.98,
    "averaging": 0.999,
    "augmentation": {"rotate": {"degrees": 20.0}, "translate": {"fraction": 0.2}},
}
# The study trained the same networks for one to five epochs without augmentation.
_STUDY: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 2e-3,
    "weight_decay": 0.0,
    "optimizer": "adamw",
    "schedule": "cosine",
    "averaging": 0.99,
}

COMPACT = Recipe(
    name="compact",
    description="hardy's small network; eight epochs with small shifts and turns, some 75 seconds on two cores",
    epochs=8,
    learning_rate=8e-3,
    averaging=0.99,
    label_smoothing=0.0,
    augmentation={"shift": {"pixels": 2}, "rotate": {"degrees": 10.0}},
)
# Against MNIST-C, without any of its 15 corruptions: no salt and pepper, shot noise, fog, spatter, motion blur, glass
# blur, dots, zigzags, stripes or edge detector. Rotation, shear, scale and translation stay below its severities.
AUGMENTED = Recipe(
    name="augmented",
    description="the small network against distribution shift, without MNIST-C's own corruptions; sixteen epochs",
    epochs=16,
    learning_rate=8e-3,
    averaging=0.995,
    augmentation={
        "affine": {"degrees": 20.0, "shear": 18.0, "scale": 0.25, "fraction": 0.07},
        "one_of:shape": {
            "probability": 0.5,
            "elastic": {"pixels": 1.0},
            "strokes": {"count": 3, "width": 3.0},
            "erase": {"area": 0.15},
        },
        "random_convolution": {"weight": 1.0, "probability": 0.2},
        "one_of:tone": {
            "probability": 0.55,
            "contrast": {"loss": 0.85},
            "shade": {"weight": 0.85},
            "invert": {},
            "invert_part": {"area": 1.0},
            "pixmix": {"beta": 3.0, "severity": 3.0},
        },
        "one_of:damage": {
            "probability": 0.4,
            "gaussian_noise": {"deviation": 0.25},
            "uniform_noise": {"amount": 0.6},
            "blur": {"deviation": 2.0},
        },
    },
)
FAST = Recipe(
    name="fast",
    description="the small network in one epoch: above 99 % in seconds",
    model_arguments={"width": 20},
    learning_rate=1e-2,
    averaging=0.98,
)
# The radius grows over the first third: from the start at its full size, training may never begin to learn.
_HARDENED: dict[str, Any] = {
    "model": "strided",
    "batch_size": 256,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "warm_up": 0.1,
    "averaging": 0.995,
}
_LINF = {"eps": 0.3, "steps": 5, "step_size": 0.1, "ramp": 0.3}
_BALLS = {"linf": 0.3, "l2": 2.0, "l1": 10.0, "steps": 10, "rel_step_size": 0.25, "ramp": 0.3}


def _hardened(name: str, description: str, epochs: int, loss: str, settings: dict[str, Any]) -> Recipe:
    return Recipe(name, description, epochs=epochs, objectives=(Objective(loss, settings),), **_HARDENED)


TRADES = _hardened(
    "trades",
    "adversarially trained for linf 0.3, six minutes on two cores",
    14,
    "trades",
    {**_LINF, "beta": 2.0},
)
HARDENED = (
    _hardened("madry", "cross-entropy on adversarial images, linf 0.3", 14, "adversarial", _LINF),
    _hardened(
        "fast-adversarial",
        "the fast gradient method with a guard, linf 0.3; three gradients per image",
        14,
        "adversarial",
        {"eps": 0.3, "steps": 1, "step_size": 0.375, "ramp": 0.3},
    ),
    _hardened(
        "free",
        "images and weights share their gradients, linf 0.3",
        14,
        "free",
        {"eps": 0.3, "replays": 4, "ramp": 0.3},
    ),
    TRADES,
    _hardened("mart", "MART, linf 0.3", 14, "mart", {**_LINF, "beta": 2.0}),
    _hardened("multi-norm", "linf 0.3, l2 2.0 and l1 10 at once, one norm per batch (E-AT)", 20, "eat", _BALLS),
    _hardened("multi-norm-max", "the same by the worst norm of each image (MAX)", 8, "worst_norm", _BALLS),
    _hardened("multi-norm-avg", "the same by the mean over the norms (AVG)", 8, "mean_norm", _BALLS),
    _hardened("multi-norm-msd", "the same by one search over the union (MSD)", 10, "msd", _BALLS),
)
# Most gradients go into one attack per image, in one norm per batch; the views of the recipe 'augmented' cost a tenth
# of them. The ramp leaves an attacker within linf 0.3 nothing but the gray edges of strokes. Levels let gray paper and
# faint ink pass it, beyond a margin that is a little wider than the ball, as some digits are not quite white.
FLAGSHIP_QUICK = Recipe(
    "flagship-quick",
    "strong in everything at once: three norms (E-AT), corruption-like views, and an input that ignores small changes",
    epochs=20,
    objectives=(
        Objective("eat", {"linf": 0.3, "l2": 2.0, "l1": 10.0, "steps": 5, "rel_step_size": 0.35, "ramp": 0.3}),
        Objective("views", {"augmentation": AUGMENTED.augmentation}),
    ),
    **{**_HARDENED, "batch_size": 128, "averaging": 0.998},
    model_arguments={"ramps": [0.5], "slope": 2.5, "levels": 0.33},
)
# The radius in training exceeds the one to certify, as boxes are larger than what they hold.
_STEADY: dict[str, Any] = {**_HARDENED, "model_arguments": {"steady_boxes": True}, "learning_rate": 2e-3, "epochs": 40}
CERTIFIED = (
    Recipe(
        "certified-0.1",
        "trained by interval bounds and one attack step to be certified at linf 0.1 (MTL-IBP)",
        objectives=(
            Objective("adversarial", {"eps": 0.1, "steps": 1, "step_size": 0.125, "ramp": 0.4}, Weight(0.5)),
            Objective("interval", {"eps": 0.15, "ramp": 0.4}, Weight(0.5)),
        ),
        gradient_clip=10.0,
        **_STEADY,
    ),
    Recipe(
        "certified-0.3",
        "trained by interval bounds to be certified at linf 0.3",
        objectives=(Objective("interval", {"eps": 0.35, "ramp": 0.4}),),
        gradient_clip=10.0,
        **_STEADY,
    ),
)
SMOOTHED = Recipe(
    "smoothed",
    "trained under Gaussian noise, to be certified in l2 by randomized smoothing",
    epochs=10,
    objectives=(Objective("randomized_smoothing", {"deviation": 0.5}),),
    **{**_HARDENED, "model_arguments": {"width": 16, "hidden": 128}, "averaging": 0.99},
)
GUARANTEED = Recipe(
    "guaranteed",
    "no sure answer near synthetic outliers, shown by interval bounds at linf 0.3 (GOOD)",
    objectives=(
        Objective("cross_entropy"),
        Objective("guaranteed_exposure", {"source": "synthetic", "eps": 0.3, "ramp": 0.4}, Weight(1.0, ramp=0.2)),
    ),
    gradient_clip=10.0,
    **{
        **_STEADY,
        "model_arguments": {"steady_boxes": True, "width": 16, "hidden": 128},
        "epochs": 10,
        "averaging": 0.99,
    },
)
_EXPOSURE = Objective("exposure", {"source": "synthetic"}, Weight(0.5))
_CONSISTENCY = Objective("consistency", {"severity": 3.0}, Weight(4.0))
COMBINED = (
    replace(
        COMPACT,
        name="exposed",
        description="the small network, unsure about outliers of hardy's own making",
        objectives=(Objective("cross_entropy"), _EXPOSURE),
    ),
    replace(
        COMPACT,
        name="exposed-energy",
        description="the same by a margin of the energy",
        objectives=(Objective("cross_entropy"), Objective("energy_margin", {"source": "synthetic"}, Weight(0.1))),
    ),
    replace(
        COMPACT,
        name="consistent",
        description="the small network, which answers alike on several views of an image (AugMix)",
        objectives=(Objective("cross_entropy"), _CONSISTENCY),
    ),
    replace(
        TRADES,
        name="all-round",
        description="TRADES, outliers moved by an attacker, and AugMix's views at once",
        objectives=(
            *TRADES.objectives,
            Objective(
                "exposure", {"source": "synthetic", "eps": 0.3, "steps": 3, "step_size": 0.15, "ramp": 0.3}, Weight(0.5)
            ),
            _CONSISTENCY,
        ),
    ),
)
CNN = Recipe(
    name="cnn",
    description="the study's CNN of 21,840 parameters",
    model="cnn",
    epochs=8,
    learning_rate=4e-3,
    averaging=0.99,
)


def _study_net(model: str, activation: str = "gelu") -> Recipe:
    suffix = "" if activation == "gelu" else f"-{activation}"
    return Recipe(
        name=model + suffix,
        description=f"the study's {model} network, three epochs",
        model=model,
        model_arguments={"activation": activation},
        **_STUDY,
    )


def _ensemble(name: str, description: str, members: list[Recipe]) -> Recipe:
    return Recipe(name=name, description=description, members=tuple(members))


_SIMPLE = ["kernel3", "kernel5", "kernel7", "kernel3-shallow", "kernel5-shallow"]

RECIPES: Registry[Recipe] = Registry(
    "recipe",
    [
        COMPACT,
        FAST,
        AUGMENTED,
        CNN,
        *HARDENED,
        FLAGSHIP_QUICK,
        *CERTIFIED,
        SMOOTHED,
        GUARANTEED,
        *COMBINED,
        *[_study_net(model) for model in _SIMPLE],
        _ensemble(
            "ensemble3", "the study's ensemble: 4,546,332 parameters, GELU", [_study_net(m) for m in _SIMPLE[:3]]
        ),
        _ensemble("ensemble3-relu", "the same with ReLU", [_study_net(m, "relu") for m in _SIMPLE[:3]]),
        _ensemble("ensemble5", "the ensemble and two shallower networks", [_study_net(m) for m in _SIMPLE]),
        _ensemble(
            "ensemble3-an",
            "the three networks as An et al. 2020 train them: 150 epochs with augmentation",
            [replace(_study_net(m, "relu"), **_AN_ET_AL) for m in _SIMPLE[:3]],
        ),
        _ensemble(
            "compact-ensemble",
            "three small networks, three epochs each",
            [replace(COMPACT, name=f"compact-{number}", epochs=3) for number in range(3)],
        ),
    ],
)


def register_recipe(recipe: Recipe) -> Recipe:
    """Make a recipe known by its name, also to the command line, and return it.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> from dataclasses import replace
        >>> import hardy.training
        >>> longer = replace(hardy.training.RECIPES["compact"], name="longer", epochs=20)
        >>> hardy.training.register_recipe(longer).epochs
        20
    """
    return RECIPES.add(recipe)
