"""The search spaces that the contract tests run over: the published ones, small, and two as a user might write them."""

from __future__ import annotations

import functools
import itertools
import os
import random
from collections.abc import Callable, Mapping, Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces import (
    DARTS,
    AttentiveNAS,
    ENASMacro,
    ENASMicro,
    Make,
    NASBench201,
    NASBenchMacro,
    OFAMobileNetV3,
    OFAProxyless,
    OFAResNet50,
    SearchSpace,
    SPOSShuffleNetV2,
    TimmSpace,
)

EDGES = ("01", "02", "12", "03", "13", "23")
OPERATIONS = ("none", "skip", "pool", "conv1", "conv3")


class Cell(nn.Module):
    """Four nodes; each is the sum of what its incoming edges make of earlier ones, and the last is the output."""

    def __init__(self, edges: dict[str, nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            inputs = [self.edges[f"{s}{target}"](nodes[s]) for s in range(target) if f"{s}{target}" in self.edges]
            nodes.append(torch.stack(inputs).sum(0) if inputs else torch.zeros_like(x))
        return nodes[-1]


class CellSpace(SearchSpace):
    """Like NAS-Bench-201: one operation on each edge of a cell. Cells that compute the same are one architecture."""

    def __init__(self, num_classes: int = 5, channels: int = 6, resolution: int = 12) -> None:
        self.num_classes = num_classes
        self.channels = channels
        self.resolution = resolution
        self.choices = tuple(Choice(f"edge{edge}", OPERATIONS) for edge in EDGES)

    def canonical(self, values: dict[str, Option]) -> dict[str, Option]:
        chosen = tuple(str(value) for value in values.values())
        options = tuple(choice.options for choice in self.choices)
        return dict(zip(values, _representatives(options)[_expression(chosen)], strict=True))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        def cell(name: str) -> Cell:
            edges: dict[str, nn.Module] = {}
            for edge in EDGES:
                operation = str(arch[f"edge{edge}"])
                if operation == "skip":
                    edges[edge] = nn.Identity()
                elif operation == "pool":
                    edges[edge] = nn.MaxPool2d(3, 1, 1)
                elif operation != "none":
                    kernel = int(operation[-1])
                    edges[edge] = make(
                        f"{name}.edge{edge}.{operation}", _conv_norm, self.channels, self.channels, kernel
                    )
            return Cell(edges)

        return nn.Sequential(
            make("stem", _conv_norm, 3, self.channels, 3),
            cell("cell1"),
            nn.AvgPool2d(2),
            cell("cell2"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            make("classifier", nn.Linear, self.channels, self.num_classes),
        )


def _conv_norm(in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def _expression(operations: tuple[str, ...]) -> str:
    """What a cell computes. A convolution of nothing is not nothing: its BatchNorm has a bias."""
    nodes: list[list[str]] = [["x"], [], [], []]
    for edge, operation in zip(EDGES, operations, strict=True):
        terms = nodes[int(edge[0])]
        if operation == "skip":
            nodes[int(edge[1])] += terms
        elif operation.startswith("conv") or (operation == "pool" and terms):
            nodes[int(edge[1])].append(f"{operation}({'+'.join(sorted(terms))})")
    return "+".join(sorted(nodes[-1]))


@functools.cache
def _representatives(options: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
    """The first cell of every expression."""
    found: dict[str, tuple[str, ...]] = {}
    for operations in itertools.product(*options):
        found.setdefault(_expression(operations), operations)
    return found


class Position(nn.Module):
    """A learned vector for each token."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, num_tokens, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.position


class Transformer(nn.Module):
    """Patches to tokens, blocks, the mean token to logits."""

    def __init__(self, patches: nn.Module, position: nn.Module, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.patches, self.position, self.blocks, self.head = patches, position, nn.Sequential(*blocks), head

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.position(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.blocks(tokens).mean(1))


class ViTSpace(SearchSpace):
    """A vision transformer whose width, depth, heads and hidden layers are decided."""

    def __init__(self, num_classes: int = 5, resolution: int = 16, dropout: float = 0.1) -> None:
        self.num_classes = num_classes
        self.resolution = resolution
        self.dropout = dropout
        self.choices = (
            Choice("width", (16, 24)),
            Choice("depth", (1, 2, 3)),
            *(
                choice
                for block in (1, 2, 3)
                for when in [{"depth": tuple(range(block, 4))}]
                for choice in (
                    Choice(f"block{block}.heads", (2, 4), when),
                    Choice(f"block{block}.ratio", (1.0, 2.0), when),
                )
            ),
        )

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = arch.integer("width")
        blocks = []
        for block in range(1, arch.integer("depth") + 1):
            heads, ratio = arch.integer(f"block{block}.heads"), arch[f"block{block}.ratio"]
            blocks.append(make(f"block{block}", Block, width, heads, ratio, qkv_bias=True, proj_drop=self.dropout))
        return Transformer(
            make("patches", nn.Conv2d, 3, width, 4, stride=4),
            make("position", Position, (self.resolution // 4) ** 2, width),
            blocks,
            make("head", lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.num_classes))),
        )


class SmallAttentiveNAS(AttentiveNAS):
    """AttentiveNAS's stages, narrow and shallow."""

    stem_widths = (8, 16)
    stages = tuple(stage._replace(widths=(8, 16), depths=(1, 2)) for stage in AttentiveNAS.stages)
    last_widths = (32, 48)

    def __init__(self, num_classes: int = 5, resolutions: Sequence[int] = (32, 48)) -> None:
        super().__init__(num_classes, resolutions)


SPACES: dict[str, Callable[[], SearchSpace]] = {
    "ofa": lambda: OFAMobileNetV3(num_classes=5, resolutions=(32, 48), depths=(1, 2), width_multiplier=0.5),
    "ofa_proxyless": lambda: OFAProxyless(num_classes=5, resolutions=(32, 48), depths=(1, 2), width_multiplier=0.5),
    "ofa_resnet50": lambda: OFAResNet50(
        num_classes=5,
        resolutions=(32, 48),
        depths=(0, 1),
        expand_ratios=(0.125, 0.25),
        width_multipliers=(0.25, 0.5),
    ),
    "attentive_nas": SmallAttentiveNAS,
    "spos": lambda: SPOSShuffleNetV2(num_classes=5, resolution=64),
    "nasbench_macro": lambda: NASBenchMacro(num_classes=5, resolution=16, channels=8, head_channels=32),
    "nasbench201": lambda: NASBench201(num_classes=5, resolution=12, channels=4, num_cells=1),
    "darts": lambda: DARTS(num_classes=5, resolution=8, channels=2, num_cells=4),
    "enas_micro": lambda: ENASMicro(num_classes=5, resolution=8, num_layers=2, channels=4, num_nodes=3),
    "enas_macro": lambda: ENASMacro(num_classes=5, resolution=9, num_layers=6, channels=8),
    "timm_efficientnet": lambda: TimmSpace(
        "test_efficientnet", 5, 48, width_ratios=(0.5, 1.0), input_ratios=(0.7, 1.0)
    ),
    "timm_vit": lambda: TimmSpace(
        "test_vit",
        5,
        48,
        width_ratios=(0.5, 1.0),
        input_ratios=(0.7, 1.0),
        removal=["blocks.1", "blocks.4", "blocks.0"],
    ),
    "cell": CellSpace,
    "vit": ViTSpace,
}

# Families of timm's models that are worth a look after a change to the elastic spaces, but not after every other:
# ONESHOT_FAMILIES=1 pytest tests/test_space_contract.py -k timm
_FAMILIES = {
    "test_byobnet": 64,
    "test_coatnet": 64,
    "test_convnext": 64,
    "test_nfnet": 64,
    "test_resnet": 64,
    "test_vit2": 32,
    "edgenext_xx_small": 64,
    "ese_vovnet19b_slim_dw": 64,
    "mixer_s32_224": 224,
    "levit_128s": 224,
    "mobilenetv3_small_050": 64,
    "regnetx_002": 64,
    "swin_tiny_patch4_window7_224": 64,
}
if os.environ.get("ONESHOT_FAMILIES"):
    SPACES |= {f"timm_{name}": functools.partial(TimmSpace, name, 5, size) for name, size in _FAMILIES.items()}


def some_archs(space: SearchSpace, number: int, seed: int = 0) -> list[Arch]:
    """The smallest, the largest and ``number`` random architectures."""
    rng = random.Random(seed)
    return [space.smallest, space.largest, *(space.sample(rng) for _ in range(number))]


def images(space: SearchSpace, arch: Arch, batch: int = 3) -> Tensor:
    """Random images of the size that ``arch`` takes."""
    return torch.randn(batch, *space.input_shape(arch), generator=torch.Generator().manual_seed(0))


def nasbench201_terms(values: Mapping[str, Option]) -> tuple[object, ...]:
    """What a cell of NAS-Bench-201 adds up at its output, with equal weights for equal operations: pools are linear, and what has
    no input adds nothing, save a convolution of node 2.
    """
    nodes: list[tuple[object, ...]] = [("x",)]
    for target in (1, 2, 3):
        terms: list[object] = []
        for source in range(target):
            operation = values[f"node{target}.from{source}"]
            if operation == "skip_connect":
                terms += nodes[source]
            elif operation == "avg_pool_3x3":
                terms += [("pool", term) for term in nodes[source]]
            elif operation != "none" and (nodes[source] or source == 2):
                terms.append((operation, nodes[source]))
        nodes.append(tuple(sorted(terms, key=repr)))
    return nodes[-1]
