"""What ENAS's two spaces have in common, and their networks (Pham et al., ICML 2018; https://github.com/melodyguan/enas)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces.mixed import is_silent


def read_sequence(sequence: str, choices: Sequence[Choice], operations: Sequence[str]) -> dict[str, Option]:
    """The value of each choice in a published ``fixed_arc``, a number each; for operations an index into ``operations``. A number
    that stands for none is left for ``SearchSpace.arch`` to refuse.

    Raises:
        ValueError: another number of numbers.
    """
    numbers = sequence.split()
    if len(numbers) != len(choices) or not all(map(str.isdecimal, numbers)):
        raise ValueError(f"a sequence of this space is {len(choices)} numbers, not {sequence!r}")
    named: dict[int, Option] = dict(enumerate(operations))
    return {
        choice.name: named.get(number, number) if isinstance(choice.options[0], str) else number
        for choice, number in zip(choices, map(int, numbers), strict=True)
    }


def write_sequence(arch: Arch, choices: Sequence[Choice], operations: Sequence[str]) -> str:
    """The inverse of ``read_sequence``."""
    values = (arch[choice.name] for choice in choices)
    return " ".join(str(operations.index(value) if isinstance(value, str) else int(value)) for value in values)


def relu_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """ReLU and a 1x1 convolution."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False))


def stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution and BatchNorm."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels))


def initialize(block: nn.Module) -> None:
    """He et al.'s normal initial weights (ICCV 2015)."""
    for module in block.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)


class Reading(nn.Module):
    """A module that reads one of several values: ``module(values[source])``."""

    def __init__(self, source: int, module: nn.Module) -> None:
        super().__init__()
        self.source = source
        self.module = module

    def forward(self, values: list[Tensor]) -> Tensor:
        """Values ``(batch, channels, height, width)`` to what the module makes of one."""
        out: Tensor = self.module(values[self.source])
        return out


class MicroCell(nn.Module):
    """A cell of two inputs, values 0 and 1; each node, values 2 and on, adds up two branches on earlier values.

    Args:
        reduction: halves the second input, whose former value becomes the first; None in a normal cell.
        calibrations: bring the two inputs to the channels and the size of the cell.
        branches: what makes what of the values, two in a row for each node: ``Reading``, or mixtures of such.
        slices: for each value that no branch reads a ReLU and the 1x1 convolution of its part of their concatenation.
        norm: of the sum of the slices.
    """

    def __init__(
        self,
        reduction: nn.Module | None,
        calibrations: Sequence[nn.Module],
        branches: list[nn.Module],
        slices: Mapping[int, nn.Module],
        norm: nn.Module,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.calibrations = nn.ModuleList(calibrations)
        self.sources = [branch.source if isinstance(branch, Reading) else None for branch in branches]
        self.branches = nn.ModuleList([branch.module if isinstance(branch, Reading) else branch for branch in branches])
        self.loose = list(slices)
        self.slices = nn.ModuleList(list(slices.values()))
        self.norm = norm

    def forward(self, previous: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the last but one and of the last cell, ``(batch, channels, height, width)`` each, to those for the next
        cell.
        """
        if self.reduction is not None:
            previous, x = x, self.reduction(x)
        values = [self.calibrations[0](previous), self.calibrations[1](x)]
        for first in range(0, len(self.sources), 2):
            one, two = (self._branch(i, values) for i in (first, first + 1))
            values.append(one + two)
        loose = [
            (part, values[value]) for value, part in zip(self.loose, self.slices, strict=True) if not is_silent(part)
        ]
        out = loose[0][0](loose[0][1])
        for part, value in loose[1:]:
            out = out + part(value)
        return x, self.norm(out)

    def _branch(self, index: int, values: list[Tensor]) -> Tensor:
        source = self.sources[index]
        out: Tensor = self.branches[index](values if source is None else values[source])
        return out


class MicroNetwork(nn.Module):
    """A stem, cells and a classifier: ``(batch, in_channels, height, width)`` images to ``(batch, num_classes)`` logits."""

    def __init__(self, stem: nn.Module, cells: list[nn.Module], dropout: float, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        previous = x = self.stem(images)
        for cell in self.cells:
            previous, x = cell(previous, x)
        logits: Tensor = self.classifier(self.dropout(x.relu().mean((2, 3))))
        return logits


class MacroLayer(nn.Module):
    """A layer that reads the last value and adds earlier ones.

    Args:
        branch: what is made of the last value.
        skips: the earlier values that are added to it, with what passes them on; 0 is the stem's, ``n`` that of layer ``n``.
        norm: of the sum.
        reductions: what each value that is still read passes through after this layer.
        readers: mixtures without which a value is not read, by value; values that are not named are read in any case.
    """

    def __init__(
        self,
        branch: nn.Module,
        skips: Mapping[int, nn.Module],
        norm: nn.Module,
        reductions: Mapping[int, nn.Module],
        readers: Mapping[int, list[nn.Module]],
    ) -> None:
        super().__init__()
        self.branch = branch
        self.skips = nn.ModuleDict({f"from{value}": skip for value, skip in skips.items()})
        self.skipped = list(skips)
        self.readers = dict(readers)
        self.norm = norm
        self.reductions = nn.ModuleDict({f"from{value}": block for value, block in reductions.items()})

    def forward(self, values: list[Tensor]) -> list[Tensor]:
        """Values so far, ``(batch, channels, height, width)``, to those with this layer's; those that nothing reads any more stay
        as they are.
        """
        out = self.branch(values[-1])
        for value in self.skipped:
            skip = self.skips[f"from{value}"]
            if not is_silent(skip):
                out = out + skip(values[value])
        values = [*values, self.norm(out)]
        if not self.reductions:
            return values
        return [
            self.reductions[f"from{i}"](value) if f"from{i}" in self.reductions and self._is_read(i) else value
            for i, value in enumerate(values)
        ]

    def _is_read(self, value: int) -> bool:
        return value not in self.readers or not all(map(is_silent, self.readers[value]))


class MacroNetwork(nn.Module):
    """A stem, layers and a classifier: ``(batch, in_channels, height, width)`` images to ``(batch, num_classes)`` logits."""

    def __init__(self, stem: nn.Module, layers: list[nn.Module], dropout: float, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        values = [self.stem(images)]
        for layer in self.layers:
            values = layer(values)
        logits: Tensor = self.classifier(self.dropout(values[-1].mean((2, 3))))
        return logits
