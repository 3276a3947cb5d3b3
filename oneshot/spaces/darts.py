"""DARTS's space (Liu, Simonyan and Yang, ICLR 2019; https://github.com/quark0/darts, ``cnn/model.py``)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping

from torch import nn

from oneshot.arch import Arch, Choice, Join, Option
from oneshot.checking import check_count
from oneshot.spaces import edge_isomorphism
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.cell_layers import (
    EdgeGraph,
    FactorizedReduce,
    ReLUConvNorm,
    ReLUSeparableConvNorm,
    TwiceSeparableConv,
    TwoInputCell,
    TwoInputStack,
)
from oneshot.spaces.edge_isomorphism import EDGES, NODES, NONE, Operations
from oneshot.spaces.genotype import Genotype, read_pairs, write_pairs
from oneshot.spaces.graph import CellGraph

_DILATED = {"dil_conv_3x3": 3, "dil_conv_5x5": 5}
_SEPARABLE = {"sep_conv_3x3": 3, "sep_conv_5x5": 5}
_WEIGHTED = ("skip_connect", *_DILATED, *_SEPARABLE)
_OPTIONS = (NONE, "skip_connect", "avg_pool_3x3", "max_pool_3x3", *_DILATED, *_SEPARABLE)
_CELLS = ("normal", "reduce")


class DARTS(SearchSpace):
    """A stack of cells, each of which reads the two before it. Its four nodes add up what the operations on their edges make of
    the inputs and of earlier nodes; the output is their concatenation. The cells at a third and two thirds of the depth halve
    the size and double the channels.

    Choices: ``normal.node2.from0`` to ``normal.node5.from4``, and the same for ``reduce``: one of the published operations or
    ``"none"``. Cells are equal when they have the same edges after some renumbering of the nodes; a weightless operation on a
    node to which nothing comes is no edge, and the reduction cell does not count where the last cell reads nothing of it.
    Subnets are the published evaluation networks, with any number of edges to a node: the published search network, with
    BatchNorm after pools and without its weights elsewhere, is no subnet's.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        channels: of a node in the first cell; published 16 to search and 36 to evaluate, on CIFAR-10.
        num_cells: published 8 to search and 20 to evaluate.

    Raises:
        ValueError: fewer than 4 cells, so that the last would not be a normal one.
    """

    def __init__(self, num_classes: int = 10, resolution: int = 32, channels: int = 16, num_cells: int = 8) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, channels=channels)
        if num_cells < 4:
            raise ValueError(f"num_cells is at least 4, so that the last cell is a normal one, not {num_cells}")
        self.num_classes = num_classes
        self.resolution = resolution
        self.channels = channels
        self.num_cells = num_cells
        self.choices = tuple(Choice(_name(cell, *edge), _OPTIONS) for cell in _CELLS for edge in EDGES)
        self.joins = [
            Join(tuple(_name(cell, source, node) for source in range(node)), kept=2)
            for cell in _CELLS
            for node in NODES
        ]

    def canonical(self, values: dict[str, Option]) -> dict[str, Option]:
        return {
            _name(cell, *edge): operation
            for cell, operations in self._cells(values).items()
            for edge, operation in zip(EDGES, operations, strict=True)
        }

    @property
    def size(self) -> int:
        normal, reduce = (self._options(cell) for cell in _CELLS)
        counts = {reads: edge_isomorphism.num_cells(_reading(normal, reads)) for reads in ((), (0,), (0, 1))}
        without = counts[()] + (0 if self._uses_reduction({0}) else counts[0,] - counts[()])
        return (counts[0, 1] - without) * edge_isomorphism.num_cells(reduce) + without

    def covering(self) -> list[Arch]:
        """An architecture for each operation that has weights, on all edges; in some restricted spaces a few more."""
        everywhere = [[c.options[-1] if name not in c.options else name for c in self.choices] for name in _WEIGHTED]
        uniform = (self.arch({c.name: o for c, o in zip(self.choices, row, strict=True)}) for row in everywhere)
        missing = {(choice.name, option) for choice in self.choices for option in choice.options if option in _WEIGHTED}
        found = []
        for arch in itertools.chain(uniform, super().covering()):
            if missing & arch.items():
                found.append(arch)
                missing -= arch.items()
            if not missing:
                break
        return found or [self.largest]

    def from_genotype(self, genotype: Genotype) -> Arch:
        """The architecture of a published genotype, ``"none"`` on the edges that it does not name.

        Raises:
            ValueError: it has other nodes or operations, or reads a node twice or before it is computed.
        """
        values = {choice.name: NONE for choice in self.choices}
        for cell in _CELLS:
            edges = read_pairs(cell, getattr(genotype, cell), getattr(genotype, f"{cell}_concat"), _OPTIONS)
            values |= {_name(cell, *edge): operation for edge, operation in edges.items()}
        return self.arch(values)

    def to_genotype(self, arch: Arch) -> Genotype:
        """``arch`` in the published notation.

        Raises:
            ValueError: a node has not two edges.
        """
        cells = self._cells(arch)
        normal, reduce = (write_pairs(cell, edge_isomorphism.live_edges(cells[cell])) for cell in _CELLS)
        return Genotype(normal, [*NODES], reduce, [*NODES])

    def graphs(self, arch: Arch) -> Mapping[str, CellGraph]:
        names = ("c_{k-2}", "c_{k-1}", *(f"node{node}" for node in NODES), "output")
        graphs = {}
        for cell, operations in self._cells(arch).items():
            live = edge_isomorphism.live_edges(operations)
            edges = [(names[source], names[target], operation) for (source, target), operation in live.items()]
            graphs[cell] = CellGraph(names, (*edges, *((names[node], "output", "") for node in NODES)))
        return graphs

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct

        # Nodes are concatenated in the canonical order, as the next cell's weights are for that order; not those of a mix.
        live: dict[str, dict[tuple[int, int], str]] = (
            {}
            if arch.is_open
            else {cell: edge_isomorphism.live_edges(operations) for cell, operations in self._cells(arch).items()}
        )
        channels = self.channels
        widths = [3 * channels, 3 * channels]
        stem = make("stem", ConvNormAct, 3, widths[-1], 3, apply_act=False)
        cells: list[nn.Module] = []
        was_reduced = False
        for index in range(self.num_cells):
            reduces = self._reduces(index)
            channels *= 2 if reduces else 1
            name = f"cell{index + 1}"
            kind = "reduce" if reduces else "normal"
            blocks: dict[tuple[int, int], nn.Module | None] = {}
            for source, target in EDGES if arch.is_open else live[kind]:
                stride = 2 if reduces and source < NODES[0] else 1
                operation = functools.partial(
                    _block,
                    make,
                    f"{name}.node{target}.from{source}",
                    stride,
                    live.get(kind, {}).get((source, target)),
                )
                blocks[source, target] = make.choose(_name(kind, source, target), operation, channels)
            first = make(f"{name}.input0", FactorizedReduce if was_reduced else ReLUConvNorm, widths[-2], channels)
            second = make(f"{name}.input1", ReLUConvNorm, widths[-1], channels)
            graph = EdgeGraph(blocks, num_inputs=2, num_nodes=4, num_outputs=4, stride=2 if reduces else 1)
            cells.append(TwoInputCell(first, second, graph))
            widths.append(len(NODES) * channels)
            was_reduced = reduces
        return TwoInputStack(stem, cells, make("classifier", nn.Linear, widths[-1], self.num_classes))

    def _options(self, cell: str) -> tuple[Operations, ...]:
        return tuple(tuple(map(str, c.options)) for c in self.choices if c.name.startswith(f"{cell}."))

    def _cells(self, values: Mapping[str, Option]) -> dict[str, Operations]:
        """The operations of both cells in canonical form: where nothing of a reduction cell is used, that is its first option."""
        found: dict[str, Operations] = {}
        for cell in _CELLS:
            options = self._options(cell)
            operations = tuple(str(values[_name(cell, *edge)]) for edge in EDGES)
            if cell == "reduce" and not self._uses_reduction(edge_isomorphism.inputs_read(found["normal"])):
                operations = tuple(part[0] for part in options)
            found[cell] = edge_isomorphism.canonical_cell(operations, options)
        return found

    def _reduces(self, index: int) -> bool:
        return index in (self.num_cells // 3, 2 * self.num_cells // 3)

    def _uses_reduction(self, reads: Collection[int]) -> bool:
        """Whether the last cell depends on a reduction cell where normal cells read these inputs."""
        used = {self.num_cells - 1}
        for index in range(self.num_cells - 1, -1, -1):
            if index in used:
                if self._reduces(index):
                    return True
                used |= {index - 2 + source for source in reads}
        return False


def _reading(options: tuple[Operations, ...], reads: Collection[int]) -> tuple[Operations, ...]:
    """The options without operations on other inputs than these."""
    return tuple(
        part if source in reads or source in NODES else tuple(option for option in part if option == NONE)
        for (source, _), part in zip(EDGES, options, strict=True)
    )


def _name(cell: str, source: int, target: int) -> str:
    return f"{cell}.node{target}.from{source}"


def _block(make: Make, edge: str, stride: int, canonical: str | None, option: str, channels: int) -> nn.Module | None:
    operation = (
        canonical or option
    )  # of a network, the operation in its canonical form, in which nodes may have changed places
    name = f"{edge}.{operation}"
    if operation == NONE:
        return None
    if operation in _SEPARABLE:
        return make(name, TwiceSeparableConv, channels, channels, _SEPARABLE[operation], stride)
    if operation in _DILATED:
        return make(name, ReLUSeparableConvNorm, channels, channels, _DILATED[operation], stride, dilation=2)
    if operation == "avg_pool_3x3":
        return make(name, nn.AvgPool2d, 3, stride, 1, count_include_pad=False)
    if operation == "max_pool_3x3":
        return make(name, nn.MaxPool2d, 3, stride, 1)
    return make(name, FactorizedReduce, channels, channels) if stride == 2 else nn.Identity()
