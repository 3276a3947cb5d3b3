"""NAS-Bench-Macro's space against its published table."""

import json
import random
import re
from pathlib import Path

import pytest
import torch

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.spaces import NASBenchMacro
from oneshot.supernet import Supernet


def test_all_published_networks_have_their_published_costs(shared_data: Path) -> None:
    published = json.loads((shared_data / "nas-bench-macro_cifar10.json").read_text())
    space = NASBenchMacro()
    assert len(published) == space.size == 6561
    archs = [space.from_code(code) for code in published]
    assert set(archs) == set(space.enumerate())
    costs = CostTable(space).costs(archs)
    assert [(cost.macs, cost.params) for cost in costs] == [(row["flops"], row["params"]) for row in published.values()]


def test_a_published_network_has_its_published_costs() -> None:
    """Two rows of the table, for where the table is not."""
    space = NASBenchMacro()
    cost = CostTable(space).cost(space.from_code("02012100"))
    assert (cost.macs, cost.params) == (47327744, 890666)


def code_of(arch: Arch) -> str:
    digits = {"identity": "0", "mbconv_k3_e3": "1", "mbconv_k5_e6": "2"}
    return "".join(digits[str(arch[f"layer{layer}"])] for layer in range(1, 9))


def test_codes_are_read_back() -> None:
    space = NASBenchMacro()
    arch = space.from_code("02012100")
    assert list(arch.values())[:4] == ["identity", "mbconv_k5_e6", "identity", "mbconv_k3_e3"]
    for number in range(20):
        arch = space.sample(random.Random(number))
        assert space.from_code(code_of(arch)) == arch


@pytest.mark.parametrize("code", ["0201210", "020121000", "02012103", "0201210x", ""])
def test_a_code_that_is_none_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"a NAS-Bench-Macro code has 8 digits of 0, 1 and 2, not {code!r}")):
        NASBenchMacro().from_code(code)


def test_identities_elsewhere_compute_alike_with_other_weights() -> None:
    """As the docstring says: two entries of the table, two sets of inherited weights."""
    space = NASBenchMacro(num_classes=5, resolution=16, channels=8, head_channels=32)
    one, two = space.from_code("00010000"), space.from_code("00001000")
    assert one != two
    assert CostTable(space).cost(one) == CostTable(space).cost(two)
    supernet = Supernet(space).eval()
    networks = [supernet.extract(arch) for arch in (one, two)]
    x = torch.randn(2, 3, 16, 16)
    assert not torch.equal(networks[0](x), networks[1](x))
    networks[1].layer5.load_state_dict(networks[0].layer4.state_dict())
    assert torch.equal(networks[0](x), networks[1](x))


def test_an_identity_that_changes_the_shape_is_a_convolution() -> None:
    space = NASBenchMacro()
    network = space.network(space.smallest)
    assert [type(network.get_submodule(f"layer{layer}")).__name__ for layer in range(1, 9)] == [
        *("ConvNormAct", "Identity", "ConvNormAct", "Identity", "Identity", "ConvNormAct", "Identity", "Identity")
    ]
    assert network.classifier.in_features == 1280


def test_codes_mean_the_same_in_a_restricted_space() -> None:
    """Option 2 stays option 2 where option 0 is left out."""
    space = NASBenchMacro().restrict({"layer1": ("mbconv_k3_e3", "mbconv_k5_e6")})
    assert space.from_code("20000000")["layer1"] == "mbconv_k5_e6"
    assert code_of(space.from_code("12121212")) == "12121212"
    with pytest.raises(ValueError, match="choice 'layer1' cannot be 'identity'"):
        space.from_code("00000000")


def test_keys_are_parsed() -> None:
    space = NASBenchMacro()
    arch = space.from_code("02012100")
    assert space.parse("02012100") == space.parse(arch.to_json()) == arch
    with pytest.raises(ValueError, match="a NAS-Bench-Macro code has 8 digits"):
        space.parse("mobilenet")
