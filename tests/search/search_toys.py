"""Search spaces without networks, costs and scores that are sums over choices, and problems made of them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.search import Evaluated, Problem, Strategy
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.coding import Codes, Coding


class Layers(SearchSpace):
    """``num_layers`` independent choices between the numbers 0, 1, 2, ...: NAS-Bench-Macro's is ``Layers(8, 3)``."""

    num_classes = 10

    def __init__(self, num_layers: int, num_options: int) -> None:
        self.choices = tuple(Choice(f"layer{layer}", tuple(range(num_options))) for layer in range(num_layers))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return make("nothing", nn.Identity)


class Stages(SearchSpace):
    """Elastic resolution and depth, with choices that are active only in deep stages, as in Once-for-All."""

    num_classes = 10

    def __init__(self, num_stages: int = 2) -> None:
        choices = [Choice("resolution", (16, 24, 32))]
        for stage in range(num_stages):
            choices.append(Choice(f"stage{stage}.depth", (1, 2, 3)))
            for block in range(3):
                when = {f"stage{stage}.depth": tuple(range(block + 1, 4))} if block else None
                choices.append(Choice(f"stage{stage}.block{block}.expand", (3, 4, 6), when))
        self.choices = tuple(choices)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return make("nothing", nn.Identity)


class Mirrored(Layers):
    """Two of whose architectures build the same network where one reads as the other from behind."""

    def canonical(self, values: dict[str, int | float | str | bool]) -> dict[str, int | float | str | bool]:
        return dict(zip(values, min(tuple(values.values()), tuple(values.values())[::-1]), strict=True))


class Sums:
    """A number for every option of every choice, and its sum for an architecture."""

    def __init__(self, space: SearchSpace, seed: int, largest: int = 1000) -> None:
        rng = random.Random(seed)
        self.parts = {
            (choice.name, option): rng.randint(1, largest) for choice in space.choices for option in choice.options
        }

    def __call__(self, arch: Arch) -> int:
        return sum(self.parts[name, option] for name, option in arch.to_dict().items())

    def of_codes(self, coding: Coding) -> Callable[[Codes], NDArray[np.float64]]:
        parts = np.array([self.parts[column] for column in coding.columns], dtype=np.float64)
        return lambda codes: coding.one_hot(codes) @ parts

    def range(self, space: SearchSpace) -> tuple[int, int]:
        """The smallest and the largest sum, where all choices are independent."""
        parts = [[self.parts[choice.name, option] for option in choice.options] for choice in space.choices]
        return sum(map(min, parts)), sum(map(max, parts))


def stage_macs(arch: Arch) -> float:
    """Costs of ``Stages`` that add up over blocks and are multiplied by the resolution."""
    return arch.integer("resolution") ** 2 * (10 + sum(arch.integer(name) for name in arch if name.endswith("expand")))


def posed(
    space: SearchSpace,
    score: Callable[[list[Arch]], ArrayLike],
    costs: Mapping[str, Callable[[Arch], float]],
    limits: Mapping[str, float] | None = None,
    cost: str = "macs",
    guides: Mapping[str, str] | None = None,
) -> Problem:
    """A problem whose scores and costs are functions of architectures."""
    coding = Coding(space)

    def of_codes(function: Callable[[Arch], float]) -> Callable[[Codes], list[float]]:
        return lambda codes: [function(arch) for arch in coding.decode(codes)]

    functions = {name: of_codes(function) for name, function in costs.items()}
    return Problem(coding, lambda codes: score(coding.decode(codes)), functions, limits, cost, guides)


class Toy(Problem):
    """A problem that keeps the batches it was asked to score."""

    def __init__(
        self, space: SearchSpace, seed: int = 0, limits: Mapping[str, float] | None = None, cost: str = "macs"
    ) -> None:
        self.space = space
        self.batches: list[list[Arch]] = []
        self.accuracy, self.macs, self.params = (Sums(space, seed + offset) for offset in (1, 2, 3))
        coding = Coding(space)
        costs = {"macs": self.macs.of_codes(coding), "params": self.params.of_codes(coding)}
        super().__init__(coding, self.score_batch, costs, limits, cost)

    def score_batch(self, codes: Codes) -> list[tuple[float, ...]]:
        archs = self.decode(codes)
        self.batches.append(archs)
        return [(self.accuracy(arch) / 1e6, float(-self.accuracy(arch) % 7)) for arch in archs]


@dataclass(frozen=True)
class Run:
    """What a search found, by architecture."""

    found: Evaluated
    evaluated: dict[Arch, tuple[float, ...]]
    best: Arch


def run(strategy: Strategy, problem: Problem, seed: int = 0) -> Run:
    found = strategy.search(problem, np.random.default_rng(seed))
    archs = problem.decode(found.codes)
    return Run(found, dict(zip(archs, map(tuple, found.scores.tolist()), strict=True)), archs[found.best])


def feasible(problem: Problem, arch: Arch) -> bool:
    return bool(problem.feasible(problem.coding.encode([arch]))[0])


def sample(problem: Problem, count: int, seed: int = 0) -> list[Arch]:
    return problem.decode(problem.sample(count, np.random.default_rng(seed)))


def total(arch: Arch) -> float:
    return float(sum(arch.integer(name) for name in arch))


def share(sums: Sums, space: SearchSpace, part: float) -> float:
    """The limit that lies ``part`` of the way from the smallest to the largest sum."""
    low, high = sums.range(space)
    return low + part * (high - low)
