"""Search by a policy that learns (Zoph and Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from oneshot.checking import check_count
from oneshot.policies import LSTMPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem, Values
from oneshot.spaces.coding import Codes


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
        check_count(1, "search.", num_samples=self.num_samples, batch_size=self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """The architectures that the policy drew, as ``Strategy.search``."""
        history = History(problem, self.num_samples, rng)
        policy = LSTMPolicy(problem.coding.space, self.policy, int(rng.integers(2**63)))
        learning = Reinforce(policy, self.learning)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        while history.left > 0:
            decisions = policy.draw(self.batch_size, generator).codes
            codes = problem.coding.canonical(decisions.numpy())
            history.propose(codes)
            if not len(history.evaluate(fill_to=1)):
                break
            rewards = self._rewards(codes, history)
            known = ~np.isnan(rewards)
            learning.step(decisions[torch.from_numpy(known)], rewards[known].tolist())
        return history.evaluated

    @staticmethod
    def _rewards(codes: Codes, history: History) -> Values:
        """``(num_archs,)``, NaN for those that are feasible and not scored because the budget had ended."""
        rows = history.find(codes)
        rewards = np.where(rows >= 0, history.evaluated.scores[rows, 0], math.nan)
        finite = np.isfinite(rewards)
        least = rewards[finite].min() if finite.any() else 0.0
        rewards[np.isinf(rewards)] = least
        excess = history.problem.violation(codes)
        return np.where(excess > 0, least - np.minimum(excess, 1.0), rewards)
