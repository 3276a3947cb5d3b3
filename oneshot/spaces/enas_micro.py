"""ENAS's micro space (Pham et al., ICML 2018; https://github.com/melodyguan/enas, ``src/cifar10/micro_child.py``)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from oneshot.arch import Arch, Choice, Option
from oneshot.checking import check_count, check_least, check_probability
from oneshot.spaces import enas_layers
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.cell_layers import FactorizedReduce, ReLUConvNorm, TwiceSeparableConv
from oneshot.spaces.enas_layers import MicroCell, MicroNetwork, Reading, read_sequence, relu_conv, write_sequence
from oneshot.spaces.graph import CellGraph
from oneshot.spaces.isomorphism import CellOptions, canonical_cell, num_cells

_PUBLISHED = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
_OPERATIONS = ("identity", "avg_pool_3x3", "max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5")
_KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5}
_CELLS = ("normal", "reduce")


_POOLS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "avg_pool_3x3": functools.partial(nn.AvgPool2d, 3, 1, 1, count_include_pad=False),
    "max_pool_3x3": functools.partial(nn.MaxPool2d, 3, 1, 1),
}


class ENASMicro(SearchSpace):
    """Two kinds of cells, normal ones and two that follow a reduction. Every node adds up two operations, each on one of the
    cell's two inputs or of the earlier nodes; what no node reads is concatenated and brought back by a 1x1 convolution.

    Choices, for cells ``normal`` and ``reduce`` and for each node and branch 1 and 2: ``normal.node1.input1``, 0 and 1 for the
    inputs of the cell (the output of the last but one and of the last cell) and ``n + 1`` for node ``n``; ``normal.node1.op1``,
    one of ``"identity"``, ``"avg_pool_3x3"``, ``"max_pool_3x3"``, ``"sep_conv_3x3"`` and ``"sep_conv_5x5"``. Cells that are the
    same graph, with nodes in another order or the branches of a node exchanged, are one architecture. Cells that only
    compute the same, because sums may be taken in any order, are several.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        num_layers: normal cells; two reductions divide them and the two cells that follow the reductions.
        channels: of the first cells; they double at each reduction.
        num_nodes: of a cell.
        dropout: before the classifier; published 0.1 for the search.

    Raises:
        ValueError: fewer than one layer or node.
    """

    # Where the paper and the published code differ, this is the code's shared network (micro_child.py, _enas_layer): inputs of a
    # cell that no node reads count as loose ends too, and a reduction cell works at stride 1 on an input reduced before.
    # The code's network for a fixed cell instead strides inside of the cell and leaves out the 1x1 convolution.

    def __init__(
        self,
        num_classes: int = 10,
        resolution: int = 32,
        num_layers: int = 6,
        channels: int = 20,
        num_nodes: int = 5,
        dropout: float = 0.1,
    ) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, channels=channels)
        check_probability(dropout=dropout)
        check_least(1, num_layers=num_layers, num_nodes=num_nodes)
        self.num_classes = num_classes
        self.resolution = resolution
        self.num_layers = num_layers
        self.channels = channels
        self.num_nodes = num_nodes
        self.dropout = dropout
        self.choices = tuple(
            choice
            for cell in _CELLS
            for node in range(1, num_nodes + 1)
            for branch in (1, 2)
            for choice in (
                Choice(f"{cell}.node{node}.input{branch}", tuple(range(node + 1))),
                Choice(f"{cell}.node{node}.op{branch}", _OPERATIONS),
            )
        )

    def from_published(self, sequence: str) -> Arch:
        """The architecture of a published ``fixed_arc`` such as ``"0 2 0 0 ..."``: for each node of the normal and then of the
        reduction cell its first input, first operation, second input and second operation.

        Raises:
            ValueError: another number of numbers, or one that is no input or no operation there.
        """
        return self.arch(read_sequence(sequence, self.choices, _PUBLISHED))

    def to_published(self, arch: Arch) -> str:
        """The inverse of ``from_published``; nodes and branches are those of the canonical form."""
        return write_sequence(arch, self.choices, _PUBLISHED)

    def canonical(self, values: dict[str, Option]) -> dict[str, Option]:
        found: list[Option] = []
        for cell, options in zip(self._by_cell(values.values()), self._cell_options(), strict=True):
            pairs = tuple(((i, o), (j, p)) for i, o, j, p in cell)
            found += [part for node in canonical_cell(pairs, options) for branch in node for part in branch]
        return dict(zip(values, found, strict=True))

    @property
    def size(self) -> int:
        """The number of different architectures, by counting cells that are not the same graph."""
        normal, reduction = self._cell_options()
        return num_cells(normal) * num_cells(reduction)

    def _cell_options(self) -> list[CellOptions]:
        return self._by_cell(choice.options for choice in self.choices)

    def _by_cell(self, parts: Iterable[Any]) -> list[Any]:
        """What belongs to a node in a tuple, in a tuple for each cell."""
        nodes = tuple(zip(*[iter(parts)] * 4, strict=True))
        return [nodes[: self.num_nodes], nodes[self.num_nodes :]]

    def covering(self) -> list[Arch]:
        """All nodes read one value, or the last before them, with one of the convolutions; or none reads one value."""
        convolutions = [
            {choice.name: _nearest(choice, value, operation) for choice in self.choices}
            for value in range(self.num_nodes + 1)
            for operation in _KERNELS
        ]
        loose = [
            {choice.name: next((o for o in choice.options if o != value), value) for choice in self.choices}
            for value in range(self.num_nodes + 1)
        ]
        return [Arch(values) for values in (*convolutions, *loose)]  # those of a restricted space may not be canonical

    def pairwise(self) -> Iterator[Arch]:
        """As of any space, without those that bring nothing new: canonical forms leave many pairs out."""
        seen: set[tuple[tuple[str, Option], ...]] = set()
        for arch in super().pairwise():
            pairs = {*itertools.combinations(arch.items(), 2)}
            if not pairs <= seen:
                seen |= pairs
                yield arch

    def graphs(self, arch: Arch) -> Mapping[str, CellGraph]:
        nodes = ("input0", "input1", *(f"node{node}" for node in range(1, self.num_nodes + 1)))
        found: dict[str, CellGraph] = {}
        for kind in _CELLS:
            edges = [
                (nodes[arch.integer(f"{kind}.{node}.input{branch}")], node, str(arch[f"{kind}.{node}.op{branch}"]))
                for node in nodes[2:]
                for branch in (1, 2)
            ]
            read = {source for source, _, _ in edges}
            edges += [(node, "output", "") for node in nodes if node not in read]
            found[kind] = CellGraph((*nodes, "output"), tuple(edges))
        return found

    def build(self, arch: Arch, make: Make) -> nn.Module:
        channels = self.channels
        widths = [3 * channels, 3 * channels]
        cells: list[nn.Module] = []
        for position in range(1, self.num_layers + 3):
            name = f"cell{position}"
            reduction: nn.Module | None = None
            calibrations: list[nn.Module] = [nn.Identity(), nn.Identity()]
            if position in (self.num_layers // 3 + 1, 2 * (self.num_layers // 3) + 2):
                channels *= 2
                reduction = make(f"{name}.reduction", FactorizedReduce, widths[1], channels, relu=False)
                calibrations[0] = make(f"{name}.input0", FactorizedReduce, widths[1], channels)
                widths = [widths[1], channels]
            else:
                for index, width in enumerate(widths):
                    if width != channels:
                        calibrations[index] = make(f"{name}.input{index}", ReLUConvNorm, width, channels)
            cells.append(self._cell(make, name, channels, reduction, calibrations))
            widths = [widths[1], channels]
        stem = make("stem", enas_layers.stem, self.in_channels, 3 * self.channels)
        classifier = make("classifier", nn.Linear, channels, self.num_classes, bias=False)
        return MicroNetwork(stem, cells, self.dropout, classifier)

    def _cell(
        self,
        make: Make,
        name: str,
        channels: int,
        reduction: nn.Module | None,
        calibrations: list[nn.Module],
    ) -> nn.Module:
        kind = "normal" if reduction is None else "reduce"

        def operation(node: int, branch: int, source: int, option: str) -> nn.Module:
            if option in _POOLS:
                return _POOLS[option]()
            block = f"{name}.node{node}.branch{branch}.input{source}.{option}"
            return make(block, TwiceSeparableConv, channels, channels, _KERNELS[option])

        def reading(node: int, branch: int, source: int) -> nn.Module:
            option = functools.partial(operation, node, branch, source)
            return Reading(source, make.choose(f"{kind}.node{node}.op{branch}", option))

        branches = [
            make.choose(f"{kind}.node{node}.input{branch}", functools.partial(reading, node, branch))
            for node, branch in itertools.product(range(1, self.num_nodes + 1), (1, 2))
        ]
        # Every value has its slice of the 1x1 convolution in the shared weights, whatever it is concatenated with.
        slices: dict[int, nn.Module] = {}
        for value in range(self.num_nodes + 2):
            inputs = [
                choice for choice in self.choices if choice.name.startswith(f"{kind}.") and value in choice.options
            ]
            part = functools.partial(make, f"{name}.output{value}", relu_conv, channels, channels)
            loose = make.unless({choice.name: value for choice in inputs if ".input" in choice.name}, part)
            slices |= {} if loose is None else {value: loose}
        norm = make(f"{name}.norm", nn.BatchNorm2d, channels)
        return MicroCell(reduction, calibrations, branches, slices, norm)

    def initialize(self, name: str, block: nn.Module) -> None:
        """As published, He et al.'s normal weights."""
        enas_layers.initialize(block)


def _nearest(choice: Choice, value: int, operation: str) -> Option:
    """``operation``, or the largest input up to ``value``; where the choice has no such option, its first."""
    if operation in choice.options:
        return operation
    return max((o for o in choice.options if isinstance(o, int) and o <= value), default=choice.options[0])
