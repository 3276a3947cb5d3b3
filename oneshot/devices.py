"""The device that a setting names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from oneshot.processes import count


def resolve_device(name: str) -> torch.device:
    """The device called ``name``, a CUDA device with its number; "auto" is CUDA where there is one. Of several processes of a run
    each has a CUDA device of its own.

    Raises:
        ValueError: no such device here, or one that computes nothing ("meta"); or, for several processes, one with a number or
            fewer than there are processes on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if count() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise ValueError(f"device {name!r} is one, but each of {count()} processes takes its own of 'cuda'")
        here, devices = int(os.environ.get("LOCAL_WORLD_SIZE", count())), torch.cuda.device_count()
        if here > devices:
            raise ValueError(
                f"{here} processes of this run are here and {devices} CUDA devices: start one each, or use 'cpu'"
            )
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
    try:
        device = torch.empty(0, device=torch.device(name)).device
        if device.type == "meta":
            raise RuntimeError("it computes nothing; use 'cpu', 'cuda' or 'cuda:N'")
        return device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if "Expected one of" in reason:  # all that torch was ever built for
            reason = "there is no such kind; use 'auto', 'cpu', 'cuda' or 'cuda:N'"
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from None


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``, without waiting for all that a CUDA device has to do before."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, where it is wanted, CUDA computes the same numbers every time; torch warns of an operation that cannot."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product on the device
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
