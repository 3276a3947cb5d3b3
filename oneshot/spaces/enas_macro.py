"""ENAS's macro space (Pham et al., ICML 2018; https://github.com/melodyguan/enas, ``src/cifar10/general_child.py``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count, check_least, check_probability
from oneshot.spaces import enas_layers
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.cell_layers import FactorizedReduce
from oneshot.spaces.enas_layers import MacroLayer, MacroNetwork, read_sequence, write_sequence
from oneshot.spaces.graph import CellGraph

_PUBLISHED = ("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
_OPERATIONS = ("avg_pool_3x3", "max_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "conv_3x3", "conv_5x5")


class ENASMacro(SearchSpace):
    """A chain of layers of one of six operations, to each of which earlier outputs may be added. After a third and after two
    thirds of the layers all outputs so far are halved in size. 12 layers have 6^12 * 2^66 networks.

    Choices: ``layer1.op`` and so on: ``"avg_pool_3x3"``, ``"max_pool_3x3"``, ``"sep_conv_3x3"``, ``"sep_conv_5x5"``,
    ``"conv_3x3"`` or ``"conv_5x5"``, each after a 1x1 convolution; ``layer5.skip2``: whether the output of layer 2, or with 0
    that of the stem, is added to that of layer 5, for all but the layer before.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        num_layers: published 12 for the search, 24 for the network found.
        channels: of all layers.
        dropout: before the classifier; published 0.1 for the search.

    Raises:
        ValueError: fewer than three layers.
    """

    # Where the paper and the published code differ, this is the code's shared network (general_child.py, _enas_layer): skips are
    # added and normalised, not concatenated; a layer may skip from the stem and not from the layer before, which it reads anyway;
    # and reductions keep the channels. The code's network for a fixed architecture concatenates, and doubles the channels.

    def __init__(
        self,
        num_classes: int = 10,
        resolution: int = 32,
        num_layers: int = 12,
        channels: int = 36,
        dropout: float = 0.1,
    ) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, channels=channels)
        check_probability(dropout=dropout)
        check_least(3, num_layers=num_layers)
        self.num_classes = num_classes
        self.resolution = resolution
        self.num_layers = num_layers
        self.channels = channels
        self.dropout = dropout
        self.choices = tuple(
            choice
            for layer in range(1, num_layers + 1)
            for choice in (
                Choice(f"layer{layer}.op", _OPERATIONS),
                *(Choice(f"layer{layer}.skip{value}", (False, True)) for value in range(layer - 1)),
            )
        )

    def from_published(self, sequence: str) -> Arch:
        """The architecture of a published ``fixed_arc`` such as ``"0 3 0 ..."``: for each layer its operation, and 0 or 1 for the
        stem and every layer before the last.

        Raises:
            ValueError: another number of numbers, or one that is no operation or no skip.
        """
        return self.arch(read_sequence(sequence, self.choices, _PUBLISHED))

    def to_published(self, arch: Arch) -> str:
        """The inverse of ``from_published``."""
        return write_sequence(arch, self.choices, _PUBLISHED)

    def covering(self) -> list[Arch]:
        """All skips with each operation in turn."""
        return [
            self.decide(lambda choice, o=operation: o if o in choice.options else choice.options[-1])  # type: ignore[misc]
            for operation in _OPERATIONS
        ]

    def graphs(self, arch: Arch) -> Mapping[str, CellGraph]:
        nodes = ("stem", *(f"layer{layer}" for layer in range(1, self.num_layers + 1)), "output")
        edges: list[tuple[str, str, str]] = []
        for layer in range(1, self.num_layers + 1):
            edges.append((nodes[layer - 1], nodes[layer], str(arch[f"layer{layer}.op"])))
            edges += [(nodes[value], nodes[layer], "") for value in self._skips(arch, layer)]
        return {"network": CellGraph(nodes, (*edges, (nodes[-2], nodes[-1], "")))}

    def build(self, arch: Arch, make: Make) -> nn.Module:
        channels = self.channels
        skips = {
            (value, layer): make.choose(
                f"layer{layer}.skip{value}", lambda is_added: nn.Identity() if is_added else None
            )
            for layer in range(1, self.num_layers + 1)
            for value in range(layer - 1)
        }
        taken = {(value, layer): skip for (value, layer), skip in skips.items() if skip is not None}

        def operation(layer: int, option: str) -> nn.Module:
            return make(f"layer{layer}.{option}", _branch, channels, option)

        layers: list[nn.Module] = []
        for layer in range(1, self.num_layers + 1):
            branch = make.choose(f"layer{layer}.op", functools.partial(operation, layer))
            norm = make(f"layer{layer}.norm", nn.BatchNorm2d, channels) if layer > 1 else nn.Identity()
            reductions: dict[int, nn.Module] = {}
            readers: dict[int, list[nn.Module]] = {}
            if layer in (self.num_layers // 3, 2 * (self.num_layers // 3)):
                for value in range(layer + 1):
                    later = [skip for (source, target), skip in taken.items() if source == value and target > layer]
                    if value == layer or later:
                        name = f"layer{layer}.reduction.from{value}"
                        reductions[value] = make(name, FactorizedReduce, channels, channels, relu=False)
                        readers |= {value: later} if arch.is_open and value < layer else {}
            added = {value: skip for (value, target), skip in taken.items() if target == layer}
            layers.append(MacroLayer(branch, added, norm, reductions, readers))
        stem = make("stem", enas_layers.stem, self.in_channels, channels)
        classifier = make("classifier", nn.Linear, channels, self.num_classes, bias=False)
        return MacroNetwork(stem, layers, self.dropout, classifier)

    def initialize(self, name: str, block: nn.Module) -> None:
        """As published, He et al.'s normal weights."""
        enas_layers.initialize(block)

    @staticmethod
    def _skips(arch: Arch, layer: int) -> list[int]:
        return [value for value in range(layer - 1) if arch[f"layer{layer}.skip{value}"]]


def _branch(channels: int, operation: str) -> nn.Sequential:
    from timm.layers import ConvNormAct

    kernel = int(operation[-1])
    if operation.startswith("conv"):
        layers: list[nn.Module] = [ConvNormAct(channels, channels, kernel)]
    elif operation.startswith("sep_conv"):
        depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        layers = [depthwise, ConvNormAct(channels, channels, 1)]
    elif operation == "avg_pool_3x3":
        layers = [nn.AvgPool2d(3, 1, 1, count_include_pad=False)]
    else:
        layers = [nn.MaxPool2d(3, 1, 1)]
    return nn.Sequential(ConvNormAct(channels, channels, 1), *layers)
