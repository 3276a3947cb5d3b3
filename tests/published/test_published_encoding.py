"""Published encodings and ``net.config`` files mean the same architectures here, and what is written is read back."""

import copy
import json
import random
from typing import Any

import pytest

from oneshot.published import from_config, from_published, to_config, to_published
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, OFAProxyless, SearchSpace

SPACES = (OFAMobileNetV3(resolutions=(128, 224)), OFAProxyless(resolutions=(128, 224)))
SPACE = SPACES[0]
NET: dict[str, Any] = {"ks": [7, 5, 3, 5] * 5, "e": [3, 4, 6, 4] * 5, "d": [2, 3, 4, 2, 3], "r": [224]}


def family(space: SearchSpace) -> str:
    return type(space).__name__


@pytest.mark.parametrize("space", SPACES, ids=family)
def test_what_is_written_is_read_back(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(8):
        arch = space.sample(rng)
        encoding = json.loads(json.dumps(to_published(space, arch)))
        slots = 20 + isinstance(space, OFAProxyless)
        assert [len(encoding[name]) for name in ("ks", "e", "d")] == [slots, slots, 5 + slots - 20]
        assert from_published(space, encoding) == arch
        assert from_config(space, json.loads(json.dumps(to_config(space, arch))), arch.integer("resolution")) == arch


def test_each_slot_is_a_block() -> None:
    arch = from_published(SPACE, NET)
    assert arch.integer("resolution") == 224
    assert [arch[f"stage2.block{block}.kernel"] for block in (1, 2, 3)] == [7, 5, 3]
    assert [arch[f"stage3.block{block}.expand"] for block in (1, 2, 3, 4)] == [3, 4, 6, 4]
    assert "stage2.block4.kernel" not in arch
    written = to_published(SPACE, arch)
    assert written["ks"] == [
        7,
        5,
        3,
        3,
        7,
        5,
        3,
        3,
        7,
        5,
        3,
        5,
        7,
        5,
        3,
        3,
        7,
        5,
        3,
        3,
    ]  # unused slots hold the smallest
    assert written["e"] == [3, 4, 3, 3, 3, 4, 6, 3, 3, 4, 6, 4, 3, 4, 3, 3, 3, 4, 6, 3]
    assert (written["d"], written["r"], written["image_size"]) == (NET["d"], [224], 224)


def test_other_ways_to_write_the_same() -> None:
    arch = from_published(SPACE, NET)
    sizes = [{"image_size": 224}, {"resolution": 224}, {"r": 224}, {"r": [224], "image_size": 224}]
    lists = {name: NET[name] for name in ("ks", "e", "d")}
    for size in sizes:
        assert from_published(SPACE, {**lists, **size, "wid": None, "name": "any"}) == arch
    unused = {**NET, "ks": [7, 5, 9, 9, *NET["ks"][4:]]}
    assert from_published(SPACE, unused) == arch
    largest = from_published(SPACE, {"ks": 7, "e": 6, "d": 4, "r": 224})
    assert largest == SPACE.largest
    assert from_published(OFAMobileNetV3(resolutions=(64,)), lists)["resolution"] == 64
    shallow = OFAMobileNetV3(resolutions=(64,), depths=(1, 2))
    both = [
        from_published(shallow, {"ks": [3, 5, *slots] * 5, "e": [4, 6, *slots] * 5, "d": 2}) for slots in ([], [3, 3])
    ]
    assert both[0] == both[1]
    assert len(to_published(shallow, both[0])["ks"]) == 20  # type: ignore[arg-type]
    # The published code draws depths for the last stage, which has one block only.
    slots = {"ks": [3] * 21, "e": [4] * 21, "r": 128}
    drawn, fixed = (from_published(SPACES[1], {**slots, "d": [2, 2, 2, 2, 2, depth]}) for depth in (4, 1))
    assert drawn == fixed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": None}, "the encoding has no 'ks'; it has 'ks', 'e', 'd', 'r'"),
        ({"ks": [3] * 19}, "'ks' has 19 slots, not 20"),
        ({"e": "346"}, "'e' is a list of 20 numbers, not '346'"),
        ({"d": [2, 2]}, "'d' has 2 slots, not 5"),
        ({"d": [2, 2, 5, 2, 2]}, r"choice 'stage3.depth' cannot be 5; its options are \[2, 3, 4\]"),
        ({"ks": [9] * 20}, r"choice 'stage1.block1.kernel' cannot be 9; its options are \[3, 5, 7\]"),
        ({"r": [200]}, r"choice 'resolution' cannot be 200; its options are \[128, 224\]"),
        ({"r": None}, r"the input size is not given; it is one of \[128, 224\]"),
        ({"r": [128, 224]}, "'r' is one input size, not"),
        ({"image_size": 128}, r"several input sizes: \[224, 128\]"),
    ],
)
def test_encodings_that_are_none_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_published(SPACE, NET | changes)


def test_other_spaces_have_no_published_form() -> None:
    space = NASBenchMacro()
    for refuse in (
        lambda: from_published(space, NET),
        lambda: to_published(space, space.largest),
        lambda: to_config(space, space.largest),
        lambda: from_config(space, {}),
    ):
        with pytest.raises(ValueError, match=r"published forms of .*, not of NASBenchMacro"):
            refuse()


# net.config ----------------------------------------------------------------------------------------------------------


def renamed(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` in the spelling of later releases."""
    config = copy.deepcopy(config)
    for block in config["blocks"]:
        block["name"] = "ResidualBlock"
        block["conv"] = block.pop("mobile_inverted_conv") | {"name": "MBConvLayer", "groups": None}
        if block["shortcut"]:
            block["shortcut"]["in_channels"] = block["shortcut"]["in_channels"][0]
    for layer in ("first_conv", "feature_mix_layer"):
        config[layer]["use_se"] = False
    return config


def test_a_block_of_the_published_layout() -> None:
    config = to_config(SPACE, from_published(SPACE, NET))
    assert list(config) == [
        *("name", "bn", "first_conv", "blocks", "final_expand_layer", "feature_mix_layer", "classifier"),
    ]
    assert len(config["blocks"]) == 1 + sum(NET["d"])
    assert config["blocks"][4] == {
        "name": "MobileInvertedResidualBlock",
        "mobile_inverted_conv": {
            "name": "MBInvertedConvLayer",
            "in_channels": 40,
            "out_channels": 40,
            "kernel_size": 5,
            "stride": 1,
            "expand_ratio": 4,
            "mid_channels": 160,
            "act_func": "relu",
            "use_se": True,
        },
        "shortcut": {
            "name": "IdentityLayer",
            "in_channels": [40],
            "out_channels": [40],
            "use_bn": False,
            "act_func": None,
            "dropout_rate": 0,
            "ops_order": "weight_bn_act",
        },
    }
    assert config["blocks"][0]["mobile_inverted_conv"]["mid_channels"] is None
    assert config["feature_mix_layer"]["use_bn"] is False
    assert [config[layer]["act_func"] for layer in ("first_conv", "final_expand_layer", "feature_mix_layer")] == [
        "h_swish"
    ] * 3


@pytest.mark.parametrize("space", SPACES, ids=family)
def test_both_spellings_are_read(space: SearchSpace) -> None:
    rng = random.Random(1)
    for _ in range(5):
        arch = space.sample(rng)
        config = renamed(to_config(space, arch))
        for block in config["blocks"]:
            block["conv"]["mid_channels"] = None
        del config["bn"]
        assert from_config(space, config, arch.integer("resolution")) == arch


def set_in(config: dict[str, Any], *path: Any) -> None:
    *parents, name, value = path
    for parent in parents:
        config = config[parent]
    config[name] = value


CONV = ("blocks", 3, "mobile_inverted_conv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name", "ProxylessNASNets"), "the config describes a 'ProxylessNASNets', not a 'MobileNetV3'"),
        (("blocks", None), "the config has no list of 'blocks'"),
        (("blocks", 3, "name", "Bottleneck"), r"blocks\[3\] is no ResidualBlock or MobileInvertedResidualBlock"),
        ((*CONV[:2], "mobile_inverted_conv", None), r"blocks\[3\]: its convolution is no MBConvLayer or MBInverted"),
        ((*CONV, "kernel_size", None), r"blocks\[3\]: kernel_size is a number, not None"),
        ((*CONV, "kernel_size", 9), r"blocks: choice 'stage2.block1.kernel' cannot be 9"),
        ((*CONV, "mid_channels", 73), r"blocks\[3\]: mid_channels is 73, in this space 72"),
        ((*CONV, "stride", 1), r"blocks\[3\]: stride is 1, in this space 2"),
        ((*CONV, "in_channels", 32), r"blocks\[3\]: in_channels is 32, in this space 24"),
        ((*CONV, "groups", 4), r"blocks\[3\]: groups is 4, in this space None"),
        (("blocks", 4, "mobile_inverted_conv", "act_func", "relu6"), r"blocks: behind the first they make \d stages"),
        (("blocks", 0, "shortcut", None), r"blocks\[0\]: shortcut is False, in this space True"),
        (
            ("blocks", 2, "shortcut", {"name": "ConvLayer"}),
            r"blocks\[2\]: its shortcut is an IdentityLayer or null, not 'C",
        ),
        (("bn", "eps", 1e-3), "bn: eps is 0.001, in this space 1e-05"),
        (("first_conv", "out_channels", 24), "first_conv: out_channels is 24, in this space 16"),
        (("final_expand_layer", {}), "final_expand_layer is missing"),
        (("feature_mix_layer", "bias", True), "feature_mix_layer: bias is True, in this space False"),
        (("first_conv", "use_se", True), "first_conv: use_se is True, in this space False"),
        (("classifier", "out_features", 10), "classifier: out_features is 10, in this space 1000"),
    ],
)
def test_configs_of_other_networks_are_refused(change: tuple[Any, ...], message: str) -> None:
    config = to_config(SPACE, from_published(SPACE, NET))
    set_in(config, *change)
    with pytest.raises(ValueError, match=message):
        from_config(SPACE, config, 224)


def test_depths_and_sizes_of_configs_are_checked() -> None:
    config = to_config(SPACE, from_published(SPACE, NET))
    with pytest.raises(ValueError, match=r"blocks: the input size is not given; it is one of \[128, 224\]"):
        from_config(SPACE, config)
    config["blocks"].insert(3, copy.deepcopy(config["blocks"][2]))
    config["blocks"].insert(3, copy.deepcopy(config["blocks"][2]))
    assert from_config(SPACE, config, 224)["stage1.depth"] == 4
    config["blocks"].insert(3, copy.deepcopy(config["blocks"][2]))
    with pytest.raises(ValueError, match=r"blocks: stage 1 has 5; what this space has is \[2, 3, 4\]"):
        from_config(SPACE, config, 224)
