"""Search spaces and image sets small enough to train in a second."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice
from oneshot.data import Augmentation, ImageData, Images, TensorImages
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.cell_layers import EdgeGraph


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels), relu=nn.ReLU()))


class ToySpace(SearchSpace):
    """Elastic width (shared slices), depth, and an operation with weights of its own per option; 12 networks for each
    resolution.
    """

    def __init__(self, num_classes: int = 4, resolutions: Sequence[int] = (8,), dropout: float = 0.0) -> None:
        self.num_classes = num_classes
        self.dropout = dropout
        self.choices = (
            Choice("resolution", tuple(resolutions)),
            Choice("width", (4, 8)),
            Choice("depth", (1, 2)),
            Choice("op", ("conv1", "conv3")),
            Choice("kernel", (1, 3), when={"depth": (2,)}),
        )

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width, op = arch.integer("width"), str(arch["op"])
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNorm, 3, width, 3, stride=2)
        if arch["depth"] == 2:
            parts["block"] = make("block", ConvNorm, width, width, arch.integer("kernel"))
        parts["op"] = make(f"op.{op}", ConvNorm, width, width, int(op[-1]))
        parts["pool"] = nn.AdaptiveAvgPool2d(2)
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, 4 * width, self.num_classes)
        return nn.Sequential(parts)


class ToyCell(SearchSpace):
    """Two cells of three edges, whose operations can be mixed."""

    resolution = 8

    def __init__(self, num_classes: int = 4) -> None:
        self.num_classes = num_classes
        self.choices = tuple(
            Choice(f"node{target}.from{source}", ("none", "skip_connect", "conv")) for source, target in _EDGES
        )

    def build(self, arch: Arch, make: Make) -> nn.Module:
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=make("stem", ConvNorm, 3, 4, 3, stride=2))
        for cell in (1, 2):
            edges: dict[tuple[int, int], nn.Module | None] = {}
            for source, target in _EDGES:
                edge = f"node{target}.from{source}"

                def option(value: str, name: str = f"cell{cell}.{edge}") -> nn.Module | None:
                    if value == "conv":
                        return make(name, ConvNorm, 4, 4, 3)
                    return None if value == "none" else nn.Identity()

                edges[source, target] = make.choose(edge, option)
            parts[f"cell{cell}"] = EdgeGraph(edges, num_inputs=1, num_nodes=2, num_outputs=1)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["classifier"] = make("classifier", nn.Linear, 4, self.num_classes)
        return nn.Sequential(parts)


_EDGES = ((0, 1), (0, 2), (1, 2))


class OtherSpace(ToySpace):
    """The same tensors, but no layer of the name that a checkpoint of ``ToySpace`` has."""

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return super().build(arch, lambda name, block, *args, **kwargs: make(f"other_{name}", block, *args, **kwargs))


class Unreadable(Images):
    """Images that may be counted but not looked at."""

    def __init__(self, number: int, image_size: int) -> None:
        self.labels = torch.zeros(number, dtype=torch.int64)
        self.image_size = image_size
        self.keys = tuple(f"unreadable {index}" for index in range(number))

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("these images must not be read")

    def training_batches(
        self, index_batches: Sequence[Tensor], augmentation: Augmentation, generators: Iterable[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("these images must not be read")

    def subset(self, indices: Tensor) -> Images:
        raise AssertionError("these images must not be read")


def make_images(number: int, seed: int, num_classes: int = 4, size: int = 8, noise: float = 60.0) -> TensorImages:
    """Noise around one fixed picture for each class, the labels in random order."""
    pictures = torch.rand(num_classes, 3, size, size, generator=torch.Generator().manual_seed(99)) * 255
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number).remainder(num_classes)[torch.randperm(number, generator=generator)]
    images = pictures[labels] + noise * torch.randn(number, 3, size, size, generator=generator)
    return TensorImages(images.clamp(0, 255).to(torch.uint8), labels)


def make_data(
    num_train: int = 96,
    num_held_out: int = 64,
    num_test: int = 48,
    *,
    size: int = 8,
    noise: float = 60.0,
    augmentation: Augmentation | None = None,
) -> ImageData:
    """Four classes that a tiny network tells apart after a few epochs."""
    return ImageData(
        name="toys",
        train=make_images(num_train, 1, size=size, noise=noise),
        held_out=make_images(num_held_out, 2, size=size, noise=noise),
        test=make_images(num_test, 3, size=size, noise=noise),
        classes=("a", "b", "c", "d"),
        image_size=size,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        augmentation=Augmentation(crop_padding=1) if augmentation is None else augmentation,
    )
