"""What a corruption is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hardy.errors import UsageError
from hardy.validation import Images


@dataclass(frozen=True)
class Corruption:
    """One family of corruptions; calling it calls its function.

    Attributes:
        name: as in MNIST-C.
        description: what it does to an image, in one line.
        function: ``(images, rng, **settings) -> images`` on float32 (N, C, H, W) in [0, 1]; it need not clip, and what
            it does to an image depends on that image and its own random stream alone.
        settings: the keyword settings of each severity, from 1 on.
        default: the severity of the published set; for another family the default of its authors' code.
        published: whether it is one of the 15 of MNIST-C.
        smallest: the least height and width that every severity is defined for.
        largest: the greatest, or None.
        gray: whether it is defined for images of one channel only.
    """

    name: str
    description: str
    function: Callable[..., Images]
    settings: Sequence[Mapping[str, Any]] = ({},)
    default: int = 1
    published: bool = False
    smallest: int = 1
    largest: int | None = None
    gray: bool = False

    def __call__(self, *arguments: Any, **settings: Any) -> Images:
        return self.function(*arguments, **settings)

    @property
    def severities(self) -> range:
        return range(1, len(self.settings) + 1)

    def reason_undefined(self, shape: tuple[int, ...]) -> str | None:
        """Why this corruption is not defined for images of ``shape``, (C, H, W); None where it is."""
        channels, *sides = shape
        if self.gray and channels != 1:
            return f"it is defined for images of one channel, not of {channels}"
        if min(sides) < self.smallest:
            return f"it is defined for images of at least {self.smallest}x{self.smallest}, not of {_size(sides)}"
        if self.largest is not None and max(sides) > self.largest:
            return f"it is defined for images of at most {self.largest}x{self.largest}, not of {_size(sides)}"
        return None

    def check_severity(self, severity: int) -> None:
        """Raise :class:`UsageError` for a severity that this corruption does not have."""
        if severity not in self.severities:
            known = f"1 to {len(self.settings)}" if len(self.settings) > 1 else "1 alone"
            raise UsageError(f"corruption '{self.name}' has no severity {severity!r}; it has {known}")


def corruption(
    description: str, settings: Sequence[Mapping[str, Any]] = ({},), **more: Any
) -> Callable[[Callable[..., Images]], Corruption]:
    """Make a function a corruption of its name; the arguments are attributes of :class:`Corruption`."""
    return lambda function: Corruption(function.__name__, description, function, settings, **more)


def each(names: str, *severities: Any) -> tuple[dict[str, Any], ...]:
    """The settings of each severity, from their names and one value, or a tuple of values, per severity."""
    rows = (it if isinstance(it, tuple) else (it,) for it in severities)
    return tuple(dict(zip(names.split(), row, strict=True)) for row in rows)


def _size(sides: list[int]) -> str:
    return "x".join(map(str, sides))
