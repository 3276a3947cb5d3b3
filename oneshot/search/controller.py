"""Search by a policy that learns (Zoph and Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from oneshot.arch import Arch
from oneshot.policies import LSTMPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.search.history import History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count

_MAX_REPEATS = 20  # batches without a new feasible architecture after which the policy counts as settled


@dataclass(frozen=True)
class ControllerSearch:
    """An LSTM policy draws batches of architectures and learns from their scores by REINFORCE; the best that it drew is returned.

    The reward is the first entry of the score. An architecture outside the limits is not scored: its reward lies below the least
    of the batch by the part by which it exceeds the limits, so that the policy learns to keep them. An architecture that is
    drawn again is rewarded again, and not scored again. The search ends early where the policy draws nothing new.

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
        batch: list[Arch] = []
        history.fill(batch, 1, rng)  # there is a best one even where the policy never meets the limits
        history.evaluate(batch)
        repeats = 0
        while len(history.scores) < self.num_samples and repeats < _MAX_REPEATS:
            codes = policy.draw(self.batch_size, generator).codes
            archs = policy.archs(codes)
            unseen = [arch for arch in dict.fromkeys(archs) if arch not in history.scores and problem.feasible(arch)]
            unseen = unseen[: self.num_samples - len(history.scores)]
            repeats = 0 if unseen else repeats + 1
            history.evaluate(unseen)
            rewarded = [arch in history.scores or not problem.feasible(arch) for arch in archs]
            known = [history.scores[arch][0] for arch in archs if arch in history.scores]
            least = min(known, default=min(score[0] for score in history.scores.values()))
            rewards = [
                history.scores[arch][0] if arch in history.scores else least - problem.violation(arch)
                for arch, counts in zip(archs, rewarded, strict=True)
                if counts
            ]
            learning.step(codes[torch.tensor(rewarded)], rewards)
        return history.best()
