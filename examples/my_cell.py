"""A cell of one's own whose operations can be mixed: five of them on every edge; see docs/differentiable.md."""

from collections import OrderedDict

from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace
from oneshot.spaces.cell_layers import EdgeGraph, ReLUConvNorm

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("identity", "avg_pool", "max_pool", "conv3x3", "conv5x5")


class MyCell(SearchSpace):
    def __init__(self, num_classes: int = 10, resolution: int = 32, channels: int = 16, num_cells: int = 3) -> None:
        self.num_classes, self.resolution, self.channels, self.num_cells = num_classes, resolution, channels, num_cells
        self.choices = tuple(Choice(f"node{target}.from{source}", OPERATIONS) for source, target in EDGES)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        def operation(name: str, option: str) -> nn.Module:
            if option.startswith("conv"):
                return make(f"{name}.{option}", ReLUConvNorm, self.channels, self.channels, int(option[-1]))
            pools = {"avg_pool": nn.AvgPool2d(3, 1, 1), "max_pool": nn.MaxPool2d(3, 1, 1), "identity": nn.Identity()}
            return pools[option]

        parts = OrderedDict(stem=make("stem", nn.Conv2d, 3, self.channels, 3, stride=2, padding=1))
        for index in range(1, self.num_cells + 1):
            edges: dict[tuple[int, int], nn.Module | None] = {}
            for source, target in EDGES:
                edge = f"node{target}.from{source}"
                edges[source, target] = make.choose(edge, lambda option, n=f"cell{index}.{edge}": operation(n, option))
            parts[f"cell{index}"] = EdgeGraph(edges, num_inputs=1, num_nodes=3, num_outputs=1)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(1), make("head", nn.Linear, self.channels, self.num_classes))
        return nn.Sequential(*parts.values(), *head)
