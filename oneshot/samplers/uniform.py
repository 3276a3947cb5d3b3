"""Uniform path sampling (Guo et al., ECCV 2020, section 3.2)."""

from __future__ import annotations

import random

from oneshot.arch import Arch, suggest
from oneshot.checking import check_count
from oneshot.samplers.base import Sampler
from oneshot.spaces.base import SearchSpace

_OVER = ("options", "networks")
_MAX_NETWORKS = 10**6


class UniformSampler(Sampler):
    """``num_paths`` independent random architectures a step; Single Path One-Shot uses one.

    Every option of a choice is as likely as the others. With ``over="networks"`` every network is instead, which differs where
    several architectures build the same one (cell spaces) or some choices exist in part of them; that needs a space of at most a
    million networks.

    With ``same_resolution`` those of one step share their input resolution, as in Once-for-All's published code, where each
    batch of images has one size.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        num_paths: int = 1,
        same_resolution: bool = False,
        over: str = "options",
    ) -> None:
        check_count(1, num_paths=num_paths)
        super().__init__(space, seed)
        self.num_paths = num_paths
        self.same_resolution = same_resolution
        if over not in _OVER:
            raise ValueError(f"over is {' or '.join(_OVER)}, not {over!r}{suggest(over, _OVER)}")
        if over == "networks" and space.size > _MAX_NETWORKS:
            raise ValueError(
                f"over='networks' lists at most {_MAX_NETWORKS:,} networks; this space has {space.size:.3g}"
            )
        self._networks = list(space.enumerate()) if over == "networks" else None

    def sample(self, step: int) -> list[Arch]:
        rng = self.rng(step)
        archs = [self._draw(rng) for _ in range(self.num_paths)]
        if not self.same_resolution or "resolution" not in archs[0]:
            return archs
        resolution = archs[0]["resolution"]
        return [archs[0], *(self.space.arch({**arch, "resolution": resolution}) for arch in archs[1:])]

    def _draw(self, rng: random.Random) -> Arch:
        return self.space.sample(rng) if self._networks is None else rng.choice(self._networks)
