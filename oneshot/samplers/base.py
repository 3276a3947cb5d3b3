"""What every sampler does: say which architectures one training step uses."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oneshot.arch import Arch, Option
from oneshot.spaces.base import SearchSpace


class Sampler(ABC):
    """Chooses the architectures of each training step; a function of the seed, the step and what ``update`` was told.

    Attributes:
        teacher_first: whether the first architecture of a step teaches the others (in-place distillation), which then train
            without dropout (BigNAS, ECCV 2020, section 3.1: only the largest network is regularised).
        architecture_images: the share of the training images from which the architecture learns by gradient, and the weights do
            not: a third set, so that held-out images remain unseen.
        prefers_low_loss: which of several ``proposals`` is trained: that with the lowest loss on the step's images or that with
            the highest.
    """

    teacher_first: bool = False
    prefers_low_loss: bool = True

    @property
    def architecture_images(self) -> float:
        return 0.0

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self.space = space
        self.seed = seed

    @abstractmethod
    def sample(self, step: int) -> list[Arch]:
        """The architectures whose gradients are added up in step ``step``, of several proposals the first."""

    def proposals(self, step: int) -> list[list[Arch]]:
        """For each architecture of the step, those from which it is chosen by their loss on the step's images."""
        return [[arch] for arch in self.sample(step)]

    def derive(self, step: int) -> list[Arch]:
        """What a search takes from a trained sampler: what it draws in a step, unless it has better."""
        return self.sample(step)

    def learn(self, step: int, reward: Callable[[Sequence[Arch]], Sequence[float]]) -> Mapping[str, float]:
        """Called once after every epoch, ``step`` steps into the training: a sampler that learns asks for the ``reward`` of
        architectures of its choice, higher being better, and returns what to record, such as ``{"policy_reward/mean": 0.4}``.
        """
        return {}

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        """How likely each option of each choice is after ``step`` steps, for the record; empty for samplers that do not learn."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What has been learned, as tensors and plain values; empty for samplers that do not learn."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - optional
        """Restores ``state_dict``'s value."""

    def rng(self, step: int, purpose: str = "") -> random.Random:
        """The generator of step ``step``, another one for each purpose."""
        return random.Random(f"sampler {self.seed} {step}{purpose and ' ' + purpose}")
