"""The layers of an architecture's network as tables of latency name them: every block, every operation outside of blocks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from oneshot.arch import Arch
from oneshot.costs.walking import Call, Walk, first_shape, shapes_of, tensors_in
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.ofa import OFAMobileNetV3
from oneshot.spaces.ofa_proxyless import OFAProxyless


@dataclass(frozen=True)
class Layer:
    """One layer of a network: a block, or an operation outside of all blocks.

    Args:
        block: the block's name; empty outside of blocks.
        kind: the name of the block's constructor, or of the operation (``"mean"``).
        input_shapes, output_shape: without the batch, ``(channels, height, width)`` or ``(features,)``.
        arguments: of the constructor or operation, as text.
        module: the block on the meta device; None outside of blocks.
    """

    block: str
    kind: str
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    arguments: Mapping[str, str]
    module: nn.Module | None = None

    def describe(self, kind: str | None = None, arguments: Mapping[str, object] | None = None) -> str:
        """``"Kind-input:HxWxC-output:HxWxC-argument:value-..."``, with another kind or other arguments where they are given."""
        shown = self.arguments if arguments is None else arguments
        inputs = "+".join(map(_extent, self.input_shapes))
        parts = [kind or self.kind, f"input:{inputs}", f"output:{_extent(self.output_shape)}"]
        return "-".join([*parts, *(f"{name}:{value}" for name, value in shown.items())])


@functools.singledispatch
def layer_name(space: SearchSpace, layer: Layer, arch: Arch) -> str:
    """What tables of latency call a layer of the network of ``arch``: layers of one name take the same time. Empty for what the
    tables leave out. A space with tables of its own registers its names: ``@layer_name.register``.
    """
    return layer.describe()


@layer_name.register
def _(space: OFAMobileNetV3, layer: Layer, arch: Arch) -> str:
    """As in the published tables (``MBv3LatencyTable``): their ``expand`` is the number of channels between the convolutions.
    Pooling has a line, the activation behind ``mix`` has none.
    """
    ends = {"stem": "Conv", "expand": "Conv_1", "mix": "Conv_2", "classifier": "Logits"}
    if layer.block in ends:
        # The published names write the classifier's input as an image of one pixel.
        shapes = tuple(shape if len(shape) == 3 else (*shape, 1, 1) for shape in layer.input_shapes)
        return replace(layer, input_shapes=shapes).describe(ends[layer.block], {})
    if layer.block:
        return layer.describe("expanded_conv", _inverted_residual(layer))
    return layer.describe("AvgPool2D", {}) if layer.kind == "mean" else ""


@layer_name.register
def _(space: OFAProxyless, layer: Layer, arch: Arch) -> str:
    """As in the published tables (``ProxylessNASLatencyTable``): their ``expand`` is the ratio, and the classifier's line, named
    by the size of the image before pooling, stands for all that follows ``mix``.
    """
    if layer.block in ("stem", "mix"):
        return layer.describe({"stem": "Conv", "mix": "Conv_1"}[layer.block], {})
    if layer.block == "classifier":
        size = space.final_size(arch)
        shape = (*layer.input_shapes[0], size, size)
        return replace(layer, input_shapes=(shape,)).describe("Logits", {})
    if not layer.block:
        return ""
    arguments = _inverted_residual(layer)
    ratio = 1 if layer.block == "first" else arch[f"{layer.block}.expand"]
    named = {name: arguments[name] for name in ("kernel", "stride", "idskip")}
    return layer.describe("expanded_conv", {"expand": ratio, **named})


def _inverted_residual(layer: Layer) -> dict[str, int]:
    """What the names of the published tables say of an inverted residual or depthwise separable block."""
    block: Any = layer.module
    return {
        "expand": block.conv_dw.in_channels,
        "kernel": block.conv_dw.kernel_size[0],
        "stride": block.conv_dw.stride[0],
        "idskip": int(block.has_skip),
        "se": int(not isinstance(block.se, nn.Identity)),
        "hs": int(isinstance(block.bn1.act, nn.Hardswish)),
    }


class LayerWalk:
    """Walks networks of ``space`` at ``batch`` images without computing, and names their layers."""

    def __init__(self, space: SearchSpace, batch: int = 1) -> None:
        self.space = space
        self._walk = Walk(space, batch)
        self._layers: dict[Any, Layer] = {}

    def __call__(self, arch: Arch) -> list[tuple[str, Call]]:
        """The layers of ``arch`` in the order of execution, by name, without those that tables leave out.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        self.space.validate(arch)
        named = ((self.name(call, arch), call) for call in self._walk(arch).calls)
        return [(name, call) for name, call in named if name]

    def name(self, call: Call, arch: Arch) -> str:
        """What tables call it in a network of ``arch``; empty for what they leave out."""
        # Views move no data.
        if call.block is None and (call.source.is_view or next(tensors_in((call.args, call.kwargs)), None) is None):
            return ""
        return layer_name(self.space, self._layer(call), arch)

    def _layer(self, call: Call) -> Layer:
        if call.block is None:
            return _layer(call)
        key = (call.block, shapes_of(call.args), shapes_of(call.kwargs))
        if key not in self._layers:
            self._layers[key] = _layer(call)
        return self._layers[key]


def _layer(call: Call) -> Layer:
    input_shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors_in((call.args, call.kwargs)))
    output_shape = first_shape(call.output)
    if call.block is not None:
        kind = getattr(call.block.constructor, "__name__", type(call.block.module).__name__)
        arguments, module = call.block.arguments(), call.block.module
        return Layer(call.block.name, kind, input_shapes, output_shape, arguments, module)
    names = (argument.name for argument in call.source._schema.arguments)
    plain = {
        name: str(value).replace(" ", "")
        for name, value in (dict(zip(names, call.args, strict=False)) | call.kwargs).items()
        if isinstance(value, (bool, int, float, str, list, tuple)) and next(tensors_in(value), None) is None
    }
    return Layer("", call.source.overloadpacket.__name__, input_shapes, output_shape, plain)


def _extent(shape: tuple[int, ...]) -> str:
    """``HxWxC`` of ``(channels, height, width)``; other shapes as they are."""
    return "x".join(map(str, (*shape[1:], shape[0]) if len(shape) == 3 else shape))
