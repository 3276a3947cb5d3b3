"""Search spaces without networks, costs and scores that are sums over choices, and problems made of them."""

import random
from collections.abc import Mapping, Sequence

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.search import Problem, Score
from oneshot.spaces.base import Make, SearchSpace


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

    def range(self, space: SearchSpace) -> tuple[int, int]:
        """The smallest and the largest sum, where all choices are independent."""
        parts = [[self.parts[choice.name, option] for option in choice.options] for choice in space.choices]
        return sum(map(min, parts)), sum(map(max, parts))


def stage_macs(arch: Arch) -> float:
    """Costs of ``Stages`` that add up over blocks and are multiplied by the resolution."""
    return arch.integer("resolution") ** 2 * (10 + sum(arch.integer(name) for name in arch if name.endswith("expand")))


class Toy(Problem):
    """A problem that keeps the batches it was asked to score."""

    def __init__(
        self, space: SearchSpace, seed: int = 0, limits: Mapping[str, float] | None = None, cost: str = "macs"
    ) -> None:
        self.batches: list[list[Arch]] = []
        self.accuracy, self.macs, self.params = (Sums(space, seed + offset) for offset in (1, 2, 3))
        super().__init__(space, self.score_batch, self.costs, limits, cost)

    def score_batch(self, archs: Sequence[Arch]) -> list[Score]:
        self.batches.append(list(archs))
        return [(self.accuracy(arch) / 1e6, float(-self.accuracy(arch) % 7)) for arch in archs]

    def costs(self, arch: Arch) -> dict[str, float]:
        return {"macs": self.macs(arch), "params": self.params(arch)}


def share(sums: Sums, space: SearchSpace, part: float) -> float:
    """The limit that lies ``part`` of the way from the smallest to the largest sum."""
    low, high = sums.range(space)
    return low + part * (high - low)
