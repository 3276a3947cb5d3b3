"""The cost table: exact figures, also where a space does not follow its grouping, and no walk where one was made before."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from space_examples import SPACES
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from oneshot.arch import Arch, Choice
from oneshot.costs import Cost, CostTable
from oneshot.spaces import Make, NASBenchMacro, OFAMobileNetV3, SearchSpace
from oneshot.spaces.coding import Coding


def counted(space: SearchSpace, arch: Arch) -> Cost:
    """The costs of the network itself, by torch's counter."""
    network = space.network(arch).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, *space.input_shape(arch)))
    return Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters()))


def watch_builds(monkeypatch: pytest.MonkeyPatch, space: SearchSpace) -> list[Arch]:
    """The architectures whose networks ``space`` builds from now on."""
    built: list[Arch] = []
    build = type(space).build

    def watched(self: SearchSpace, arch: Arch, make: Make) -> nn.Module:
        built.append(arch)
        return build(self, arch, make)

    monkeypatch.setattr(type(space), "build", watched)
    return built


def test_blocks_are_listed_with_their_shapes_and_costs() -> None:
    space = OFAMobileNetV3(num_classes=1000, resolutions=(224,))
    arch = space.smallest
    blocks = CostTable(space).blocks(arch)
    assert [block.name for block in blocks] == [
        *("stem", "first"),
        *(f"stage{stage}.block{block}" for stage in range(1, 6) for block in (1, 2)),
        *("expand", "mix", "classifier"),
    ]
    stem, last = blocks[0], blocks[-1]
    assert (stem.kind, stem.input_shape, stem.output_shape) == ("ConvNormAct", (3, 224, 224), (16, 112, 112))
    assert (stem.macs, stem.params) == (3 * 9 * 16 * 112 * 112, 3 * 9 * 16 + 2 * 16)
    assert (last.kind, last.input_shape, last.output_shape) == ("Linear", (1280,), (1000,))
    assert (last.macs, last.params) == (1280 * 1000, 1280 * 1000 + 1000)
    block = blocks[3]  # 24 to 72 to 24 channels at 56 pixels, kernel 3
    assert (block.input_shape, block.output_shape) == ((24, 56, 56), (24, 56, 56))
    assert block.macs == 56 * 56 * (24 * 72 + 72 * 9 + 72 * 24)
    assert block.params == 24 * 72 + 72 * 9 + 72 * 24 + 2 * (72 + 72 + 24)


@pytest.mark.parametrize("name", SPACES)
def test_looking_up_gives_what_walking_gives(name: str) -> None:
    space = SPACES[name]()
    table = CostTable(space)
    rng = random.Random(1)
    archs = [space.sample(rng) for _ in range(60)]
    walked = [
        Cost(sum(block.macs for block in blocks), sum(block.params for block in blocks))
        for blocks in map(CostTable(space).blocks, archs)
    ]
    assert table.costs(archs) == walked
    assert [table.cost(arch) for arch in archs] == walked


def test_what_was_walked_once_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    space = OFAMobileNetV3(resolutions=(32, 48), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3))
    table = CostTable(space)
    rng = random.Random(1)
    archs = [space.sample(rng) for _ in range(100)]
    first = table.costs(archs)
    built = watch_builds(monkeypatch, space)
    assert table.costs(archs) == first
    assert built == []
    # A stage's costs depend on its own choices, so that new architectures are mostly made of known stages.
    coding = Coding(space)
    codes = coding.encode(archs)
    table.costs(coding.decode(coding.crossover(codes[:-1], codes[1:], np.random.default_rng(1))))
    assert len(built) < 60


def test_few_walks_suffice_for_all_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    space = NASBenchMacro()
    built = watch_builds(monkeypatch, space)
    costs = CostTable(space).costs(space.enumerate())
    assert len(costs) == 6561
    assert len(built) < 100


class Interacting(SearchSpace):
    """Where two middle options meet, ``meet`` changes the network; changing one choice of the largest or the smallest network
    does not show it.
    """

    num_classes = 2
    resolution = 4

    def __init__(self, meet: str) -> None:
        self.meet = meet
        self.choices = tuple(Choice(name, tuple(range(1, 5))) for name in ("one", "two", "three", "four"))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        meet = self.meet if arch["one"] == 3 and arch["four"] == 2 else ""
        width = 9 if meet == "width" else 4
        return nn.Sequential(
            make("stem", nn.Conv2d, 3, width, 1 + 2 * int(arch["two"] == 2)),
            make("extra", nn.Conv2d, width, width, 1) if meet == "block" else nn.Identity(),
            nn.AdaptiveAvgPool2d(1 if meet == "size" else 2),
            make("head", nn.Conv2d, width, 1 + int(arch["three"]), 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


@pytest.mark.parametrize("meet", ["width", "block", "size"])
def test_costs_are_exact_where_choices_interact(meet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Interacting(meet)
    archs = [*space.enumerate()]
    random.Random(0).shuffle(archs)
    expected = {arch: counted(space, arch) for arch in archs}
    together = {arch for arch in archs if arch["one"] == 3 and arch["four"] == 2}
    assert len({expected[arch].macs for arch in archs if arch["two"] == arch["three"] == 1}) == 2
    for order in (archs, sorted(archs, key=together.__contains__)):
        table = CostTable(space)
        assert [table.cost(arch) for arch in order] == [expected[arch] for arch in order]
    built = watch_builds(monkeypatch, space)
    assert table.costs(archs) == [expected[arch] for arch in archs]
    assert built == []


class Product(nn.Module):
    """Takes and gives nested tensors; one of its two products has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor, *, pair: tuple[Tensor, Tensor]) -> dict[str, Any]:
        return {"product": self.linear(pair[0]) @ x, "rest": [pair[1]]}


class Twice(nn.Module):
    """Calls one block twice, and multiplies outside of any block."""

    def __init__(self, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.block, self.head = block, head

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(2)
        found = self.block(x.transpose(1, 2), pair=(x, image))
        mixed = found["product"] @ x
        found = self.block(mixed.transpose(1, 2), pair=(x, found["rest"][0]))
        return self.head(found["product"].flatten(1))


class Unusual(SearchSpace):
    """A space of such networks."""

    num_classes = 5
    resolution = 4

    def __init__(self) -> None:
        self.choices = (Choice("bias", (False, True)),)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return Twice(make("block", Product), make("head", nn.Linear, 9, 5, bias=bool(arch["bias"])))


def test_products_outside_of_blocks_and_blocks_used_twice_are_counted() -> None:
    space = Unusual()
    table = CostTable(space)
    for arch in space.enumerate():
        assert table.cost(arch) == counted(space, arch)
    blocks = table.blocks(space.largest)
    assert [block.name for block in blocks] == ["block", "block", "head", ""]
    assert [block.params for block in blocks] == [16 * 16 + 16, 0, 9 * 5 + 5, 0]
    assert blocks[0].macs == blocks[1].macs == 3 * 16 * 16 + 3 * 16 * 3
    assert (blocks[-1].kind, blocks[-1].macs) == ("Twice", 3 * 3 * 16)


def test_an_architecture_of_another_space_is_refused() -> None:
    space = NASBenchMacro()
    table = CostTable(space)
    wrong = Arch(space.smallest.to_dict() | {"layer3": "mbconv_k7_e6"})
    for refuse in (table.blocks, table.cost):
        with pytest.raises(ValueError, match="'layer3' cannot be 'mbconv_k7_e6'; its options are"):
            refuse(wrong)
