"""NAS-Bench-201's space against the published counts, strings and costs."""

import random
import re

import pytest
import torch
from space_examples import images, nasbench201_terms

from oneshot.costs import CostTable
from oneshot.spaces import NASBench201
from oneshot.supernet import Supernet

ALL_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def small() -> NASBench201:
    return NASBench201(num_classes=5, resolution=12, channels=4, num_cells=1)


def test_the_published_number_of_cells_and_of_different_ones() -> None:
    space = NASBench201()
    archs = list(space.enumerate())
    assert 5**6 == 15625
    assert space.size == len(archs) == len(set(archs)) == 6466
    for arch in archs[::100]:
        assert space.from_string(space.to_string(arch)) == arch


@pytest.mark.parametrize(
    ("cell", "mega_flops", "mega_params"),
    [
        (ALL_3X3, 220.11969, 1.531546),  # the largest of all, and below the smallest
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 7.78305, 0.073306),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|", 113.95137, 0.802426),
        ("|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|", 113.95137, 0.802426),
    ],
)  # fmt: skip
def test_the_costs_that_the_benchmark_tells(cell: str, mega_flops: float, mega_params: float) -> None:
    """On CIFAR-10. The benchmark counts the classifier's bias among the multiply-accumulates."""
    space = NASBench201()
    cost = CostTable(space).cost(space.from_string(cell))
    assert cost.macs + space.num_classes == round(mega_flops * 1e6)
    assert cost.params == round(mega_params * 1e6)


@pytest.mark.parametrize(
    ("num_classes", "resolution", "mega_flops", "mega_params"),
    [(100, 32, (7.7889, 220.12554), (0.079156, 1.537396)), (120, 16, (1.9534, 55.03756), (0.080456, 1.538696))],
    ids=["cifar100", "imagenet16-120"],
)
def test_the_published_range_of_costs_on_other_data(
    num_classes: int, resolution: int, mega_flops: tuple[float, float], mega_params: tuple[float, float]
) -> None:
    space = NASBench201(num_classes, resolution)
    costs = CostTable(space).costs([space.smallest, space.largest])
    assert [cost.macs + num_classes for cost in costs] == [round(flops * 1e6) for flops in mega_flops]
    assert [cost.params for cost in costs] == [round(params * 1e6) for params in mega_params]


def test_cells_that_the_benchmark_counts_as_one() -> None:
    space = NASBench201()
    # Node 1 is a copy of the input.
    one = space.from_string("|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")
    two = space.from_string("|skip_connect~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|avg_pool_3x3~1|nor_conv_3x3~2|")
    assert one == two
    # Nothing reads node 1, and nothing comes into it.
    unread = space.from_string("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|skip_connect~2|")
    empty = space.from_string("|none~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|skip_connect~2|")
    assert unread == empty
    assert space.graphs(empty)["cell"].edges == (("input", "output", "nor_conv_1x1"),)
    # One convolution added twice counts as two of a kind; the network of the class has two.
    twice = space.from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_3x3~2|")
    apart = space.from_string("|none~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|nor_conv_3x3~2|")
    assert twice == apart
    assert len(space.graphs(twice)["cell"].edges) == 3


def test_cells_that_the_benchmark_tells_apart_though_they_compute_alike() -> None:
    space = small()
    one = space.from_string("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    two = space.from_string("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    assert one != two
    networks = [space.network(arch).eval() for arch in (one, two)]
    networks[1].load_state_dict(dict(zip(networks[1].state_dict(), networks[0].state_dict().values(), strict=True)))
    x = images(space, one)
    assert torch.equal(networks[0](x), networks[1](x))


def test_all_of_a_class_compute_alike() -> None:
    """With equal weights for equal operations: tested through the sums of the terms that reach the output."""
    space = NASBench201()
    rng = random.Random(0)
    for _ in range(2000):
        values = {choice.name: rng.choice(choice.options) for choice in space.choices}
        assert nasbench201_terms(values) == nasbench201_terms(space.arch(values))


def test_the_graph_leaves_out_what_has_no_effect() -> None:
    space = NASBench201()
    arch = space.from_string("|none~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|")
    graph = space.graphs(arch)["cell"]
    assert graph.nodes == ("input", "node1", "node2", "output")
    assert graph.edges == (
        ("input", "node2", "nor_conv_1x1"),
        ("input", "output", "skip_connect"),
        ("node2", "output", "avg_pool_3x3"),
    )
    assert len(space.graphs(space.largest)["cell"].edges) == 6


def test_two_architectures_touch_every_weight() -> None:
    space = small()
    assert len(space.covering()) == 2
    bank = set(Supernet(space).state_dict())
    part = space.restrict({"node1.from0": ("none", "nor_conv_1x1"), "node2.*": ("nor_conv_1x1", "nor_conv_3x3")})
    assert set(Supernet(part).state_dict()) < bank
    supernet = Supernet(part).eval()
    for arch in part.enumerate():  # asks for no weight that the supernet lacks
        supernet.extract(arch)
    for arch in random.Random(0).sample(list(space.enumerate()), 50):
        touched = {name for edge in space.graphs(arch)["cell"].edges for name in [edge[2]] if "conv" in name}
        assert all(any(f".{name}." in key for key in bank) for name in touched)


def test_an_odd_size_is_rounded_up() -> None:
    space = NASBench201(num_classes=5, resolution=9, channels=4, num_cells=1)
    for arch in (space.largest, space.smallest):
        assert space.network(arch)(images(space, arch)).shape == (3, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|none~0|+|none~0|none~1|", "a NAS-Bench-201 architecture is written |op~0|+|op~0|op~1|+"),
        (ALL_3X3.replace("~2", "~1"), "a NAS-Bench-201 architecture is written |op~0|+|op~0|op~1|+"),
        ("", "a NAS-Bench-201 architecture is written |op~0|+|op~0|op~1|+"),
        (ALL_3X3.replace("3x3~2", "3x4~2"), "'nor_conv_3x4' in"),
    ],
)
def test_a_string_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        NASBench201().from_string(text)
    assert repr(text) in str(error.value)


def test_keys_are_parsed() -> None:
    space = NASBench201()
    arch = space.from_string(ALL_3X3)
    assert space.parse(ALL_3X3) == space.parse(arch.to_json()) == arch
    with pytest.raises(ValueError, match=r"a NAS-Bench-201 architecture is written \|op~0"):
        space.parse("00000000")
