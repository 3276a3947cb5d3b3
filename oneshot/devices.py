"""The device that a setting names."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """The device called ``name``, a CUDA device with its number; "auto" is CUDA where there is one.

    Raises:
        ValueError: no such device here, or one that computes nothing ("meta").
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=torch.device(name)).device
        if device.type == "meta":
            raise RuntimeError("it computes nothing; use 'cpu', 'cuda' or 'cuda:N'")
        return device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
