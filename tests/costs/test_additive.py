"""Additive tables: what walks give, for whole populations, few walks, and errors passed on."""

import random
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from space_examples import SPACES

from oneshot.arch import Arch, Choice
from oneshot.costs import AdditiveLatency, AdditiveTable, CostTable
from oneshot.costs import additive as additive_module
from oneshot.spaces import Make, OFAMobileNetV3, SearchSpace
from oneshot.spaces.coding import Coding


class Kinds(SearchSpace):
    """A choice of a kind, and for each kind a choice of its own."""

    num_classes = 2

    def __init__(self) -> None:
        self.choices = (
            Choice("kind", ("conv", "pool", "none")),
            Choice("kernel", (3, 5, 7), {"kind": ("conv",)}),
            Choice("size", (2, 3), {"kind": ("pool",)}),
            Choice("width", (1, 2, 3, 4)),
        )

    def build(self, arch: Arch, make: Make) -> None:  # type: ignore[override]
        raise AssertionError("never built")


def kinds(arch: Arch) -> dict[str, tuple[float, ...]]:
    width = float(arch.integer("width"))
    blocks = {"stem": (width,), "head": (10.0,)}
    if "kernel" in arch:
        blocks["conv"] = (arch.integer("kernel") ** 2 * width,)
    if "size" in arch:
        blocks["pool"] = (0.1 * arch.integer("size"),)
    return blocks


def total(contributions: Mapping[str, tuple[float, ...]]) -> float:
    return sum(parts[0] for parts in contributions.values())


@pytest.mark.parametrize("name", SPACES)
def test_costs_of_codes_are_those_of_architectures(name: str) -> None:
    space = SPACES[name]()
    coding, table = Coding(space), CostTable(space)
    codes = coding.sample(40, np.random.default_rng(0))
    archs = coding.decode(codes)
    costs = table.costs_of(codes)
    assert costs.dtype == np.int64
    walked = CostTable(space)
    expected = [
        [sum(block.macs for block in blocks), sum(block.params for block in blocks)]
        for blocks in map(walked.blocks, archs)
    ]
    np.testing.assert_array_equal(costs, expected)
    assert [[cost.macs, cost.params] for cost in table.costs(archs)] == expected
    assert table.costs([]) == []
    assert table.costs_of(codes[:0]).shape == (0, 2)


def test_sums_are_found_with_few_walks() -> None:
    space = Kinds()
    walked: list[Arch] = []

    def walk(arch: Arch) -> dict[str, tuple[float, ...]]:
        walked.append(arch)
        return kinds(arch)

    table = AdditiveTable(space, walk, num_values=1)
    archs = list(space.enumerate())
    found = table(table.coding.encode(archs))[:, 0]
    np.testing.assert_allclose(found, [total(kinds(arch)) for arch in archs], rtol=1e-12)
    before = len(walked)
    table(table.coding.encode(archs))
    assert len(walked) == before


def test_a_stage_is_known_after_few_walks() -> None:
    """A block does not depend on its neighbours, although they come and go together."""
    space = OFAMobileNetV3(resolutions=(32, 48))
    num_walks = 0

    def walk(arch: Arch) -> dict[str, float]:
        nonlocal num_walks
        num_walks += 1
        size = arch.integer("resolution")
        return {name: size * float(value) for name, value in arch.items() if name.endswith((".kernel", ".expand"))}

    table = AdditiveLatency(space, walk)
    codes = Coding(space).sample(2000, np.random.default_rng(0))
    archs = Coding(space).decode(codes)
    np.testing.assert_allclose(table.latencies_of(codes), [sum(walk(arch).values()) for arch in archs])
    num_walks = 0
    table.latencies_of(Coding(space).sample(5000, np.random.default_rng(1)))
    assert num_walks < 5
    assert table.latency(archs[0]) == pytest.approx(sum(walk(archs[0]).values()))


def meeting(arch: Arch) -> dict[str, tuple[float, ...]]:
    """Blocks that depend on two choices where these meet in the middle, which changing one choice does not show."""
    values = [arch.integer(name) for name in arch]
    blocks = {name: (float(arch.integer(name)),) for name in arch}
    if values[0] == values[3] == 1:
        blocks["layer1"] = (100.0,)
    return blocks


def appearing(arch: Arch) -> dict[str, tuple[float, ...]]:
    values = [arch.integer(name) for name in arch]
    return {name: (float(arch.integer(name)),) for name in arch} | (
        {"surprise": (7.0,)} if values[0] == values[2] == 1 else {}
    )


class Layers(SearchSpace):
    num_classes = 2

    def __init__(self) -> None:
        self.choices = tuple(Choice(f"layer{layer}", (0, 1, 2)) for layer in range(4))

    def build(self, arch: Arch, make: Make) -> None:  # type: ignore[override]
        raise AssertionError("never built")


@pytest.mark.parametrize("walk", [meeting, appearing])
@pytest.mark.parametrize("max_rows", [2**18, 1])
def test_where_blocks_interact_everything_is_walked(
    walk: Callable[[Arch], dict[str, tuple[float, ...]]], max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additive_module, "_MAX_ROWS", max_rows)
    space = Layers()
    table = AdditiveTable(space, walk, num_values=1)
    archs = list(space.enumerate())
    random.Random(0).shuffle(archs)
    expected = [total(walk(arch)) for arch in archs]
    np.testing.assert_allclose(table(table.coding.encode(archs[:7]))[:, 0], expected[:7])
    np.testing.assert_allclose(table(table.coding.encode(archs))[:, 0], expected)


def test_large_groups_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additive_module, "_MAX_ROWS", 4)
    space = OFAMobileNetV3(num_classes=5, resolutions=(32, 48), width_multiplier=0.5)
    codes = Coding(space).sample(30, np.random.default_rng(0))
    sparse, table = CostTable(space).costs_of(codes), CostTable(space)
    monkeypatch.undo()
    np.testing.assert_array_equal(sparse, table.costs_of(codes))


def test_integers_larger_than_floats_are_exact() -> None:
    table = AdditiveTable(
        Layers(), lambda arch: {"all": (2**60 + arch.integer("layer0"),)}, num_values=1, integers=True
    )
    codes = table.coding.encode(Layers().enumerate())
    np.testing.assert_array_equal(table(codes)[:, 0], 2**60 + codes[:, 0].astype(np.int64))


def test_what_a_walk_raises_is_passed_on_each_time() -> None:
    def walk(arch: Arch) -> dict[str, float]:
        if arch["layer2"] == 1:
            raise ValueError("layer 'conv-7' is not in the lookup table")
        return {"all": 1.0}

    space = Layers()
    table = AdditiveLatency(space, walk)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^layer 'conv-7' is not in the lookup table$"):
            table.latencies_of(Coding(space).encode([space.smallest]))
