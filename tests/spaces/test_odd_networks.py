"""Networks of one's own that do something out of the ordinary: kept as they are, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oneshot.costs import CostTable
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.supernet import Supernet


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 3, 2, 1), nn.Sequential(Residual(), Residual())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class TwoNames(Network):
    """A layer has two names in its block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks[0].other = self.blocks[0].second


class Tied(Network):
    """Two layers have one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks[1].first.weight = self.blocks[0].first.weight


class Product(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(outputs, inputs) / inputs)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.t()


class Unknown(Network):
    """All layers between stem and head are of a kind of its own, in which nothing can be narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Product(8, 16), nn.GELU(), Product(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).mean((2, 3))))


class Single(Residual):
    """Insists on float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x.to(torch.float32)).relu())


class InFloat32(Network):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Single(), Single())


class Spectral(nn.Module):
    """Cannot be examined by itself: its layers are complex, and what it is examined with is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Linear(8, 8, dtype=torch.complex64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        values = x.movedim(1, -1).to(torch.complex64)
        return x + self.second(self.first(values)).real.movedim(-1, 1)


class Complex(Network):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Spectral(), Spectral())


class Lazy(Network):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(5)


class Branching(Network):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x)


class Random(Network):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x))


def broken() -> Network:
    network = Network()
    nn.init.constant_(network.stem.weight, torch.nan)
    return network


def space_of(create: Callable[[], nn.Module], depth_ratio: float = 1.0) -> ElasticNetwork:
    return ElasticNetwork(create, 5, 16, (0.5, 1.0), depth_ratio, (0.5, 1.0), True, None)


def test_a_block_that_insists_on_float32_is_as_elastic_as_others() -> None:
    assert space_of(InFloat32).analysis == space_of(Network).analysis


def test_a_block_that_cannot_be_examined_can_go() -> None:
    names = [choice.name for choice in space_of(Complex, depth_ratio=0.5).choices]
    assert names == ["resolution", "blocks.depth"]


@pytest.mark.parametrize("kind", [TwoNames, Unknown, InFloat32, Complex])
def test_odd_networks_are_kept_exactly(kind: type[nn.Module]) -> None:
    space = space_of(kind)
    supernet = Supernet(space).eval()
    number = sum(parameter.numel() for parameter in kind().parameters())
    assert sum(parameter.numel() for parameter in supernet.parameters()) == number
    assert CostTable(space).original().params == number
    assert "bank.stem.weight" in supernet.state_dict()
    for arch in (space.largest, space.smallest):
        x = torch.randn(2, *space.input_shape(arch))
        assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (Tied, r"^blocks\.0\.first\.weight and blocks\.1\.first\.weight of Tied are one parameter"),
        (Branching, "^the forward of Branching depends on the values that it sees"),
        (Random, "^Random gives other logits for the same image each time"),
        (
            Lazy,
            "^head of Lazy is a LazyLinear that has no size yet: the function that makes the network has to give it one",
        ),
        (broken, "^Network gives numbers that are not finite"),
    ],
)
def test_networks_that_are_refused(create: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_of(create)
