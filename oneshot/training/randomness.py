"""Randomness as a function of (seed, purpose, step), so that a run continued from a checkpoint draws what it would have drawn."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any values that print alike on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def make_generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by ``derive_seed``."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextlib.contextmanager
def seeded(*parts: object, device: torch.device | None = None) -> Iterator[None]:
    """Inside, the global generators of torch, numpy and Python start from ``derive_seed(*parts)``; afterwards they are as before,
    of CUDA that of ``device``. For code that takes no generator: dropout, initialisation, timm's mixup.
    """
    seed = derive_seed(*parts)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    is_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
