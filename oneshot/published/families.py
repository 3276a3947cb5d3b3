"""What the published names of one family of Once-for-All networks mean in its search space here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.ofa import OFAMobileNetV3
from oneshot.spaces.ofa_proxyless import OFAProxyless

# A layer's name in an elastic block here and in a published supernet.
_LAYERS = {
    "conv_pw": "inverted_bottleneck.conv.conv",
    "bn1": "inverted_bottleneck.bn.bn",
    "conv_dw": "depth_conv.conv.conv",
    "conv_dw.weight_rule": "depth_conv.conv",
    "bn2": "depth_conv.bn.bn",
    "se.conv_reduce": "depth_conv.se.fc.reduce",
    "se.conv_expand": "depth_conv.se.fc.expand",
    "conv_pwl": "point_linear.conv.conv",
    "bn3": "point_linear.bn.bn",
}
# The fixed parts, which the published code writes without the wrappers of elastic layers.
_FIXED = {
    "stem.conv": "first_conv.conv",
    "stem.bn": "first_conv.bn",
    "first.conv_dw": "blocks.0.conv.depth_conv.conv",
    "first.bn1": "blocks.0.conv.depth_conv.bn",
    "first.conv_pw": "blocks.0.conv.point_linear.conv",
    "first.bn2": "blocks.0.conv.point_linear.bn",
    "classifier": "classifier.linear",
}


@dataclass(frozen=True)
class Family:
    """One published family.

    Args:
        name: of the network in a published ``net.config``.
        space: the search space.
        fixed: the bank's modules outside of the elastic blocks, and their published names.
        convolutions: the layers of ``net.config`` between the blocks and the classifier, and the block here that each one is.
        bn_eps: of all BatchNorm layers.
        mark: the published name of a tensor that no other family has.
    """

    name: str
    space: type[SearchSpace]
    fixed: Mapping[str, str]
    convolutions: Mapping[str, str]
    bn_eps: float
    mark: str

    def published_name(self, space: SearchSpace, key: str) -> str:
        """The name in a published supernet of the tensor that ``Supernet(space).state_dict()`` calls ``key``."""
        module, _, tensor = key.removeprefix("bank.").rpartition(".")
        if re.fullmatch(r"\d+to\d+", tensor):
            tensor += "_matrix"
        in_stage = re.fullmatch(r"stage(\d+)\.block(\d+)\.(.*)", module)
        if in_stage is None:
            return f"{self.fixed[module]}.{tensor}"
        index = sum(num_blocks(space)[: int(in_stage[1]) - 1]) + int(in_stage[2])
        return f"blocks.{index}.conv.{_LAYERS[in_stage[3]]}.{tensor}"


FAMILIES = (
    Family(
        "MobileNetV3",
        OFAMobileNetV3,
        _FIXED
        | {
            "expand.conv": "final_expand_layer.conv",
            "expand.bn": "final_expand_layer.bn",
            "mix": "feature_mix_layer.conv",
        },
        {"final_expand_layer": "expand", "feature_mix_layer": "mix"},
        1e-5,
        "final_expand_layer.conv.weight",
    ),
    Family(
        "ProxylessNASNets",
        OFAProxyless,
        _FIXED | {"mix.conv": "feature_mix_layer.conv", "mix.bn": "feature_mix_layer.bn"},
        {"feature_mix_layer": "mix"},
        1e-3,
        "feature_mix_layer.bn.weight",
    ),
)


def family_of(space: SearchSpace) -> Family:
    """The family that ``space`` is.

    Raises:
        ValueError: there is no published form of this space.
    """
    for family in FAMILIES:
        if isinstance(space, family.space):
            return family
    known = " and ".join(family.space.__name__ for family in FAMILIES)
    raise ValueError(f"there are published forms of {known}, not of {type(space).__name__}")


def num_blocks(space: SearchSpace) -> tuple[int, ...]:
    """The blocks that each elastic stage has at its largest depth."""
    counts: dict[int, int] = {}
    for choice in space.choices:
        match = re.fullmatch(r"stage(\d+)\.block(\d+)\.kernel", choice.name)
        if match:
            counts[int(match[1])] = max(counts.get(int(match[1]), 0), int(match[2]))
    return tuple(counts[stage] for stage in sorted(counts))


def make_arch(space: SearchSpace, values: Mapping[str, object], resolution: int | None) -> Arch:
    """The architecture of ``values`` at ``resolution``; None is allowed where the space has only one.

    Raises:
        ValueError: a value that is no option, or no resolution where there are several.
    """
    options = next((choice.options for choice in space.choices if choice.name == "resolution"), ())
    if resolution is None and len(options) > 1:
        raise ValueError(f"the input size is not given; it is one of {list(options)}")
    if resolution is None and options:
        return space.arch({"resolution": options[0], **values})
    return space.arch(values if resolution is None else {"resolution": resolution, **values})
