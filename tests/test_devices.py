"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from hardy.devices import choose_device, describe
from hardy.errors import UsageError


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert describe(torch.device("cpu")).startswith("cpu (")


@pytest.mark.parametrize("name", ["", "gpu", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"device '{name}' cannot be used: .*; try auto, cpu or cuda"):
        choose_device(name)
