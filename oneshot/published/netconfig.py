"""``net.config``: the JSON description of a network that comes with each published specialised network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from oneshot.arch import Arch
from oneshot.published.families import family_of, make_arch, num_blocks
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Skeletons

_ACTIVATIONS = {"ReLU": "relu", "ReLU6": "relu6", "Hardswish": "h_swish"}
_LAYER = {"dropout_rate": 0, "ops_order": "weight_bn_act"}
# The same thing in later and in earlier releases of the published code.
_BLOCK = ("ResidualBlock", "MobileInvertedResidualBlock")
_CONV = ("MBConvLayer", "MBInvertedConvLayer")
_NEEDED = ("in_channels", "out_channels", "kernel_size", "stride", "in_features", "out_features")


def to_config(space: SearchSpace, arch: Arch) -> dict[str, Any]:
    """The ``net.config`` of ``arch``, in the layout of the published files, which every release of the published code builds.

    Raises:
        ValueError: a space without that form, or an architecture of another space.
    """
    family = family_of(space)
    space.validate(arch)
    network, _ = Skeletons(space).network(arch)
    last_activation = getattr(network, "act", None)
    blocks: list[nn.Module] = [network.get_submodule("first")]
    expands: list[Any] = [1]
    for stage in range(1, len(num_blocks(space)) + 1):
        for name, block in network.get_submodule(f"stage{stage}").named_children():
            blocks.append(block)
            expands.append(arch[f"stage{stage}.{name}.expand"])
    convolutions = {
        layer: _conv(network.get_submodule(name), last_activation)
        for layer, name in {"first_conv": "stem", **family.convolutions}.items()
    }
    classifier: Any = network.get_submodule("classifier")
    dropouts = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    return {
        "name": family.name,
        "bn": {"momentum": 0.1, "eps": family.bn_eps},
        "first_conv": convolutions.pop("first_conv"),
        "blocks": [_block(block, expand) for block, expand in zip(blocks, expands, strict=True)],
        **convolutions,
        "classifier": {
            "name": "LinearLayer",
            "in_features": classifier.in_features,
            "out_features": classifier.out_features,
            "bias": True,
            "use_bn": False,
            "act_func": None,
            **_LAYER,
            "dropout_rate": dropouts[0] if dropouts else 0,
        },
    }


def from_config(space: SearchSpace, config: Mapping[str, Any], resolution: int | None = None) -> Arch:
    """The architecture of a published ``net.config``, in the spelling of earlier releases (``mobile_inverted_conv``,
    ``MBInvertedConvLayer``) or later ones (``conv``, ``MBConvLayer``). ``resolution``, in pixels, stands in another published
    file (``run.config``); None is allowed where the space has one only.

    Raises:
        ValueError: the config is of another family or no network of this space; the message names the layer.
    """
    family = family_of(space)
    if config.get("name") != family.name:
        raise ValueError(f"the config describes a {config.get('name')!r}, not a {family.name!r}")
    blocks = config.get("blocks")
    if not isinstance(blocks, (list, tuple)) or not blocks:
        raise ValueError("the config has no list of 'blocks'")
    read = [_read_block(block, f"blocks[{index}]") for index, block in enumerate(blocks)]
    values: dict[str, Any] = {}
    stage = depth = 0
    for index, block in enumerate(read[1:], start=1):
        # A stage's first block has no shortcut; where all stages are narrow it may have one, but then the kind of block changes.
        same = ("out_channels", "act_func", "use_se")
        if index == 1 or not block["shortcut"] or any(block[key] != read[index - 1][key] for key in same):
            stage, depth = stage + 1, 0
        depth += 1
        values[f"stage{stage}.depth"] = depth
        values[f"stage{stage}.block{depth}.kernel"] = block["kernel_size"]
        values[f"stage{stage}.block{depth}.expand"] = block["expand_ratio"]
    longest = num_blocks(space)
    if stage != len(longest):
        raise ValueError(f"blocks: behind the first they make {stage} stages, in this space {len(longest)}")
    options = {choice.name: choice.options for choice in space.choices}
    for index, count in enumerate(longest, start=1):
        depth = values[f"stage{index}.depth"]
        if depth not in options.get(f"stage{index}.depth", (count,)):
            allowed = list(options.get(f"stage{index}.depth", (count,)))
            raise ValueError(f"blocks: stage {index} has {depth}; what this space has is {allowed}")
    try:
        arch = make_arch(space, {name: value for name, value in values.items() if name in options}, resolution)
    except ValueError as error:
        raise ValueError(f"blocks: {error}") from None
    _compare(to_config(space, arch), config, read)
    return arch


# Writing -------------------------------------------------------------------------------------------------------------


def _activation(module: nn.Module | None) -> str | None:
    return None if module is None else _ACTIVATIONS.get(type(module).__name__)


def _conv(module: Any, last_activation: nn.Module | None) -> dict[str, Any]:
    """A convolution with BatchNorm and activation, or a bare one, which the network's own ``act`` follows."""
    is_bare = isinstance(module, nn.Conv2d)
    conv = module if is_bare else module.conv
    return {
        "name": "ConvLayer",
        "kernel_size": conv.kernel_size[0],
        "stride": conv.stride[0],
        "dilation": 1,
        "groups": 1,
        "bias": conv.bias is not None,
        "has_shuffle": False,
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "use_bn": not is_bare,
        "act_func": _activation(last_activation if is_bare else module.bn.act),
        **_LAYER,
    }


def _block(module: Any, expand: Any) -> dict[str, Any]:
    is_first = not hasattr(module, "conv_pwl")
    last = module.conv_pw if is_first else module.conv_pwl
    first = module.conv_dw if is_first else module.conv_pw
    conv = {
        "name": "MBInvertedConvLayer",
        "in_channels": first.in_channels,
        "out_channels": last.out_channels,
        "kernel_size": module.conv_dw.kernel_size[0],
        "stride": module.conv_dw.stride[0],
        "expand_ratio": expand,
        "mid_channels": None if is_first else module.conv_dw.in_channels,
        "act_func": _activation(module.bn1.act),
        "use_se": not isinstance(module.se, nn.Identity),
    }
    channels = last.out_channels
    shortcut = {"name": "IdentityLayer", "in_channels": [channels], "out_channels": [channels], "use_bn": False}
    return {
        "name": "MobileInvertedResidualBlock",
        "mobile_inverted_conv": conv,
        "shortcut": {**shortcut, "act_func": None, **_LAYER} if module.has_skip else None,
    }


# Reading -------------------------------------------------------------------------------------------------------------


def _read_block(block: Any, where: str) -> dict[str, Any]:
    """One block's convolution, with its number of middle channels and whether it has a ``shortcut``."""
    if not isinstance(block, Mapping) or block.get("name") not in _BLOCK:
        raise ValueError(f"{where} is no {' or '.join(_BLOCK)}")
    conv = block.get("conv", block.get("mobile_inverted_conv"))
    if not isinstance(conv, Mapping) or conv.get("name") not in _CONV:
        raise ValueError(f"{where}: its convolution is no {' or '.join(_CONV)}")
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "expand_ratio"):
        if isinstance(conv.get(name), bool) or not isinstance(conv.get(name), (int, float)):
            raise ValueError(f"{where}: {name} is a number, not {conv.get(name)!r}")
    shortcut = block.get("shortcut")
    kind = shortcut.get("name") if isinstance(shortcut, Mapping) else shortcut
    if kind not in (None, "IdentityLayer", "ZeroLayer"):
        raise ValueError(f"{where}: its shortcut is an IdentityLayer or null, not {kind!r}")
    middle = conv.get("mid_channels")
    return {
        "act_func": None,
        "use_se": False,
        **conv,
        "mid_channels": round(conv["in_channels"] * conv["expand_ratio"]) if middle is None else middle,
        "shortcut": kind == "IdentityLayer",
    }


def _compare(expected: dict[str, Any], config: Mapping[str, Any], read: list[dict[str, Any]]) -> None:
    """Raises ValueError, naming the layer, where ``config`` describes another network than the ``expected`` one."""
    for index, (block, given) in enumerate(zip(expected["blocks"], read, strict=True)):
        wanted = _read_block(block, "")
        for name in (
            "in_channels",
            "out_channels",
            "stride",
            "kernel_size",
            "mid_channels",
            "act_func",
            "use_se",
            "shortcut",
        ):
            if given[name] != wanted[name]:
                raise ValueError(f"blocks[{index}]: {name} is {given[name]!r}, in this space {wanted[name]!r}")
        if given.get("groups") is not None:
            raise ValueError(f"blocks[{index}]: groups is {given['groups']!r}, in this space None")
    for layer, wanted in expected.items():
        given = config.get(layer, {})
        if not isinstance(wanted, Mapping):
            continue
        if not isinstance(given, Mapping) or (not given and layer != "bn"):
            raise ValueError(f"{layer} is missing")
        for name, value in wanted.items():
            # These do not change what the trained network computes.
            if name in ("momentum", "dropout_rate", "ops_order") or (name not in given and name not in _NEEDED):
                continue
            if given.get(name) != value:
                raise ValueError(f"{layer}: {name} is {given.get(name)!r}, in this space {value!r}")
        if given.get("use_se"):
            raise ValueError(f"{layer}: use_se is {given['use_se']!r}, in this space False")
