"""What a supernet refuses to share, and the networks that it keeps."""

import copy
from collections import OrderedDict

import pytest
import torch
from one_choice import OneChoice
from space_examples import images
from torch import Tensor, nn

from oneshot.arch import Arch, Choice
from oneshot.spaces import Make, SearchSpace
from oneshot.supernet import Supernet


def test_parameters_that_were_not_made_through_make_are_refused() -> None:
    def network(option: object, make: Make) -> nn.Module:
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), head=nn.Linear(48, 2)))

    with pytest.raises(ValueError, match=r"head.weight was not made through make\(name, block, ...\)"):
        Supernet(OneChoice(network))


def test_two_blocks_of_one_name_in_a_network_are_refused() -> None:
    def network(option: object, make: Make) -> nn.Module:
        return nn.Sequential(nn.Flatten(), make("layer", nn.Linear, 48, 8), make("layer", nn.Linear, 8, 2))

    with pytest.raises(ValueError, match="two different blocks of one network are called 'layer'"):
        Supernet(OneChoice(network))


def test_a_block_used_twice_is_one_block() -> None:
    def network(option: object, make: Make) -> nn.Module:
        layers = [make("layer", nn.Linear, 48, 48) for _ in range(int(option))]
        return nn.Sequential(nn.Flatten(), *layers)

    space = OneChoice(network, (1, 3))
    supernet = Supernet(space)
    extracted = supernet.extract(space.largest)
    assert extracted[1] is extracted[3]
    assert sum(parameter.numel() for parameter in extracted.parameters()) == 48 * 48 + 48


@pytest.mark.parametrize("layers", [{1: nn.Conv1d, 2: nn.Conv2d}])
def test_tensors_that_no_rule_can_share_are_refused(layers: dict[object, type[nn.Module]]) -> None:
    def network(option: object, make: Make) -> nn.Module:
        return make("layer", layers[option], 3, 3, 1)

    with pytest.raises(ValueError, match=r"layer.weight is \(3, 3, 1, 1\) in one network and \(3, 3, 1\) in another"):
        Supernet(OneChoice(network))


class Hidden(SearchSpace):
    """The head is wide only where two choices take special values together."""

    num_classes = 2
    resolution = 4

    def __init__(self) -> None:
        self.choices = (Choice("one", (1, 2, 3)), Choice("two", (1, 2, 3)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = 9 if arch["one"] == arch["two"] == 2 else 4
        return nn.Sequential(
            nn.Flatten(), make("body", nn.Linear, 48, width), make("head", nn.Linear, width, self.num_classes)
        )


class Covered(Hidden):
    """Says which of its networks are the largest."""

    def covering(self) -> list[Arch]:
        return [*super().covering(), self.arch({"one": 2, "two": 2})]


def test_a_tensor_that_the_bank_does_not_hold_is_refused_and_can_be_covered() -> None:
    space = Hidden()
    hidden = space.arch({"one": 2, "two": 2})
    supernet = Supernet(space)
    with pytest.raises(ValueError, match=r"no body.weight of shape \(9, 48\): .* override covering\(\)"):
        supernet(images(space, hidden), hidden)
    assert Supernet(Covered())(images(space, hidden), hidden).shape == (3, 2)


def test_only_so_many_networks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search sees more architectures than fit into memory; one that was forgotten is bound anew."""
    monkeypatch.setattr("oneshot.supernet._MAX_NETWORKS", 3)
    built: list[object] = []

    def network(option: object, make: Make) -> nn.Module:
        built.append(option)
        return nn.Sequential(nn.Flatten(1), make("linear", nn.Linear, 48, 2))

    supernet = Supernet(OneChoice(network, tuple(range(6))))
    archs = [supernet.space.arch({"option": option}) for option in range(6)]
    built.clear()
    first = [supernet(torch.ones(1, 3, 4, 4), arch) for arch in (*archs, *archs[3:])]
    assert built == list(range(6))
    assert torch.equal(first[0], supernet(torch.ones(1, 3, 4, 4), archs[0]))
    assert built == [*range(6), 0]
    supernet(torch.ones(1, 3, 4, 4), archs[4])  # used again, so that the one of 5 is the oldest
    supernet(torch.ones(1, 3, 4, 4), archs[1])
    supernet(torch.ones(1, 3, 4, 4), archs[4])
    assert built == [*range(6), 0, 1]


class Keeping(nn.Linear):
    """Keeps what it made of its weights from one call in eval mode to the next, as some attention layers do."""

    def __init__(self, width: int) -> None:
        super().__init__(4, width)
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "Keeping":
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x.mean((2, 3)) @ self.weight[:, :3].T
        if "weight" not in self.kept:
            self.kept["weight"] = self.weight[:, :3].T * 1
        return x.mean((2, 3)) @ self.kept["weight"]


def test_nothing_is_kept_of_weights_that_may_change() -> None:
    supernet = Supernet(OneChoice(lambda width, make: make("layer", Keeping, width), (2, 3))).eval()
    x, arch = torch.randn(2, 3, 4, 4), supernet.space.smallest
    before = supernet(x, arch)
    with torch.no_grad():
        supernet.bank.layer.weight.mul_(2)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(supernet(x, arch), 2 * before)
    extracted = supernet.extract(arch)
    assert torch.equal(extracted(x), supernet(x, arch))
    assert copy.deepcopy(supernet.extract(arch)).kept == {}
