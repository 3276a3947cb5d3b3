"""The sandwich rule (Yu and Huang, Universally Slimmable Networks, ICCV 2019, Algorithm 1; BigNAS, ECCV 2020)."""

from __future__ import annotations

from oneshot.arch import Arch
from oneshot.checking import check_count
from oneshot.samplers.base import Sampler
from oneshot.spaces.base import SearchSpace


class SandwichSampler(Sampler):
    """The largest, the smallest and ``num_random`` random architectures a step. With ``distill`` the largest learns from the
    labels and the others from its predictions.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, num_random: int = 2, distill: bool = True) -> None:
        check_count(0, num_random=num_random)
        super().__init__(space, seed)
        self.num_random = num_random
        self.teacher_first = distill

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        return [self.space.largest, self.space.smallest, *(self.space.sample(rng) for _ in range(self.num_random))]
