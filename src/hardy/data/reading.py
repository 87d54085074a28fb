"""How a user's images are read, as part of their dataset's name: ``photos?resize=32x24&test=0.2``.

So a name, wherever it is stored, loads the same images again, resized and split in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from hardy.errors import UsageError, unknown

MAX_SIDE = 4096
_OPTIONS = ("resize", "channels", "test", "validation")


@dataclass(frozen=True)
class Reading:
    """A path, and how the images there are read.

    Attributes:
        path: a folder, or an ``.npz`` or ``.npy`` file.
        resize: (height, width) that images are resized to, so that they cover it, and cropped to about their center.
        channels: 1 or 3, what images are converted to.
        test: the share that becomes the test split, where the data has none.
        validation: the share that becomes the validation split.
    """

    path: Path
    resize: tuple[int, int] | None = None
    channels: int | None = None
    test: float | None = None
    validation: float | None = None

    @classmethod
    def of(cls, name: str | Path) -> Reading:
        """Take a name apart. A path that exists as it stands is taken as it is.

        Raises:
            UsageError: an unknown option, or a value that does not fit it.
        """
        if isinstance(name, Path) or "?" not in name or Path(name).exists():
            return cls(Path(name))
        path, _, options = name.rpartition("?")
        reading = cls(Path(path))
        for option in options.split("&"):
            key, _, value = option.partition("=")
            reading = reading.with_option(key, value)
        return reading

    def with_option(self, key: str, value: str) -> Reading:
        """The same with one option given as text; an empty text changes nothing."""
        if key not in _OPTIONS:
            raise unknown(f"option of {self.path}", key, _OPTIONS)
        return replace(self, **{key: _parse(key, value)}) if value else self

    def __str__(self) -> str:
        size = f"{self.resize[1]}x{self.resize[0]}" if self.resize else None
        values = zip(_OPTIONS, (size, self.channels, self.test, self.validation), strict=True)
        options = "&".join(f"{key}={value}" for key, value in values if value is not None)
        return f"{self.path}?{options}" if options else str(self.path)


def _parse(key: str, value: str) -> tuple[int, int] | int | float:
    if key == "resize":
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        width, height = map(int, match.groups()) if match else (0, 0)
        if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
            raise UsageError(f"resize={value}: write WIDTHxHEIGHT in pixels, each up to {MAX_SIDE}, for example 32x32")
        return height, width
    if key == "channels":
        if value not in ("1", "3"):
            raise UsageError(f"channels={value}: images have 1 channel, gray, or 3, RGB")
        return int(value)
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0.0 < share < 1.0:
        raise UsageError(f"{key}={value}: a share of the images lies between 0 and 1, for example 0.2")
    return share
