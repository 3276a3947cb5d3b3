"""AttentiveNAS's space means what the published one means: its subnets, their costs, and where paths are dropped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.spaces import AttentiveNAS
from oneshot.spaces.layers import HalvingPool
from oneshot.supernet import Supernet

DEPTHS = (2, 5, 6, 6, 8, 8, 2)

# The subnets A1 to A5 of the repository's configs/eval_attentive_nas_models.yml and README.md: resolution, width (stem, stages,
# last), kernel, expansion, depth, and published MMACs.
PUBLISHED: list[tuple[int, list[int], list[int], list[int], list[int], int]] = [
    (
        224,
        [16, 16, 24, 32, 64, 112, 192, 216, 1984],
        [3, 3, 3, 5, 3, 5, 3],
        [1, 4, 4, 4, 4, 6, 6],
        [1, 3, 3, 3, 3, 3, 1],
        279,
    ),
    (
        224,
        [16, 16, 24, 32, 64, 112, 200, 224, 1984],
        [3, 3, 3, 3, 3, 5, 3],
        [1, 4, 5, 4, 4, 6, 6],
        [1, 3, 3, 3, 3, 4, 1],
        317,
    ),
    (
        224,
        [16, 16, 24, 32, 64, 112, 208, 224, 1984],
        [3, 3, 3, 5, 3, 3, 3],
        [1, 4, 4, 4, 4, 6, 6],
        [2, 3, 3, 4, 3, 5, 1],
        357,
    ),
    (
        256,
        [16, 16, 24, 32, 64, 112, 192, 216, 1984],
        [3, 3, 3, 5, 3, 5, 3],
        [1, 4, 4, 5, 4, 6, 6],
        [1, 3, 3, 4, 3, 5, 1],
        444,
    ),
    (
        256,
        [16, 16, 24, 32, 72, 112, 192, 216, 1792],
        [3, 3, 3, 5, 3, 3, 3],
        [1, 4, 5, 4, 4, 6, 6],
        [1, 3, 3, 3, 4, 6, 1],
        491,
    ),
]


def published_arch(space: AttentiveNAS, net: Mapping[str, Any]) -> Arch:
    """The architecture of a published subnet; the expansions of stages 1, 6 and 7 are no choices."""
    stem, *widths, last = net["width"]
    values = {"resolution": net["resolution"], "stem.width": stem, "last.width": last}
    for stage in range(1, 8):
        values[f"stage{stage}.width"] = widths[stage - 1]
        values[f"stage{stage}.depth"] = net["depth"][stage - 1]
        values[f"stage{stage}.kernel"] = net["kernel_size"][stage - 1]
        if stage in (1, 6, 7):
            assert net["expand_ratio"][stage - 1] == (1 if stage == 1 else 6)
        else:
            values[f"stage{stage}.expand"] = net["expand_ratio"][stage - 1]
    return space.arch(values)


def unused_convolutions(net: Mapping[str, Any]) -> int:
    """Parameters of the 1x1 convolutions that the published code keeps in shortcuts that change no width."""
    count, before = 0, net["width"][0]
    for width, depth in zip(net["width"][1:-1], net["depth"], strict=True):
        count += width**2 * (depth if before == width else depth - 1)
        before = width
    return count


def test_the_published_subnets_have_their_exact_costs(shared_data: Path) -> None:
    rows = json.loads((shared_data / "ofa" / "published_attentive_nas.json").read_text())
    assert [row["name"] for row in rows] == ["AttentiveNAS-a0", "AttentiveNAS-a6"]
    table = CostTable(AttentiveNAS())
    for row in rows:
        blocks = table.blocks(published_arch(table.space, row))
        assert sum(block.macs for block in blocks) == round(row["hook_mflops"] * 1e6)
        assert sum(block.params for block in blocks) == round(row["params_m"] * 1e6) - unused_convolutions(row)


@pytest.mark.parametrize("number", range(1, 6))
def test_the_other_published_subnets_have_their_rounded_costs(number: int) -> None:
    resolution, width, kernel, expand, depth, mmacs = PUBLISHED[number - 1]
    net = {"resolution": resolution, "width": width, "kernel_size": kernel, "expand_ratio": expand, "depth": depth}
    table = CostTable(AttentiveNAS())
    blocks = table.blocks(published_arch(table.space, net))
    assert sum(block.macs for block in blocks) / 1e6 == pytest.approx(mmacs, abs=0.5)


def test_the_number_of_networks() -> None:
    stem, last, resolutions, kernels = 2, 2, 4, 2
    widths, depths, expands = (2, 2, 2, 2, 3, 4, 2), (2, 3, 4, 4, 6, 6, 2), (1, 3, 3, 3, 3, 1, 1)
    size = stem * last * resolutions
    for number_of_widths, number_of_depths, number_of_expands in zip(widths, depths, expands, strict=True):
        size *= number_of_widths * number_of_depths * number_of_expands * kernels
    assert AttentiveNAS().size == size


def test_paths_are_dropped_in_the_last_two_stages_alone() -> None:
    space = AttentiveNAS(num_classes=3, resolutions=(32,), drop_path=0.37)
    first_of_stage6 = sum(DEPTHS[:5])
    for arch in (space.largest, space.smallest):
        network = space.network(arch)
        rates = {name: module.drop_prob for name, module in network.named_modules() if isinstance(module, DropPath)}
        expected = {
            f"stage{stage}.block{block}.drop_path": pytest.approx((first + block - 1) / 100)
            for stage, first in ((6, first_of_stage6), (7, first_of_stage6 + DEPTHS[5]))
            for block in range(2, arch.integer(f"stage{stage}.depth") + 1)
        }
        assert rates == expected
    narrow = space.arch(space.largest.to_dict() | {"stage7.width": 216})
    assert isinstance(space.network(narrow).stage7.block1.drop_path, DropPath)
    none = AttentiveNAS(num_classes=3, resolutions=(32,), drop_path=0.0)
    assert not [m for m in none.network(none.largest).modules() if isinstance(m, DropPath)]


def test_every_block_has_a_shortcut_and_starts_as_it() -> None:
    space = AttentiveNAS(num_classes=3, resolutions=(32,), dropout=0.0)
    network = space.network(space.largest).eval()
    x = network.stem(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        for stage, (stride, conv) in enumerate(((1, 0), (2, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1)), start=1):
            blocks = [*getattr(network, f"stage{stage}")]
            assert [len([*block.shortcut.parameters()]) for block in blocks] == [conv] + [0] * (len(blocks) - 1)
            expected = blocks[0].shortcut(x)
            assert expected.shape[-1] == x.shape[-1] // stride
            x = getattr(network, f"stage{stage}")(x)
            assert torch.equal(x, expected)


def test_the_shortcut_of_the_first_block_holds_both_directions() -> None:
    supernet = Supernet(AttentiveNAS(num_classes=3, resolutions=(32,)))
    stored = supernet.get_parameter("bank.stage1.block1.shortcut.weight")
    assert stored.shape == (24, 24, 1, 1)
    for stem, stage in ((16, 24), (24, 16)):
        arch = supernet.space.arch(supernet.space.smallest.to_dict() | {"stem.width": stem, "stage1.width": stage})
        cut = supernet.extract(arch).stage1.block1.shortcut[1].weight
        assert torch.equal(cut, stored[:stage, :stem])
    kernel = supernet.get_parameter("bank.stage2.block1.conv_dw.weight")
    smallest = supernet.extract(supernet.space.smallest).stage2.block1.main.conv_dw.weight
    assert torch.equal(smallest, kernel[: len(smallest), :, 1:4, 1:4])


def test_pooling_of_odd_sizes() -> None:
    pool = HalvingPool()
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert pool(x).tolist() == [[[[0.0, 0.75], [2.25, 6.0]]]]
    assert torch.equal(pool(x[..., :2, :2]), torch.full((1, 1, 1, 1), 2.0))


def test_squeeze_and_excitation_is_that_of_the_stages() -> None:
    space = AttentiveNAS(num_classes=3, resolutions=(32,))
    network = space.network(space.smallest)
    widths = {}
    for stage in range(1, 8):
        squeeze = getattr(network, f"stage{stage}").block1.main.se
        if hasattr(squeeze, "conv_reduce"):
            widths[stage] = squeeze.conv_reduce.weight.shape[:2]
    assert widths == {3: (24, 96), 5: (64, 256), 6: (168, 672), 7: (288, 1152)}


def test_arguments_change_what_they_say() -> None:
    space = AttentiveNAS(num_classes=3, resolutions=(40, 32), dropout=0.4, stem_stride=1)
    arch = space.smallest
    assert (space.max_resolution, arch["resolution"]) == (40, 32)
    network = space.network(arch)
    assert network(torch.randn(2, *space.input_shape(arch))).shape == (2, 3)
    assert network.dropout.p == 0.4
    assert network.stem(torch.randn(1, 3, 40, 40)).shape[-2:] == (40, 40)
    with pytest.raises(ValueError, match="choice 'resolution' has no options"):
        AttentiveNAS(resolutions=())
