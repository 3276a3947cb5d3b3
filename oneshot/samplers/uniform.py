"""Uniform path sampling (Guo et al., ECCV 2020, section 3.2)."""

from __future__ import annotations

from oneshot.arch import Arch
from oneshot.samplers.base import Sampler
from oneshot.spaces.base import SearchSpace


class UniformSampler(Sampler):
    """``num_paths`` independent random architectures a step; Single Path One-Shot uses one."""

    def __init__(self, space: SearchSpace, seed: int = 0, num_paths: int = 1) -> None:
        if num_paths < 1:
            raise ValueError(f"num_paths is at least 1, not {num_paths}")
        super().__init__(space, seed)
        self.num_paths = num_paths

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        return [self.space.sample(rng) for _ in range(self.num_paths)]
