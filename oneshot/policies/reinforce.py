"""Policy gradients: REINFORCE (Williams, 1992) as ENAS uses it (Pham et al., ICML 2018, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oneshot.checking import check_least
from oneshot.policies.lstm import Decisions, LSTMPolicy


@dataclass(frozen=True)
class ReinforceSettings:
    """How a policy learns. The defaults are those of ENAS's published micro search.

    Args:
        lr: of Adam, whose betas of 0 and 0.999 and epsilon of 1e-3 are those of the published code.
        baseline_decay: of the moving average of the rewards.
        entropy_weight: of the bonus for entropy.
        target_weight: of the divergence from the target probabilities that the policy's choices have; published 0.8 for the skip
            connections of the macro space.
    """

    lr: float = 0.0035
    baseline_decay: float = 0.99
    entropy_weight: float = 1e-4
    target_weight: float = 0.8

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"learning.lr is above 0, not {self.lr}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"learning.baseline_decay is at least 0 and below 1, not {self.baseline_decay}")
        check_least(0, "learning.", entropy_weight=self.entropy_weight, target_weight=self.target_weight)


class Reinforce:
    """Moves a policy towards decisions with high rewards.

    Attributes:
        baseline: the moving average of the rewards; None before the first. The published code starts it at 0, so that its first
            steps make every architecture likelier that was drawn.
    """

    def __init__(self, policy: LSTMPolicy, settings: ReinforceSettings) -> None:
        self.policy, self.settings = policy, settings
        self.optimizer = torch.optim.Adam(policy.parameters(), settings.lr, betas=(0.0, 0.999), eps=1e-3)
        self.baseline: float | None = None

    def loss(self, codes: Tensor, advantages: Tensor) -> Tensor:
        """Its gradient is an unbiased estimate of that of minus the expected reward and the entropy bonus, where ``codes`` were
        drawn from the policy.

        The published code adds the entropy to the reward and stops its gradient, which leaves hardly any pull towards entropy;
        here its whole gradient is taken.
        """
        decisions: Decisions = self.policy(codes)
        weight = self.settings.entropy_weight
        gain = (advantages + weight * decisions.entropies.detach()) * decisions.log_probs
        loss = -(gain + weight * decisions.entropies).mean()
        return loss + self.settings.target_weight * decisions.divergence

    def step(self, codes: Tensor, rewards: Sequence[float]) -> None:
        """One step of Adam with the rewards of as many decisions as there are rows in ``codes``."""
        values = torch.tensor(list(rewards))
        if self.baseline is None:
            self.baseline = values.mean().item()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(codes, values - self.baseline).backward()
        self.optimizer.step()
        decay = self.settings.baseline_decay
        for reward in values.tolist():
            self.baseline = decay * self.baseline + (1 - decay) * reward

    def state_dict(self) -> dict[str, Any]:
        """Policy, optimizer and baseline."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``'s value."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = state["baseline"]
