"""Once-for-All's space means what the published one means: its checkpoints, its transforms and its costs."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from published_weights import reproducible_weights

from oneshot.costs import CostTable
from oneshot.published import from_published
from oneshot.published.families import family_of
from oneshot.spaces import OFAMobileNetV3
from oneshot.supernet import Supernet

# Logits of two images, first four classes, that the published implementation (PyPI's `ofa` 0.1.0.post202307202001, in float64)
# gives for the weights of `reproducible_weights`; ks and e hold four slots for each stage, used or not.
GOLDEN: list[tuple[dict[str, list[int]], list[list[float]]]] = [
    (
        {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5},
        [[83.3073231, -67.5281445, -573.617664, -38.6533733], [138.214228, -287.815913, -263.410853, 126.818186]],
    ),
    (
        {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5},
        [
            [-0.0122560822, -0.14578537, -0.020867514, -0.0787344941],
            [-0.0124880574, -0.145472627, -0.0210827788, -0.0782055016],
        ],
    ),
    (
        {
            "ks": [5, 5, 3, 5, 7, 5, 5, 5, 5, 5, 7, 3, 7, 3, 5, 3, 3, 7, 5, 7],
            "e": [6, 6, 3, 4, 3, 6, 3, 6, 4, 4, 6, 3, 4, 4, 4, 6, 6, 3, 6, 4],
            "d": [3, 4, 3, 2, 4],
        },
        [[0.67121731, -2.99333259, -3.04685057, -2.44666155], [-0.279488953, -2.58418253, -2.71044228, -2.25449195]],
    ),
    (
        {
            "ks": [5, 5, 7, 3, 5, 3, 3, 3, 3, 7, 7, 5, 5, 3, 3, 7, 3, 3, 3, 3],
            "e": [6, 6, 6, 4, 6, 6, 4, 6, 3, 3, 6, 6, 4, 6, 4, 4, 4, 6, 6, 6],
            "d": [3, 2, 3, 4, 2],
        },
        [[0.620430222, -7.08289712, -8.81525489, -2.41961475], [0.0492549204, -8.33060776, -7.72955462, -3.27147881]],
    ),
]


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet(OFAMobileNetV3(num_classes=4, resolutions=(64,))).double().eval()


def test_the_published_implementation_gives_the_same_logits(supernet: Supernet) -> None:
    state = supernet.state_dict()
    names = {key: family_of(supernet.space).published_name(supernet.space, key) for key in state}
    assert len(set(names.values())) == 475
    supernet.load_state_dict({key: reproducible_weights(names[key], state[key].shape) for key in state})
    x = torch.from_numpy(numpy.random.RandomState(0).standard_normal((2, 3, 64, 64)))
    for encoding, logits in GOLDEN:
        with torch.no_grad():
            received = supernet(x, from_published(supernet.space, encoding))
        torch.testing.assert_close(received, torch.tensor(logits, dtype=torch.float64), rtol=1e-7, atol=1e-9)


def test_the_published_subnets_have_their_published_costs(shared_data: Path) -> None:
    rows = json.loads((shared_data / "ofa" / "published_subnets.json").read_text())
    rows = [row for row in rows if row["family"] == "mbv3"]
    assert len(rows) == 8
    for width in sorted({row["width_mult"] for row in rows}):
        nets = [row for row in rows if row["width_mult"] == width]
        space = OFAMobileNetV3(resolutions=[*{row["resolution"] for row in nets}], width_multiplier=width)
        table = CostTable(space)
        for row in nets:
            blocks = table.blocks(from_published(space, row))
            assert sum(block.macs for block in blocks) == row["macs"]
            assert sum(block.params for block in blocks) == row["params"]
            assert sum(block.macs for block in blocks) / 1e6 == pytest.approx(row["published_mflops"], abs=1)


def test_the_largest_kernels_hold_the_smaller_ones(supernet: Supernet) -> None:
    plain = Supernet(OFAMobileNetV3(num_classes=4, resolutions=(32,), kernel_transform=False))
    assert not [key for key in plain.state_dict() if "_rule" in key]
    largest = plain.get_parameter("bank.stage1.block2.conv_dw.weight")
    assert largest.shape == (144, 1, 7, 7)
    arch = plain.space.smallest
    smallest = plain.extract(arch).get_parameter("stage1.block2.conv_dw.weight")
    assert torch.equal(smallest, largest[:72, :, 2:5, 2:5])
    matrices = [key for key in supernet.state_dict() if key.endswith(("7to5", "5to3"))]
    assert len(matrices) == 2 * 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (0, 1)}, r"depths are at least 1, not \[0, 1\]"),
        ({"depths": ()}, r"depths are at least 1, not \[\]"),
        ({"kernel_sizes": (3, 4)}, r"kernel_sizes are odd, not \[3, 4\]"),
        ({"kernel_sizes": ()}, r"kernel_sizes are odd, not \[\]"),
        ({"resolutions": ()}, "choice 'resolution' has no options"),
        ({"expand_ratios": (3, 3)}, "has an option twice"),
    ],
)
def test_arguments_that_make_no_space_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFAMobileNetV3(**arguments)


def test_arguments_change_what_they_say() -> None:
    space = OFAMobileNetV3(
        num_classes=3,
        resolutions=(40, 32),
        depths=(1, 2),
        kernel_sizes=(5, 3),
        expand_ratios=(2,),
        stem_stride=1,
        dropout=0.4,
    )
    arch = space.largest
    assert (arch["resolution"], arch["stage5.depth"], arch["stage5.block2.kernel"]) == (40, 2, 5)
    assert space.max_resolution == 40
    network = space.network(arch)
    assert network(torch.randn(2, *space.input_shape(arch))).shape == (2, 3)
    assert network.dropout.p == 0.4
    assert network.stem(torch.randn(1, 3, 40, 40)).shape[-2:] == (40, 40)
    wide = OFAMobileNetV3(width_multiplier=1.2)
    assert wide.network(wide.smallest).classifier.in_features == 1536
