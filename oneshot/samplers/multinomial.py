"""Paths drawn from independent probabilities that learn (Zheng et al., MdeNAS, ICCV 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oneshot.arch import Arch, Option
from oneshot.checking import check_count
from oneshot.policies import MultinomialPolicy
from oneshot.samplers.base import Sampler
from oneshot.samplers.cost_reward import CostReward
from oneshot.spaces.base import SearchSpace


class MultinomialSampler(Sampler):
    """``num_paths`` architectures a step from the probabilities of a ``MultinomialPolicy``, which learns from the rewards of
    ``num_rewarded`` architectures after every epoch.

    Args:
        lr: by how much one comparison moves a probability; published 0.01.
        cost, cost_target, cost_weight: as of ``ControllerSampler``.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        num_paths: int = 1,
        num_rewarded: int = 30,
        lr: float = 0.01,
        cost: str | None = None,
        cost_target: float | None = None,
        cost_weight: float = -0.07,
    ) -> None:
        check_count(1, num_paths=num_paths, num_rewarded=num_rewarded)
        super().__init__(space, seed)
        self.num_paths, self.num_rewarded = num_paths, num_rewarded
        self.policy = MultinomialPolicy(space, lr)
        self._cost_reward = CostReward.make(space, cost, cost_target, cost_weight)

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        return [self.policy.draw(rng) for _ in range(self.num_paths)]

    def learn(self, step: int, reward: Callable[[Sequence[Arch]], Sequence[float]]) -> Mapping[str, float]:
        rng = self.rng(step, "rewarded")
        total = 0.0
        for _ in range(self.num_rewarded):
            arch = self.policy.draw(rng)
            (value,) = reward([arch])
            if self._cost_reward is not None:
                value *= self._cost_reward(arch)
            self.policy.update(arch, value)
            total += value
        return {"policy_reward/mean": total / self.num_rewarded, "policy_entropy/nats": self.policy.entropy()}

    def probabilities(self, step: int) -> Mapping[str, Mapping[Option, float]]:
        return {name: dict(values) for name, values in self.policy.probabilities.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.policy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state)
