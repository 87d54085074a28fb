"""What is fitted must not have seen what it is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hardy.data import Dataset
from hardy.errors import UsageError


def check_disjoint(fitted_on: Dataset, measured_on: Dataset) -> None:
    """Raise :class:`UsageError` where an image that something is fitted on is also one that it is measured on.

    Images are compared by the hash of their pixels, as float32 in [0, 1].
    """
    measured = set(_hashes(measured_on))
    shared = [place for place, digest in enumerate(_hashes(fitted_on)) if digest in measured]
    if shared:
        raise UsageError(
            f"{len(shared)} of {len(fitted_on)} images of {fitted_on.name} are in {measured_on.name} too, the first at "
            f"index {shared[0]}; what a calibrator is fitted on must not be what it is measured on"
        )


def _hashes(dataset: Dataset) -> Iterator[bytes]:
    for place in range(len(dataset)):
        pixels = dataset.floats(slice(place, place + 1)).numpy()
        yield hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
