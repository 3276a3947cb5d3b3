"""A space of one choice."""

from collections.abc import Callable

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.spaces import Make, SearchSpace


class OneChoice(SearchSpace):
    """A space with one decision, whose network is a function of the option taken."""

    num_classes = 2
    resolution = 4

    def __init__(self, network: Callable[[object, Make], nn.Module], options: tuple[object, ...] = (1, 2)) -> None:
        self.network_of = network
        self.choices = (Choice("option", options),)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return self.network_of(arch["option"], make)
