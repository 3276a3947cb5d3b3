"""Search spaces without networks, for samplers to draw from."""

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.spaces.base import Make, SearchSpace


class Decisions(SearchSpace):
    """Independent choices, with as many options each as given."""

    num_classes = 10

    def __init__(self, *num_options: int) -> None:
        self.choices = tuple(Choice(f"choice{i}", tuple(range(number))) for i, number in enumerate(num_options))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return make("nothing", nn.Identity)


class Staged(Decisions):
    """Blocks that exist only in deep networks."""

    def __init__(self) -> None:
        blocks = [Choice(f"block{i}", ("a", "b"), {"depth": tuple(range(i, 4))}) for i in (2, 3)]
        self.choices = (Choice("depth", (1, 2, 3)), Choice("block1", ("a", "b")), *blocks)


class Mirrored(Decisions):
    """Two decisions whose order does not matter."""

    def canonical(self, values: dict[str, int | float | str | bool]) -> dict[str, int | float | str | bool]:
        return dict(zip(values, sorted(values.values(), key=str), strict=True))
