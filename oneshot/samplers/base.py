"""What every sampler does: say which architectures one training step uses."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace


class Sampler(ABC):
    """Chooses the architectures of each training step; a function of the seed, the step and what ``update`` was told.

    Attributes:
        teacher_first: whether the first architecture of a step teaches the others (in-place distillation).
    """

    teacher_first: bool = False

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self.space = space
        self.seed = seed

    @abstractmethod
    def sample(self, step: int) -> list[Arch]:
        """The architectures whose gradients are added up in step ``step``."""

    def update(self, archs: Sequence[Arch], rewards: Sequence[float]) -> None:  # noqa: B027 - optional
        """Learns from rewards (higher is better); samplers that do not learn ignore it."""

    def state_dict(self) -> dict[str, Any]:
        """What has been learned, as tensors and plain values; empty for samplers that do not learn."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - optional
        """Restores ``state_dict``'s value."""

    def rng(self, step: int) -> random.Random:
        """The generator of step ``step``."""
        return random.Random(f"sampler {self.seed} {step}")
