"""Search by a policy that learns (Zoph and Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import torch

from oneshot.arch import Arch
from oneshot.policies import LSTMPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.search.history import History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count


@dataclass(frozen=True)
class ControllerSearch:
    """An LSTM policy draws batches of architectures and learns from their scores by REINFORCE; the best that it drew is returned.

    The reward is the first entry of the score. An architecture outside the limits is not scored: its reward lies below the least
    of the batch by the part by which it exceeds the limits, so that the policy learns to keep them. One that is drawn again is
    rewarded again, and not scored again; where a batch holds nothing new, a random architecture is scored instead.

    Args:
        num_samples: architectures that are scored.
        batch_size: architectures drawn for one step of the policy.
        policy: the policy's shape.
        learning: how it learns.

    Raises:
        ValueError: a number below 1.
    """

    num_samples: int = 1000
    batch_size: int = 10
    policy: PolicySettings = field(default_factory=PolicySettings)
    learning: ReinforceSettings = field(default_factory=ReinforceSettings)

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples)
        check_count("batch_size", self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best architecture that the policy drew, as ``Strategy.search``."""
        history = History(problem)
        policy = LSTMPolicy(problem.space, self.policy, rng.getrandbits(63))
        learning = Reinforce(policy, self.learning)
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        while (left := self.num_samples - len(history.scores)) > 0:
            codes = policy.draw(self.batch_size, generator).codes
            archs = policy.archs(codes)
            batch = [arch for arch in dict.fromkeys(archs) if arch not in history.scores and problem.feasible(arch)]
            batch = batch[:left]
            if not batch:
                history.fill(batch, 1, rng)
                if not batch:
                    break
            history.evaluate(batch)
            rewards = self._rewards(archs, history)
            learning.step(
                codes[[arch in rewards for arch in archs]], [rewards[arch] for arch in archs if arch in rewards]
            )
        return history.best()

    @staticmethod
    def _rewards(archs: list[Arch], history: History) -> dict[Arch, float]:
        """Of those that were scored or lie outside the limits; the budget may have ended before the others."""
        scored = {arch: history.scores[arch][0] for arch in archs if arch in history.scores}
        least = min(filter(math.isfinite, scored.values()), default=0.0)
        rewards = {arch: reward if math.isfinite(reward) else least for arch, reward in scored.items()}
        outside = {arch: history.problem.violation(arch) for arch in archs if not history.problem.feasible(arch)}
        return rewards | {arch: least - min(excess, 1.0) for arch, excess in outside.items()}
