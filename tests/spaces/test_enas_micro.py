"""ENAS's micro space: its network against an independent description, its canonical form against graph isomorphism."""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import networkx
import pytest
import torch
from networkx.algorithms.isomorphism import categorical_multiedge_match, categorical_node_match
from torch import Tensor, nn
from torch.nn import functional

from oneshot.arch import Arch, Option
from oneshot.spaces import ENASMicro
from oneshot.spaces.isomorphism import CellOptions, canonical_cell, num_cells
from oneshot.spaces.making import Making
from oneshot.supernet import Supernet

# The cells of the published script (scripts/cifar10_micro_final.sh).
PUBLISHED = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


def made(space: ENASMicro, values: dict[str, Option]) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The network of ``values``, canonical or not, in evaluation mode with random weights, and its blocks."""
    blocks: dict[str, nn.Module] = {}

    def make(name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        blocks[name] = block(*args, **kwargs)
        return blocks[name]

    network = space.build(Arch(values), Making(values, make)).double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.uniform_(-0.5, 0.5)
    return network, blocks


def random_values(space: ENASMicro, rng: random.Random) -> dict[str, Option]:
    return {choice.name: rng.choice(choice.options) for choice in space.choices}


# The network ---------------------------------------------------------------------------------------------------------


class Reference:
    """The published code's shared network, written from its tensors alone: their names follow those of the blocks."""

    def __init__(self, space: ENASMicro, blocks: dict[str, nn.Module], sequence: str) -> None:
        numbers = list(map(int, sequence.split()))
        self.space = space
        self.arcs = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        self.tensors = {name: list(block.state_dict().values()) for name, block in blocks.items()}
        self.used: set[str] = set()

    def take(self, name: str) -> list[Tensor]:
        """The tensors of a block that count: weights of convolutions, and scale, offset, mean and variance of a norm."""
        self.used.add(name)
        return [tensor for tensor in self.tensors[name] if tensor.is_floating_point()]

    def norm(self, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, scale, offset)

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight, *norm = self.take(name)
        return self.norm(functional.conv2d(x, weight, padding="same"), *norm)

    def reduce(self, x: Tensor, name: str) -> Tensor:
        """Every other pixel from the first, and from the second on, by half of the filters each."""
        one, two, *norm = self.take(name)
        moved = functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        paths = [functional.conv2d(x[:, :, ::2, ::2], one), functional.conv2d(moved[:, :, ::2, ::2], two)]
        return self.norm(torch.cat(paths, 1), *norm)

    def operation(self, x: Tensor, number: int, name: str) -> Tensor:
        if number == 4:
            return x
        if number == 3:
            return functional.max_pool2d(x, 3, 1, 1)
        if number == 2:
            ones = torch.ones_like(x)
            return functional.avg_pool2d(x, 3, 1, 1) / functional.avg_pool2d(ones, 3, 1, 1)
        tensors = self.take(f"{name}.sep_conv_{(3, 5)[number]}x{(3, 5)[number]}")
        for depthwise, pointwise, *norm in (tensors[:6], tensors[6:]):
            x = functional.conv2d(x.relu(), depthwise, padding="same", groups=x.shape[1])
            x = self.norm(functional.conv2d(x, pointwise), *norm)
        return x

    def cell(self, name: str, arc: list[int], values: list[Tensor]) -> Tensor:
        for node in range(self.space.num_nodes):
            terms = []
            for branch in (0, 1):
                value, number = arc[4 * node + 2 * branch : 4 * node + 2 * branch + 2]
                block = f"{name}.node{node + 1}.branch{branch + 1}.input{value}"
                terms.append(self.operation(values[value], number, block))
            values = [*values, terms[0] + terms[1]]
        read = arc[::2]
        loose = [value for value in range(len(values)) if value not in read]
        weight = torch.cat([self.take(f"{name}.output{value}")[0] for value in loose], 1)
        out = torch.cat([values[value] for value in loose], 1).relu()
        return self.norm(functional.conv2d(out, weight), *self.take(f"{name}.norm"))

    def __call__(self, images: Tensor) -> Tensor:
        x = self.conv(images, "stem")
        layers = [x, x]
        channels, distance = self.space.channels, self.space.num_layers // 3
        for layer in range(self.space.num_layers + 2):
            name = f"cell{layer + 1}"
            is_reduction = layer in (distance, 2 * distance + 1)
            if is_reduction:
                channels *= 2
                layers = [layers[1], self.reduce(layers[1], f"{name}.reduction")]
            inputs = list(layers)
            if inputs[0].shape[2] != inputs[1].shape[2]:
                inputs[0] = self.reduce(inputs[0].relu(), f"{name}.input0")
            for index in (0, 1):
                if inputs[index].shape[1] != channels:
                    inputs[index] = self.conv(inputs[index].relu(), f"{name}.input{index}")
            layers = [layers[1], self.cell(name, self.arcs[is_reduction], inputs)]
        return layers[1].relu().mean((2, 3)) @ self.take("classifier")[0].T


@pytest.mark.parametrize(("num_layers", "resolution"), [(1, 8), (3, 9), (6, 8)])
def test_the_network_is_that_of_the_published_code(num_layers: int, resolution: int) -> None:
    space = ENASMicro(num_classes=5, num_layers=num_layers, channels=2, resolution=resolution)
    rng = random.Random(0)
    archs = [space.from_published(PUBLISHED), space.smallest, *(space.sample(rng) for _ in range(4))]
    images = torch.randn(2, 3, resolution, resolution, dtype=torch.float64)
    for arch in archs:
        network, blocks = made(space, arch.to_dict())
        reference = Reference(space, blocks, space.to_published(arch))
        torch.testing.assert_close(network(images), reference(images))
        assert reference.used == set(blocks)


def test_published_cells_are_read_and_written() -> None:
    space = ENASMicro()
    arch = space.from_published(PUBLISHED)
    assert space.from_published(space.to_published(arch)) == arch
    graphs = space.graphs(arch)
    operations = [sorted(operation for *_, operation in graph.edges if operation) for graph in graphs.values()]
    names = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
    numbers = list(map(int, PUBLISHED.split()))
    assert operations == [sorted(names[number] for number in part) for part in (numbers[1:20:2], numbers[21::2])]
    assert [edge for edge in graphs["normal"].edges if edge[1] == "output"] == [
        (f"node{node}", "output", "") for node in range(1, 6)
    ]
    assert graphs["reduce"].nodes == ("input0", "input1", "node1", "node2", "node3", "node4", "node5", "output")
    assert len([edge for edge in graphs["reduce"].edges if edge[1] == "output"]) == 4


@pytest.mark.parametrize("sequence", ["", "0 1", PUBLISHED + " 0", PUBLISHED.replace("0 2", "x 2")])
def test_a_sequence_of_another_length_is_refused(sequence: str) -> None:
    with pytest.raises(ValueError, match="a sequence of this space is 40 numbers, not"):
        ENASMicro().from_published(sequence)


def test_a_sequence_with_a_wrong_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'normal.node1.op1' cannot be 5"):
        ENASMicro().from_published("0 5" + PUBLISHED[3:])
    with pytest.raises(ValueError, match=r"'normal.node1.input1' cannot be 2"):
        ENASMicro().from_published("2 2" + PUBLISHED[3:])


@pytest.mark.parametrize("name", ["num_layers", "num_nodes"])
def test_there_is_at_least_one_layer_and_node(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is at least 1, not 0"):
        ENASMicro(**{name: 0})


def test_parameters_of_the_published_network() -> None:
    """The paper reports 4.6 million parameters for its cells at 36 channels and 15 + 2 cells. The published code counts 3.89
    million for the network that it retrains, and 0.49 million in its auxiliary head. The network here is the one that it
    searches with, and has 3.15 million: loose ends go through a 1x1 convolution, so that the next cell's inputs are narrower.
    """
    space = ENASMicro(num_layers=15, channels=36)
    arch = space.from_published(PUBLISHED)
    with torch.device("meta"):
        network = space.network(arch)

    def separable(channels: int, kernel: int) -> int:
        return 2 * (kernel**2 * channels + channels**2 + 2 * channels)

    def cell(arc: list[int], channels: int) -> int:
        loose = 7 - len(set(arc[::2]))
        kernels = [(3, 5)[number] for number in arc[1::2] if number < 2]
        return sum(separable(channels, kernel) for kernel in kernels) + loose * channels**2 + 2 * channels

    numbers = list(map(int, PUBLISHED.split()))
    widths = [36] * 5 + [72] * 6 + [144] * 6
    kinds = [numbers[20:] if index in (5, 11) else numbers[:20] for index in range(17)]
    cells = sum(cell(kind, width) for kind, width in zip(kinds, widths, strict=True))
    stem = 27 * 108 + 2 * 108
    calibrations = 3 * (108 * 36 + 2 * 36) + 2 * (36 * 72 + 2 * 72) + 2 * (72 * 144 + 2 * 144)
    expected = stem + calibrations + cells + 10 * 144
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 3_151_116


# Canonical form ------------------------------------------------------------------------------------------------------


def graph_of(values: dict[str, Option], kind: str, num_nodes: int) -> networkx.MultiDiGraph:
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from([(0, {"kind": "input0"}), (1, {"kind": "input1"})])
    for node in range(1, num_nodes + 1):
        graph.add_node(node + 1, kind="node")
        for branch in (1, 2):
            source, operation = values[f"{kind}.node{node}.input{branch}"], values[f"{kind}.node{node}.op{branch}"]
            graph.add_edge(source, node + 1, op=operation)
    return graph


def is_same_graph(one: networkx.MultiDiGraph, two: networkx.MultiDiGraph) -> bool:
    same_nodes, same_edges = categorical_node_match("kind", None), categorical_multiedge_match("op", None)
    return networkx.is_isomorphic(one, two, node_match=same_nodes, edge_match=same_edges)


def relabelled(
    space: ENASMicro, values: dict[str, Option], rng: random.Random
) -> tuple[dict[str, Option], dict[str, str]]:
    """Another description of the same cells: nodes in another valid order, branches exchanged; and where their blocks went."""
    found: dict[str, Option] = {}
    moved: dict[str, str] = {}
    for kind in ("normal", "reduce"):
        new = {0: 0, 1: 1}
        while len(new) < space.num_nodes + 2:
            ready = [
                node
                for node in range(1, space.num_nodes + 1)
                if node + 1 not in new and all(values[f"{kind}.node{node}.input{b}"] in new for b in (1, 2))
            ]
            node, position = rng.choice(ready), len(new) - 1
            for branch, target in zip((1, 2), rng.sample((1, 2), 2), strict=True):
                source, operation = (values[f"{kind}.node{node}.{part}{branch}"] for part in ("input", "op"))
                found[f"{kind}.node{position}.input{target}"] = new[source]
                found[f"{kind}.node{position}.op{target}"] = operation
                old = f"{kind}.node{node}.branch{branch}.input{source}.{operation}"
                moved[old] = f"{kind}.node{position}.branch{target}.input{new[source]}.{operation}"
            new[node + 1] = position + 1
        moved |= {f"{kind}.output{old}": f"{kind}.output{value}" for old, value in new.items()}
    return {choice.name: found[choice.name] for choice in space.choices}, moved


def test_other_descriptions_of_the_same_cells_are_the_same_architecture() -> None:
    space = ENASMicro()
    rng = random.Random(0)
    smallest = space.smallest.to_dict()
    several = [space.sample(rng).to_dict() for _ in range(100)] + [random_values(space, rng) for _ in range(100)]
    for values in (smallest, *several):
        arch = space.arch(values)
        assert space.arch(arch) == arch
        for kind in ("normal", "reduce"):
            assert is_same_graph(graph_of(values, kind, 5), graph_of(arch.to_dict(), kind, 5))
        for _ in range(3):
            assert space.arch(relabelled(space, values, rng)[0]) == arch


def test_the_same_cells_compute_the_same_with_their_weights_moved() -> None:
    space = ENASMicro(num_classes=5, num_layers=1, channels=2, resolution=8)
    rng = random.Random(1)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for _ in range(5):
        values = random_values(space, rng)
        other, moved = relabelled(space, values, rng)
        network, blocks = made(space, values)
        other_network, other_blocks = made(space, other)
        for name, block in blocks.items():
            cell, _, rest = name.partition(".")
            kind = "reduce" if cell in ("cell1", "cell2") else "normal"
            target = moved.get(f"{kind}.{rest}")
            other_blocks[f"{cell}.{target.partition('.')[2]}" if target else name].load_state_dict(block.state_dict())
        assert set(blocks) != set(other_blocks)
        torch.testing.assert_close(network(images), other_network(images))


def test_architectures_are_equal_exactly_when_their_graphs_are() -> None:
    """Three nodes and two operations, where equal ones are frequent."""
    space = ENASMicro(num_nodes=3).restrict(
        {"normal.*.op?": ("identity", "sep_conv_3x3"), "reduce.*.op?": ("identity",), "reduce.*.input?": (0,)}
    )
    rng = random.Random(0)
    values = [random_values(space, rng) for _ in range(60)]
    values += [relabelled(space, value, rng)[0] for value in values]
    archs, graphs = [space.arch(value) for value in values], [graph_of(value, "normal", 3) for value in values]
    equal = 0
    for one, two in itertools.combinations(range(len(values)), 2):
        assert (archs[one] == archs[two]) == is_same_graph(graphs[one], graphs[two])
        equal += archs[one] == archs[two]
    assert 60 <= equal < 100


# Size ----------------------------------------------------------------------------------------------------------------


def full(num_nodes: int, operations: str) -> CellOptions:
    return tuple((tuple(range(node + 2)), tuple(operations)) * 2 for node in range(num_nodes))


def cells(options: CellOptions) -> Iterator[Any]:
    return itertools.product(*([((i, o), (j, p)) for i, o, j, p in itertools.product(*node)] for node in options))


def test_the_number_of_cells_by_hand() -> None:
    """One node: pairs of ten branches. Two nodes: pairs of those and of 15, less the descriptions of unlike unread twins."""
    assert num_cells(full(1, "abcde")) == 10 * 11 // 2
    pairs, more = 10 * 11 // 2, 15 * 16 // 2
    assert num_cells(full(2, "abcde")) == pairs * (more - pairs) + pairs * (pairs + 1) // 2


@pytest.mark.parametrize("seed", range(6))
def test_the_number_of_cells_of_any_options(seed: int) -> None:
    """More cells than are listed one by one, so that they are counted."""
    rng = random.Random(seed)
    while True:
        options: CellOptions = tuple(
            tuple(tuple(rng.sample(part, rng.randint(1, len(part)))) for part in node) for node in full(4, "ab")
        )
        if 20_000 < math.prod(len(part) for node in options for part in node) < 60_000:
            break
    assert num_cells(options) == len({canonical_cell(cell, options) for cell in cells(options)})


def test_the_size_of_the_published_space() -> None:
    space = ENASMicro()
    assert space.size == 31_355_379_836**2
    assert ENASMicro(num_nodes=1).size == 55**2
    assert space.restrict({"reduce.*.input?": (0,), "reduce.*.op?": ("identity",)}).size == 31_355_379_836


# Shared weights ------------------------------------------------------------------------------------------------------


def test_the_supernet_holds_what_architectures_use_and_nothing_else() -> None:
    space = ENASMicro(num_classes=5, num_layers=1, channels=2, resolution=8)
    supernet = Supernet(space)
    names = {name for name, _ in supernet.bank.named_parameters()}
    in_a_cell = [name for name in names if name.startswith("cell2.node") and name.endswith("0.1.weight")]
    assert len(in_a_cell) == 2 * 2 * sum(node + 1 for node in range(1, 6))
    assert all(space.arch(arch) == arch for arch in space.covering())
    rng = random.Random(0)
    for _ in range(30):
        supernet(torch.randn(2, 3, 8, 8), space.sample(rng))


def test_a_restricted_space_has_a_supernet() -> None:
    space = ENASMicro(num_classes=5, num_layers=1, channels=2, resolution=8, num_nodes=3)
    part = space.restrict(
        {"*.node2.input?": (1, 2), "normal.node3.input1": (3,), "*.op1": ("sep_conv_5x5", "max_pool_3x3")}
    )
    supernet, whole = Supernet(part).eval(), Supernet(space)
    held, all_held = (dict(one.bank.named_parameters()) for one in (supernet, whole))
    assert held.keys() < all_held.keys()
    closed = (".branch1.input1.sep_conv_3x3", "cell1.node2.branch2.input0.")
    for names in closed:
        assert any(names in name for name in all_held), names
        assert not any(names in name for name in held), names
    drawn, rng = set(), random.Random(0)
    for _ in range(50):
        arch = part.sample(rng)
        images, network = torch.randn(2, 3, 8, 8), part.network(arch).eval()
        network.load_state_dict(supernet.extract(arch).state_dict())
        assert torch.equal(supernet(images, arch), network(images))
        drawn.add(arch)
    assert len(drawn) > 40
