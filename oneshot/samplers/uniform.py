"""Uniform path sampling (Guo et al., ECCV 2020, section 3.2)."""

from __future__ import annotations

from oneshot.arch import Arch
from oneshot.samplers.base import Sampler
from oneshot.spaces.base import SearchSpace


class UniformSampler(Sampler):
    """``num_paths`` independent random architectures a step; Single Path One-Shot uses one.

    With ``same_resolution`` those of one step share their input resolution, as in Once-for-All's published code, where each
    batch of images has one size.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, num_paths: int = 1, same_resolution: bool = False) -> None:
        if num_paths < 1:
            raise ValueError(f"num_paths is at least 1, not {num_paths}")
        super().__init__(space, seed)
        self.num_paths = num_paths
        self.same_resolution = same_resolution

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        archs = [self.space.sample(rng) for _ in range(self.num_paths)]
        if not self.same_resolution or "resolution" not in archs[0]:
            return archs
        resolution = archs[0]["resolution"]
        return [archs[0], *(self.space.arch({**arch, "resolution": resolution}) for arch in archs[1:])]
