"""Blocks of spaces whose networks are stacks of searched cells: NAS-Bench-201's, DARTS's and ENAS's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from oneshot.spaces.mixed import Computed, Mixed, is_silent


class ReLUConvNorm(nn.Sequential):
    """ReLU, a convolution without bias and BatchNorm: ``(batch, in_channels, height, width)`` to ``(batch, out_channels, height /
    stride, width / stride)``, rounded up.

    Args:
        in_channels, out_channels: of the convolution.
        kernel_size: odd.
        stride: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class ReLUSeparableConvNorm(nn.Sequential):
    """ReLU, a depthwise and a 1x1 convolution without bias, and BatchNorm; shapes as of ``ReLUConvNorm``.

    Args:
        in_channels, out_channels: of the 1x1 convolution.
        kernel_size: of the depthwise convolution, odd.
        stride, dilation: of the depthwise convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class TwiceSeparableConv(nn.Sequential):
    """Two ``ReLUSeparableConvNorm``, the first with the stride: what DARTS and its ancestors call a separable convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            ReLUSeparableConvNorm(in_channels, in_channels, kernel_size, stride),
            ReLUSeparableConvNorm(in_channels, out_channels, kernel_size),
        )


class FactorizedReduce(nn.Module):
    """Halves the size without losing every other pixel: two 1x1 convolutions of stride 2, the second on the image shifted by one
    pixel, concatenated, then BatchNorm. Zeros come in at the far edges of images of odd size.

    Args:
        in_channels, out_channels: of the whole block; the first convolution makes half of the output's, rounded down.
        relu: whether a ReLU comes first, as in DARTS; ENAS has none.
    """

    def __init__(self, in_channels: int, out_channels: int, relu: bool = True) -> None:
        super().__init__()
        self.act = nn.ReLU() if relu else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, height / 2, width / 2)``, rounded up."""
        x = self.act(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: Tensor = self.bn(torch.cat((self.conv1(x), self.conv2(shifted)), 1))
        return out


class EdgeGraph(nn.Module):
    """A cell as a graph: each computed node is the sum of what the operations on its edges make of earlier nodes, and the output
    is the last nodes, concatenated.

    Args:
        operations: by ``(source, target)``; inputs are nodes 0 to ``num_inputs - 1``. Edges without an operation, or with None,
            are left out.
        num_inputs, num_nodes, num_outputs: nodes that are given, that are computed, and that are concatenated.
        stride: of the operations on inputs: it tells the size of a node without edges, which is zero.
    """

    def __init__(
        self,
        operations: Mapping[tuple[int, int], nn.Module | None],
        num_inputs: int,
        num_nodes: int,
        num_outputs: int,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.num_nodes = num_inputs + num_nodes
        self.num_outputs = num_outputs
        self.stride = stride
        edges = {edge: block for edge, block in operations.items() if block is not None}
        self.sources = [
            [source for source in range(target) if (source, target) in edges]
            for target in range(num_inputs, num_inputs + num_nodes)
        ]
        self.edges = nn.ModuleDict({f"{source}to{target}": block for (source, target), block in edges.items()})

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs ``(batch, channels, height, width)`` to ``(batch, num_outputs * channels, height / stride, width / stride)``,
        rounded up.
        """
        nodes = list(inputs)
        computed: Computed = {}
        for sources in self._read_sources():
            edges = [self.edges[f"{source}to{len(nodes)}"] for source in sources]
            terms = [
                edge(nodes[source], computed=computed) if isinstance(edge, Mixed) else edge(nodes[source])
                for source, edge in zip(sources, edges, strict=True)
            ]
            total = terms[0] if terms else torch.zeros_like(inputs[0][:, :, :: self.stride, :: self.stride])
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return nodes[-1] if self.num_outputs == 1 else torch.cat(nodes[-self.num_outputs :], 1)

    def _read_sources(self) -> list[list[int]]:
        """What each computed node reads: of mixtures only those that make something, into nodes that something reads."""
        first = self.num_nodes - len(self.sources)
        is_read = [node >= self.num_nodes - self.num_outputs for node in range(self.num_nodes)]
        found: list[list[int]] = []
        for target in range(self.num_nodes - 1, first - 1, -1):
            edges = self.sources[target - first] if is_read[target] else []
            found.append([source for source in edges if not is_silent(self.edges[f"{source}to{target}"])])
            for source in found[-1]:
                is_read[source] = True
        return found[::-1]


class TwoInputCell(nn.Module):
    """A graph of two inputs that are first brought to its channels and size, each by a block of its own."""

    def __init__(self, input0: nn.Module, input1: nn.Module, graph: nn.Module) -> None:
        super().__init__()
        self.input0 = input0
        self.input1 = input1
        self.graph = graph

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        """The outputs of the cell before the previous one and of the previous one to this one's."""
        out: Tensor = self.graph(self.input0(before), self.input1(previous))
        return out


class TwoInputStack(nn.Module):
    """A stem, cells that each read the two before them (the stem in place of those that there are not), and a classifier."""

    def __init__(self, stem: nn.Module, cells: Sequence[nn.Module], classifier: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(batch, in_channels, height, width)`` to logits ``(batch, num_classes)``."""
        before = previous = self.stem(x)
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
        logits: Tensor = self.classifier(self.pool(previous).flatten(1))
        return logits
