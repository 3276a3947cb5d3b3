"""NAS-Bench-201's space (Dong and Yang, ICLR 2020; https://github.com/D-X-Y/AutoDL-Projects, ``xautodl/models``)."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from oneshot.arch import Arch, Choice, Join, Option, suggest
from oneshot.checking import check_count
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.cell_layers import EdgeGraph, ReLUConvNorm
from oneshot.spaces.graph import CellGraph
from oneshot.spaces.layers import Residual

_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_OPTIONS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}

_Operations = tuple[str, ...]


class NASBench201(SearchSpace):
    """Three stages of equal cells, joined by residual blocks that double the channels and halve the size. A cell has its input,
    two hidden nodes and its output; each node adds up what the operations on its edges make of all earlier ones.

    Choices: ``node1.from0`` to ``node3.from2``: ``"none"``, ``"skip_connect"``, ``"avg_pool_3x3"``, ``"nor_conv_1x1"`` or
    ``"nor_conv_3x3"``. Of the 15,625 cells, all with published accuracies, those that count as one in the published 6,466 are
    equal here: the first, in the order of the options, stands for all.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        channels: of the stem and the first stage; published 16.
        num_cells: of each stage; published 5.
    """

    def __init__(self, num_classes: int = 10, resolution: int = 32, channels: int = 16, num_cells: int = 5) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, channels=channels, num_cells=num_cells)
        self.num_classes = num_classes
        self.resolution = resolution
        self.channels = channels
        self.num_cells = num_cells
        self.choices = tuple(Choice(f"node{target}.from{source}", _OPTIONS) for source, target in _EDGES)
        self.joins = [
            Join(tuple(f"node{target}.from{source}" for source in range(target)))
            for target in sorted({t for _, t in _EDGES})
        ]

    def canonical(self, values: dict[str, Option]) -> dict[str, Option]:
        options = tuple(tuple(map(str, choice.options)) for choice in self.choices)
        return dict(zip(values, _representatives(options)[_operations(values)], strict=True))

    def covering(self) -> list[Arch]:
        missing = {(edge, name) for edge in _EDGES for name in _KERNELS}
        found: list[Arch] = []
        for arch in itertools.chain((self.largest, self.decide(_narrow)), self.enumerate()):
            touched = missing & _live(_operations(arch)).items()
            if touched or not found:
                found.append(arch)
                missing -= touched
            if not missing:
                break
        return found

    def from_string(self, text: str) -> Arch:
        """The architecture of a published string such as ``"|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...~0|...~1|...~2|"``.

        Raises:
            ValueError: it is no such string.
        """
        nodes = [part.strip("|").split("|") for part in text.strip().split("+")]
        pairs = [edge.partition("~") for node in nodes for edge in node]
        sources = [[edge.partition("~")[2] for edge in node] for node in nodes]
        if sources != [["0"], ["0", "1"], ["0", "1", "2"]]:
            raise ValueError(
                "a NAS-Bench-201 architecture is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, operation and source of each "
                f"edge, not {text!r}"
            )
        for operation, _, _ in pairs:
            if operation not in _OPTIONS:
                raise ValueError(
                    f"{operation!r} in {text!r} is no operation; these are {list(_OPTIONS)}{suggest(operation, _OPTIONS)}"
                )
        return self.arch(
            {choice.name: operation for choice, (operation, _, _) in zip(self.choices, pairs, strict=True)}
        )

    def to_string(self, arch: Arch) -> str:
        """The published string of ``arch``, in canonical form."""
        edges = [f"{operation}~{source}" for operation, (source, _) in zip(_operations(arch), _EDGES, strict=True)]
        return "+".join(f"|{'|'.join(node)}|" for node in (edges[:1], edges[1:3], edges[3:]))

    def parse(self, text: str) -> Arch:
        return super().parse(text) if text.lstrip().startswith("{") else self.from_string(text)

    def graphs(self, arch: Arch) -> Mapping[str, CellGraph]:
        nodes = ("input", "node1", "node2", "output")
        live = _live(_operations(arch))
        return {"cell": CellGraph(nodes, tuple((nodes[s], nodes[t], name) for (s, t), name in live.items()))}

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct

        live = _EDGES if arch.is_open else _live(_operations(arch))

        def cell(name: str, width: int) -> nn.Module:
            def operation(edge: str, option: str, channels: int) -> nn.Module | None:
                if option in _KERNELS:
                    return make(f"{name}.{edge}.{option}", ReLUConvNorm, channels, channels, _KERNELS[option])
                if option == "avg_pool_3x3":
                    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
                return None if option == "none" else nn.Identity()

            blocks = {}
            for source, target in live:
                edge = f"node{target}.from{source}"
                blocks[source, target] = make.choose(edge, functools.partial(operation, edge), width)
            return EdgeGraph(blocks, num_inputs=1, num_nodes=3, num_outputs=1)

        channels = self.channels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, channels, 3, apply_act=False)
        for stage in (1, 2, 3):
            if stage > 1:
                parts[f"reduction{stage}"] = make(f"stage{stage}.reduction", _reduction, channels, 2 * channels)
                channels *= 2
            for index in range(1, self.num_cells + 1):
                parts[f"stage{stage}_cell{index}"] = cell(f"stage{stage}.cell{index}", channels)
        parts["norm"] = make("norm", nn.BatchNorm2d, channels)
        parts["act"] = nn.ReLU()
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["classifier"] = make("classifier", nn.Linear, channels, self.num_classes)
        return nn.Sequential(parts)


def _reduction(in_channels: int, channels: int) -> nn.Module:
    main = nn.Sequential(ReLUConvNorm(in_channels, channels, 3, stride=2), ReLUConvNorm(channels, channels, 3))
    shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(in_channels, channels, 1, bias=False))
    return Residual(main, shortcut)


def _narrow(choice: Choice) -> Option:
    return "nor_conv_1x1" if "nor_conv_1x1" in choice.options else choice.options[-1]


def _operations(values: Mapping[str, Option]) -> _Operations:
    return tuple(str(values[f"node{target}.from{source}"]) for source, target in _EDGES)


def _live(operations: _Operations) -> dict[tuple[int, int], str]:
    """The edges that have an operation, lead to the output and have an effect, with it. What reads node 1 while that is empty has
    none, convolutions included, since that is how the 6,466 are counted; a convolution of an empty node 2 makes constants.
    """
    edges = dict(zip(_EDGES, operations, strict=True))
    empty = {1} if edges[0, 1] == "none" else set()
    if edges[0, 2] == "none" and (1 in empty or edges[1, 2] == "none"):
        empty.add(2)
    live: dict[tuple[int, int], str] = {}
    for (source, target), operation in reversed(edges.items()):
        is_read = target == 3 or any(node == target for node, _ in live)
        has_effect = source not in empty or (source == 2 and operation in _KERNELS)
        if operation != "none" and is_read and has_effect:
            live[source, target] = operation
    return dict(reversed(live.items()))


@functools.lru_cache(maxsize=64)
def _representatives(options: tuple[_Operations, ...]) -> dict[_Operations, _Operations]:
    """For each cell of ``options``, the first cell that counts as the same one."""
    first: dict[str, _Operations] = {}
    return {cell: first.setdefault(_published_class(cell), cell) for cell in itertools.product(*options)}


def _published_class(operations: _Operations) -> str:
    """What is equal for the cells that are one of the 6,466: ``Structure.to_unique_str(consider_zero=True)`` of
    ``cell_searchs/genotypes.py``, character by character, since the classes depend on how its terms sort.

    It is no exact rule, and kept for the sake of the published classes. It takes a convolution that is added twice for two alike
    convolutions, though only the latter have weights of their own. And it tells some cells apart that compute alike: by the
    number of edges without effect, by the nodes at which terms are added, and by whether a sum is pooled or its terms are.
    """
    edges = dict(zip(_EDGES, operations, strict=True))
    made = {0: "0"}
    for target in (1, 2, 3):
        terms = []
        for source in range(target):
            operation = edges[source, target]
            if operation == "none" or made[source] == "#":
                terms.append("#")
            else:
                terms.append(made[source] if operation == "skip_connect" else f"({made[source]})@{operation}")
        made[target] = "+".join(sorted(terms))
    return made[3]
