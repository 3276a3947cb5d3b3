"""Paths drawn from a learned policy (Pham et al., ENAS, ICML 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from oneshot.arch import Arch, Option
from oneshot.checking import check_count
from oneshot.policies import LSTMPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.samplers.base import Sampler
from oneshot.samplers.cost_reward import CostReward
from oneshot.spaces.base import SearchSpace

_NUM_SHOWN = 256  # architectures from which the probabilities in the record are estimated


class ControllerSampler(Sampler):
    """``num_paths`` architectures a step from an LSTM policy, which takes ``num_updates`` steps of REINFORCE after every epoch,
    each with the rewards of ``num_rewarded`` architectures drawn from it.

    Args:
        num_updates: published 30 (micro) and 50 (macro).
        num_rewarded: published 10 (micro) and 20 (macro).
        policy: the policy's shape.
        learning: how it learns.
        cost: "macs" or "params" to let them enter the reward; None for the reward alone.
        cost_target: the cost at which the reward is left as it is.
        cost_weight: the exponent of ``cost / cost_target`` by which the reward is multiplied.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        num_paths: int = 1,
        num_updates: int = 30,
        num_rewarded: int = 10,
        policy: PolicySettings | None = None,
        learning: ReinforceSettings | None = None,
        cost: str | None = None,
        cost_target: float | None = None,
        cost_weight: float = -0.07,
    ) -> None:
        check_count(1, num_paths=num_paths, num_updates=num_updates, num_rewarded=num_rewarded)
        super().__init__(space, seed)
        self.num_paths, self.num_updates, self.num_rewarded = num_paths, num_updates, num_rewarded
        self.policy = LSTMPolicy(space, policy or PolicySettings(), self.rng(-1).getrandbits(63))
        self.learning = Reinforce(self.policy, learning or ReinforceSettings())
        self._cost_reward = CostReward.make(space, cost, cost_target, cost_weight)

    def sample(self, step: int) -> list[Arch]:
        return self.policy.archs(self.policy.draw(self.num_paths, self._generator(step)).codes)

    def learn(self, step: int, reward: Callable[[Sequence[Arch]], Sequence[float]]) -> Mapping[str, float]:
        generator = self._generator(step, "rewarded")
        total = 0.0
        for _ in range(self.num_updates):
            codes = self.policy.draw(self.num_rewarded, generator).codes
            archs = self.policy.archs(codes)
            rewards = list(reward(archs))
            if self._cost_reward is not None:
                rewards = [value * self._cost_reward(arch) for arch, value in zip(archs, rewards, strict=True)]
            self.learning.step(codes, rewards)
            total += sum(rewards)
        assert self.learning.baseline is not None
        return {
            "policy_reward/mean": total / (self.num_updates * self.num_rewarded),
            "policy_reward/baseline": self.learning.baseline,
            "policy_entropy/nats": self.policy.draw(_NUM_SHOWN, self._generator(step, "shown")).entropies.mean().item(),
        }

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        return self.policy.named_probabilities(self.policy.draw(_NUM_SHOWN, self._generator(step, "shown")))

    def state_dict(self) -> dict[str, Any]:
        return self.learning.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learning.load_state_dict(state)

    def _generator(self, step: int, purpose: str = "") -> torch.Generator:
        return torch.Generator().manual_seed(self.rng(step, purpose).getrandbits(63))
