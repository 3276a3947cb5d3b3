"""Once-for-All's ProxylessNAS space means what the published one means: its checkpoints, its transforms and its costs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from published_weights import reproducible_weights

from oneshot.costs import CostTable
from oneshot.published import from_published
from oneshot.published.families import family_of
from oneshot.spaces import OFAProxyless
from oneshot.supernet import Supernet

# Logits of two images, four classes, that the published implementation (PyPI's `ofa` 0.1.0.post202307202001, in float64) gives
# for the weights of `reproducible_weights`; ks and e hold four slots for each stage of 1 to 5, used or not, and one for stage 6.
GOLDEN: list[tuple[dict[str, list[int]], list[list[float]]]] = [
    (
        {"ks": [7] * 21, "e": [6] * 21, "d": [4, 4, 4, 4, 4, 1]},
        [[2.05549476, -2.2312662, -2.74080745, 2.4644037], [1.6619062, -2.55508634, -2.46431192, 2.57501309]],
    ),
    (
        {"ks": [3] * 21, "e": [3] * 21, "d": [2, 2, 2, 2, 2, 1]},
        [
            [0.478517762, -0.164627746, -0.405691025, 0.784056499],
            [0.452251443, -0.105912395, -0.422483722, 0.757021858],
        ],
    ),
    (
        {
            "ks": [5, 5, 3, 5, 7, 5, 5, 5, 5, 5, 7, 3, 7, 3, 5, 3, 3, 7, 5, 7, 7],
            "e": [6, 3, 4, 3, 6, 3, 6, 4, 4, 6, 3, 4, 4, 4, 6, 6, 3, 6, 4, 4, 6],
            "d": [3, 2, 4, 2, 2, 1],
        },
        [[0.176427721, -1.03804436, -0.852991206, 1.41684941], [0.406452152, -0.838993215, -0.99347539, 1.31616472]],
    ),
    (
        {
            "ks": [5, 7, 3, 5, 3, 3, 3, 7, 5, 5, 5, 3, 3, 7, 5, 3, 7, 3, 7, 5, 3],
            "e": [4, 4, 6, 4, 6, 3, 6, 6, 3, 3, 6, 3, 3, 4, 6, 4, 3, 6, 4, 6, 3],
            "d": [2, 3, 4, 3, 4, 1],
        },
        [[0.695911031, -0.705916852, -1.02994707, 1.51415112], [0.550816165, -0.703263975, -1.03244706, 1.42110145]],
    ),
]


def test_the_published_implementation_gives_the_same_logits() -> None:
    supernet = Supernet(OFAProxyless(num_classes=4, resolutions=(64,))).double().eval()
    state = supernet.state_dict()
    names = {key: family_of(supernet.space).published_name(supernet.space, key) for key in state}
    assert len(set(names.values())) == 446
    supernet.load_state_dict({key: reproducible_weights(names[key], state[key].shape) for key in state})
    x = torch.from_numpy(numpy.random.RandomState(0).standard_normal((2, 3, 64, 64)))
    for encoding, logits in GOLDEN:
        with torch.no_grad():
            received = supernet(x, from_published(supernet.space, encoding))
        torch.testing.assert_close(received, torch.tensor(logits, dtype=torch.float64), rtol=1e-7, atol=1e-9)


def test_the_published_subnets_have_their_published_costs(shared_data: Path) -> None:
    rows = json.loads((shared_data / "ofa" / "published_subnets.json").read_text())
    rows = [row for row in rows if row["family"] == "proxyless"]
    assert len(rows) == 4
    assert {row["width_mult"] for row in rows} == {1.3}
    space = OFAProxyless(resolutions=[*{row["resolution"] for row in rows}])
    table = CostTable(space)
    for row in rows:
        blocks = table.blocks(from_published(space, row))
        assert sum(block.macs for block in blocks) == row["macs"]
        assert sum(block.params for block in blocks) == row["params"]
        assert sum(block.macs for block in blocks) / 1e6 == pytest.approx(row["published_mflops"], abs=1)


def test_the_number_of_networks() -> None:
    kernels_and_expansions = 3 * 3
    stage = sum(kernels_and_expansions**depth for depth in (2, 3, 4))
    assert OFAProxyless().size == 4 * stage**5 * kernels_and_expansions
    assert math.log10(OFAProxyless().size) == pytest.approx(20.9, abs=0.1)


def test_the_largest_kernels_hold_the_smaller_ones() -> None:
    space = OFAProxyless(num_classes=4, resolutions=(32,), width_multiplier=0.25, kernel_transform=False)
    plain = Supernet(space)
    assert not [key for key in plain.state_dict() if "_rule" in key]
    largest = plain.get_parameter("bank.stage6.block1.conv_dw.weight")
    smallest = plain.extract(space.smallest).get_parameter("stage6.block1.conv_dw.weight")
    assert torch.equal(smallest, largest[: len(smallest), :, 2:5, 2:5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (0, 1)}, r"depths are at least 1, not \[0, 1\]"),
        ({"depths": ()}, r"depths are at least 1, not \[\]"),
        ({"kernel_sizes": (3, 4)}, r"kernel_sizes are odd, not \[3, 4\]"),
        ({"resolutions": ()}, "choice 'resolution' has no options"),
        ({"expand_ratios": (3, 3)}, "has an option twice"),
    ],
)
def test_arguments_that_make_no_space_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFAProxyless(**arguments)


def test_arguments_change_what_they_say() -> None:
    space = OFAProxyless(
        num_classes=3,
        resolutions=(40, 32),
        depths=(1, 2),
        kernel_sizes=(5, 3),
        expand_ratios=(2, 1.5),
        width_multiplier=0.5,
        stem_stride=1,
        dropout=0.4,
    )
    arch = space.largest
    assert (arch["resolution"], arch["stage5.depth"], arch["stage6.block1.kernel"]) == (40, 2, 5)
    assert space.max_resolution == 40
    network = space.network(arch)
    assert network(torch.randn(2, *space.input_shape(arch))).shape == (2, 3)
    assert network.dropout.p == 0.4
    assert network.stem(torch.randn(1, 3, 40, 40)).shape[-2:] == (40, 40)
    assert network.classifier.in_features == 640
    assert len(network.stage6) == 1
