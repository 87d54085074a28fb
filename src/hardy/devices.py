"""The device to compute on."""

from __future__ import annotations

import torch

from hardy.errors import UsageError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is a CUDA device if there is one, else the CPU.

    Raises:
        UsageError: torch knows no such device, or the machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device '{name}' cannot be used: {str(error).splitlines()[0]}; try auto, cpu or cuda"
        ) from None
    return device


def describe(device: torch.device) -> str:
    """The device's name and hardware, for manifests."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
