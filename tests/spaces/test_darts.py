"""DARTS's space against published genotypes and sizes, and its count of different cells against enumeration."""

import itertools
import math
import random
import re
from collections import namedtuple

import pytest
import torch
from space_examples import images

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.spaces import DARTS
from oneshot.spaces.edge_isomorphism import EDGES, Operations, canonical_cell, num_cells
from oneshot.spaces.genotype import Genotype
from oneshot.supernet import Supernet

OPERATIONS = [str(option) for option in DARTS().choices[0].options]

# The second-order result of DARTS and the result of P-DARTS (Chen et al., ICCV 2019), on CIFAR-10.
DARTS_V2 = Genotype(
    normal=[
        *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)),
    ],
    normal_concat=[2, 3, 4, 5],
    reduce=[
        *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)),
        *(("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)),
    ],
    reduce_concat=[2, 3, 4, 5],
)
PDARTS = Genotype(
    normal=[
        *(("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4)),
    ],
    normal_concat=range(2, 6),
    reduce=[
        *(("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2)),
        *(("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3)),
    ],
    reduce_concat=range(2, 6),
)


def small() -> DARTS:
    return DARTS(num_classes=5, resolution=8, channels=4, num_cells=4)


@pytest.mark.parametrize(("genotype", "params"), [(DARTS_V2, 3_349_342), (PDARTS, 3_433_798)], ids=["darts", "pdarts"])
def test_evaluation_networks_have_their_published_parameters(genotype: Genotype, params: int) -> None:
    """20 cells of 36 channels for 10 classes, without the auxiliary classifier: the 3.3 million that ``train.py`` of DARTS logs,
    and the number of https://github.com/chenxin061/pdarts/issues/7.
    """
    space = DARTS(channels=36, num_cells=20)
    arch = space.from_genotype(genotype)
    assert sum(block.params for block in CostTable(space).blocks(arch)) == params
    assert sum(tensor.numel() for tensor in space.network(arch).parameters()) == params


def test_genotypes_are_read_back() -> None:
    space = DARTS()
    published = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
    for genotype in (DARTS_V2, PDARTS):
        arch = space.from_genotype(genotype)
        assert space.from_genotype(published(*genotype)) == arch
        written = space.to_genotype(arch)
        assert space.from_genotype(written) == arch
        for cell in ("normal", "reduce"):
            operations = sorted(name for name, _ in getattr(genotype, cell))
            assert sorted(name for name, _ in getattr(written, cell)) == operations
        assert written.normal_concat == [2, 3, 4, 5]


def test_a_genotype_that_is_none_is_refused() -> None:
    space = DARTS()
    for changes, message in (
        ({"normal": DARTS_V2.normal[:6]}, "normal has 6 edges and concatenates [2, 3, 4, 5]; a DARTS cell has two"),
        ({"reduce_concat": [3, 4, 5]}, "reduce has 8 edges and concatenates [3, 4, 5]"),
        ({"reduce": [("sep_conv_7x7", 0), *DARTS_V2.reduce[1:]]}, "'sep_conv_7x7' is no operation of DARTS; these are"),
        (
            {"reduce": [("none", 0), *DARTS_V2.reduce[1:]]},
            "'none' is no operation of DARTS; these are ['skip_connect',",
        ),
        ({"reduce": [("max_pool_3x3", 1), *DARTS_V2.reduce[1:]]}, "reduce: node 2 cannot read node 1 twice"),
        (
            {"normal": [("sep_conv_3x3", 2), *DARTS_V2.normal[1:]]},
            "normal: node 2 cannot read node 2, only earlier ones",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            space.from_genotype(DARTS_V2._replace(**changes))
    with pytest.raises(ValueError, match="normal: node 3 has 3 edges; a genotype has two to every node"):
        space.to_genotype(space.largest)


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="num_cells is at least 4, so that the last cell is a normal one, not 3"):
        DARTS(num_cells=3)
    space = DARTS(num_classes=5, resolution=8, channels=2, num_cells=4)
    assert space.network(space.largest)(images(space, space.largest)).shape == (3, 5)


def test_renumbered_nodes_are_the_same_network() -> None:
    """Nodes 2 and 3 of the normal cell read only inputs; exchanged, their readers follow."""
    space = small()
    none = {choice.name: "none" for choice in space.choices}
    one = none | {
        **{"normal.node2.from0": "sep_conv_3x3", "normal.node3.from1": "dil_conv_5x5"},
        **{"normal.node4.from2": "skip_connect", "normal.node5.from3": "max_pool_3x3"},
    }
    two = none | {
        **{"normal.node3.from0": "sep_conv_3x3", "normal.node2.from1": "dil_conv_5x5"},
        **{"normal.node4.from3": "skip_connect", "normal.node5.from2": "max_pool_3x3"},
    }
    other = two | {"normal.node5.from2": "none", "normal.node5.from3": "max_pool_3x3"}
    assert space.arch(one) == space.arch(two) != space.arch(other)
    torch.manual_seed(0)
    networks = [space.network(Arch(values)).eval() for values in (one, two)]  # as written, not in canonical form
    networks[1].load_state_dict(networks[0].state_dict())
    x = images(space, space.largest)
    assert torch.equal(networks[0](x), networks[1](x))


def test_weightless_operations_on_nothing_are_nothing() -> None:
    space = small()
    none = {choice.name: "none" for choice in space.choices}
    pooled = none | {"normal.node3.from2": "avg_pool_3x3", "normal.node4.from3": "skip_connect"}
    assert space.arch(pooled) == space.arch(none) == space.smallest
    constants = none | {"normal.node3.from2": "sep_conv_3x3"}  # a convolution of nothing has the bias of its BatchNorm
    assert space.arch(constants) != space.smallest


def test_the_number_of_unlabelled_graphs() -> None:
    """31 unlabelled directed acyclic graphs have four nodes: https://oeis.org/A003087."""
    assert num_cells(tuple(("sep_conv_3x3",) if source < 2 else ("none", "sep_conv_3x3") for source, _ in EDGES)) == 31


@pytest.mark.parametrize("seed", range(30))
def test_the_number_of_different_cells_is_that_of_canonical_ones(seed: int) -> None:
    """For options that are few enough to enumerate: any on any edge, and alike ones on alike edges, which make symmetries."""
    rng = random.Random(seed)
    while True:
        inner, outer = (rng.sample(OPERATIONS, rng.choice((1, 2))) for _ in range(2))
        options: tuple[Operations, ...] = tuple(
            tuple(option for option in OPERATIONS if option in kept)
            for kept in (
                (outer if source < 2 else inner) if seed % 2 else rng.sample(OPERATIONS, rng.choice((1, 1, 2, 3)))
                for source, _ in EDGES
            )
        )
        if seed % 2:  # which leaves two to the tenth power
            options = tuple(
                ("none",) if source < 2 and rng.random() < 0.5 else part
                for (source, _), part in zip(EDGES, options, strict=True)
            )
        if 50 <= math.prod(map(len, options)) <= 3000:
            break
    assert num_cells(options) == len({canonical_cell(cell, options) for cell in itertools.product(*options)})


def test_the_size_is_counted_without_enumeration() -> None:
    space = DARTS()
    cells = num_cells(tuple(map(tuple, ([*OPERATIONS] for _ in EDGES))))
    assert cells == 3_548_186_762_160
    assert 8**14 / 24 < cells < 8**14  # at most 24 orders of the nodes
    assert 0 < cells**2 - space.size < cells**1.8  # normal cells that read nothing, whatever the other cell is
    assert space.restrict({"reduce.*": ("sep_conv_3x3",)}).size == cells


@pytest.mark.parametrize("num_layers", [4, 5, 8])
def test_a_reduction_cell_that_is_not_used_does_not_count(num_layers: int) -> None:
    space = DARTS(num_classes=5, resolution=8, channels=4, num_cells=num_layers)
    options = {choice.name: ("none",) for choice in space.choices}
    options |= {"normal.node2.from0": ("none", "max_pool_3x3"), "normal.node2.from1": ("none", "max_pool_3x3")}
    options |= {"reduce.node2.from0": ("none", "max_pool_3x3", "sep_conv_3x3")}
    part = space.restrict(options)
    archs = list(part.enumerate())
    # Of five cells the second and the fourth reduce, and the fifth reads the third and the first where it reads input 0 only.
    assert part.size == len(archs) == (8 if num_layers == 5 else 10)
    arch = part.arch({name: allowed[-1] for name, allowed in options.items()} | {"normal.node2.from1": "none"})
    network = part.network(arch)
    network(images(space, arch)).sum().backward()
    with_gradients = [
        index
        for index, cell in enumerate(network.cells)
        if any(parameter.grad is not None for parameter in cell.input0.parameters())
    ]
    assert with_gradients == {4: [1, 3], 5: [0, 2, 4], 8: [1, 3, 5, 7]}[num_layers]


def test_few_architectures_touch_every_weight() -> None:
    space = small()
    assert len(space.covering()) == 5
    bank = set(Supernet(space).state_dict())
    convolutions = ("dil_conv_3x3", "dil_conv_5x5", "sep_conv_3x3", "sep_conv_5x5")
    for cell, edge, name in itertools.product(("cell1", "cell2"), EDGES, convolutions):
        assert any(key.startswith(f"bank.{cell}.node{edge[1]}.from{edge[0]}.{name}.") for key in bank)
    part = space.restrict({"normal.*": ("none", "sep_conv_3x3"), "reduce.*": ("avg_pool_3x3", "skip_connect")})
    supernet = Supernet(part).eval()
    rng = random.Random(0)
    for _ in range(50):
        supernet.extract(part.sample(rng))


def test_graphs_of_both_cells() -> None:
    space = DARTS()
    graphs = space.graphs(space.from_genotype(DARTS_V2))
    assert list(graphs) == ["normal", "reduce"]
    for cell, graph in graphs.items():
        assert graph.nodes == ("c_{k-2}", "c_{k-1}", "node2", "node3", "node4", "node5", "output")
        assert [edge[1:] for edge in graph.edges[8:]] == [("output", "")] * 4
        operations = sorted(name for name, _ in getattr(DARTS_V2, cell))
        assert sorted(operation for _, _, operation in graph.edges[:8]) == operations
    assert len(space.graphs(space.smallest)["normal"].edges) == 4
